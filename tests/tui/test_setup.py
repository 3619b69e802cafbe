"""Setup: what is typed becomes the plan, the command and the start."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Footer

from t5panel.contract.layout import RunDir, command_file
from t5panel.errors import PreflightError
from t5panel.plan.machine import GIB, Machine, parse_machine
from t5panel.plan.planning import Finding
from t5panel.presets import load_preset
from t5panel.session import Prospect
from t5panel.tui.app import PanelApp
from t5panel.tui.fields import ZERO_STAGE
from t5panel.tui.screens import setup
from t5panel.tui.screens.faults import FaultsDialog
from t5panel.tui.screens.help import HelpDialog
from t5panel.tui.screens.opening import OpeningScreen
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.save import SaveDialog
from t5panel.tui.screens.setup import SetupScreen
from t5panel.tui.screens.tight import TightDialog
from t5panel.tui.screens.whole_plan import WholePlanDialog
from t5panel.tui.widgets.command_pane import CommandPane
from t5panel.tui.widgets.cycle import Cycle
from t5panel.tui.widgets.form import FieldRow, FormPane, ValueInput
from t5panel.tui.widgets.methods import MethodList
from t5panel.tui.widgets.plan_pane import PlanPane
from t5panel.wish import Wish

from .panels import (
    NO_CARDS,
    NOW,
    ONE_SMALL_CARD,
    THREE_CARDS,
    THREE_NAMED_CARDS,
    WAIT_SECONDS,
    Starts,
    panel,
    planned,
    screen_text,
    shown,
    steady_prospect,
    until,
)
from .recorded import living

SIZE = (120, 30)


async def test_the_preset_of_the_command_line_is_chosen_with_its_formula_and_command() -> None:
    async with panel(preset="trainer").run_test(size=SIZE) as pilot:
        await planned(pilot)

        assert "16 × 8 × 3 = 384" in shown(pilot, PlanPane)
        assert "-m torch.distributed.run" in shown(pilot, CommandPane)


async def test_another_method_brings_its_own_settings_and_command() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        before = shown(pilot, FormPane)

        await pilot.press("down", "down")
        await planned(pilot)

        assert "zero_optimization.stage" in before
        assert "zero_optimization.stage" not in shown(pilot, FormPane)
        assert "2 × 16 × 3 = 96" in shown(pilot, PlanPane)
        assert "-m accelerate.commands.launch" in shown(pilot, CommandPane)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who takes a moment between the form and the start."""
    monkeypatch.setattr(setup, "SETTLE_SECONDS", 0.0)


@pytest.mark.usefixtures("settled")
async def test_a_typed_batch_changes_the_formula_at_once_and_the_run_that_starts(home: Path) -> None:
    starts = Starts(living(home / "elsewhere"))
    async with panel(starts=starts).run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("e", "4", "down", "2", "escape")
        formula_at_once = shown(pilot, PlanPane)
        await planned(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

        assert "4 × 2 × 3 = 24" in formula_at_once
        train = starts.asked[0].plan.spec.train
        assert (train.per_device_train_batch_size, train.gradient_accumulation_steps) == (4, 2)


async def test_the_number_of_ranks_is_in_the_exact_command() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("e", "down", "down", "2", "escape")
        await planned(pilot)

        assert "--num_gpus=2" in shown(pilot, CommandPane)


@pytest.mark.usefixtures("settled")
async def test_an_impossible_value_is_shown_where_it_is_and_starts_nothing() -> None:
    starts = Starts()
    async with panel(starts=starts).run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("e", "0", "down", "x", "escape", "enter")
        await until(pilot, lambda: len(pilot.app._notifications) == 2)

        form = " ".join(shown(pilot, FormPane).split())
        assert "✗ Input should be greater than or equal to 1, not 0" in form
        assert "✗ Input should be a valid integer, not 'x'" in form
        assert "Set this right first" in shown(pilot, PlanPane)
        assert pilot.app.screen.query_one(CommandPane).command is None
        assert starts.asked == []


async def test_a_contradiction_between_settings_is_a_fault_too() -> None:
    async with panel().run_test(size=(120, 40)) as pilot:
        await planned(pilot)
        form = pilot.app.screen.query_one(FormPane)

        await pilot.press("a")
        launcher = next(row for row in form.query(FieldRow) if row.field.key == "launcher")
        launcher.editor.focus()
        await pilot.press("right")
        await pilot.pause()

        assert "cannot start method 'deepspeed'; use deepspeed or torchrun" in " ".join(shown(pilot, PlanPane).split())


async def test_every_fault_stands_at_its_setting_whatever_kind_it_is() -> None:
    async with panel().run_test(size=(120, 100)) as pilot:
        await planned(pilot)

        await pilot.press("e", "x", "down", "0")
        rows = {row.field.key: row for row in pilot.app.screen.query(FieldRow)}
        rows["train.optim"].editor.focus()
        await pilot.press("right")
        await pilot.pause()
        typed = {key for key, row in rows.items() if row.fault}
        rows["train.per_device_train_batch_size"].editor.focus()
        await pilot.press("backspace", "down", "backspace")
        await pilot.pause()

        assert typed == {"train.per_device_train_batch_size", "train.gradient_accumulation_steps"}
        assert {key: row.fault for key, row in rows.items() if row.fault} == {
            ZERO_STAGE: "adafactor's factored state cannot be sharded by ZeRO 1-3; use adamw_torch_fused or stage 0"
        }


async def test_what_is_wrong_with_files_and_cards_stands_at_its_setting_too(tmp_path: Path) -> None:
    async with panel(ONE_SMALL_CARD, data__train=str(tmp_path / "gone.jsonl")).run_test(size=SIZE) as pilot:
        await planned(pilot)
        rows = {row.field.key: row.fault for row in pilot.app.screen.query(FieldRow) if row.fault}
        form = " ".join(shown(pilot, FormPane).split())

        await pilot.press("e", "down", "down", "1")
        await pilot.pause()
        edited = {row.field.key for row in pilot.app.screen.query(FieldRow) if row.fault}

        assert set(rows) == {"data.train", "num_gpus"}
        assert "✗ 3 cards were asked for, 1 found" in form
        assert "✗ no file or folder" in form
        assert edited == {"data.train"}


async def test_a_price_tells_the_money_that_the_run_takes_and_is_no_setting_of_it() -> None:
    async with panel(THREE_NAMED_CARDS).run_test(size=(120, 40)) as pilot:
        await planned(pilot)
        rows = {row.field.key: row for row in pilot.app.screen.query(FieldRow)}
        before = shown(pilot, PlanPane)

        rows["estimate.price"].editor.focus()
        await pilot.press(*"0.5", "down", *"5000000")
        await planned(pilot)
        after = shown(pilot, PlanPane)
        line = command_line_of(pilot)
        await pilot.press("backspace", "x")
        await pilot.pause()

        assert "10M ≈ 50 h · 48 kWh" in before
        assert "5M ≈ 25 h · 24 kWh · costs 12" in after
        assert "estimate" not in line
        assert rows["estimate.samples"].fault.startswith("must be a number above 0")


async def test_an_emptied_field_goes_back_to_what_the_preset_says() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("e", "4", "backspace", "escape")
        await planned(pilot)

        assert "8 × 16 × 3 = 384" in shown(pilot, PlanPane)
        assert "per_device_train_batch_size 8" in shown(pilot, FormPane)


async def test_edits_belong_to_their_preset() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("e", "4", "escape", "down")
        await planned(pilot)
        trainer = shown(pilot, PlanPane)
        await pilot.press("up")
        await planned(pilot)

        assert "16 × 8 × 3 = 384" in trainer
        assert "4 × 16 × 3 = 192" in shown(pilot, PlanPane)


async def test_a_rehearsal_is_said_loudly_and_a_real_run_is_not_called_one() -> None:
    async with panel(NO_CARDS).run_test(size=SIZE) as pilot:
        await planned(pilot)
        rehearsal = screen_text(pilot)
    async with panel(THREE_CARDS).run_test(size=SIZE) as pilot:
        await planned(pilot)
        real = screen_text(pilot)

    assert "REHEARSAL no NVIDIA card was found" in rehearsal
    assert "REHEARSAL" not in real
    assert "every segment, at the" in real


async def test_one_key_sets_what_would_be_faster_and_goes_when_nothing_is() -> None:
    async with panel(THREE_NAMED_CARDS, preset="trainer").run_test(size=SIZE) as pilot:
        await planned(pilot)
        before = screen_text(pilot)

        await pilot.press("f")
        await planned(pilot)
        after = screen_text(pilot)

        assert "f next faster that fits: batch 8 ×" in before
        assert "f improve" in before
        assert "gradient_checkpointing      true" in before
        assert "gradient_checkpointing      false" in after
        assert "8 × 16 × 3 = 384" in after
        assert "FITS" in after
        assert "f improve" not in after


async def test_one_key_sets_what_fits_instead_of_what_does_not() -> None:
    small = parse_machine("3xRTX 3080 8GiB,32GiB", cores=8)
    async with panel(small, preset="trainer").run_test(size=SIZE) as pilot:
        await planned(pilot)
        before = shown(pilot, PlanPane)

        await pilot.press("f")
        await planned(pilot)
        after = shown(pilot, PlanPane)

        assert "f this fits: batch 4 × 32" in before
        assert "needs 8.2 GiB at least" in before
        assert "4 × 32 × 3 = 384" in after
        assert "FITS" in after


async def test_without_a_suggestion_there_is_no_key_for_it() -> None:
    async with panel(THREE_CARDS).run_test(size=SIZE) as pilot:
        await planned(pilot)
        formula = shown(pilot, PlanPane).splitlines()[1]

        await pilot.press("f")
        await planned(pilot)

        assert "f improve" not in screen_text(pilot)
        assert shown(pilot, PlanPane).splitlines()[1] == formula


async def test_a_run_that_cannot_start_says_every_reason() -> None:
    async with panel(ONE_SMALL_CARD).run_test(size=SIZE) as pilot:
        await planned(pilot)

        plan = " ".join(shown(pilot, PlanPane).split())

        assert "3 cards were asked for, 1 found" in plan
        assert "the limit is 3.0 GiB" in plan
        assert "DOES NOT FIT" in plan


async def test_a_refused_start_opens_a_dialog_with_every_fault(home: Path) -> None:
    app = panel(preset="llamafactory")
    app._services = type(app._services)(app._services.machine, app._services.prospect)
    async with app.run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, FaultsDialog))
        text = screen_text(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))

        assert "t5panel setup llamafactory" in text
        assert not home.exists()


async def test_a_high_terminal_shows_all_settings_at_once() -> None:
    async with panel().run_test(size=(120, 60)) as pilot:
        await planned(pilot)

        assert "warmup_steps" in shown(pilot, FormPane)
        assert "8 × 16 × 3 = 384" in shown(pilot, PlanPane)


async def test_all_settings_come_and_go_with_one_key() -> None:
    async with panel().run_test(size=(120, 40)) as pilot:
        await planned(pilot)
        before = shown(pilot, FormPane)

        await pilot.press("a")
        everything = shown(pilot, FormPane)
        await pilot.press("a")

        assert "warmup_steps" in everything
        assert "warmup_steps" not in before
        assert "warmup_steps" not in shown(pilot, FormPane)


async def test_the_line_that_leads_here_is_copied() -> None:
    async with panel(train__seed=7).run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("e", "4", "escape", "y")

        assert pilot.app.clipboard == (
            "t5panel --preset deepspeed --no-ui --set train.seed=7 --set train.per_device_train_batch_size=4"
            " --run-dir /runs/next"
        )
        assert "y copies the t5panel line" in shown(pilot, CommandPane)
        assert "t5panel.trainers.deepspeed" in shown(pilot, CommandPane)


async def test_the_copied_lines_are_in_a_file_too_which_is_named() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("Y")
        launch = pilot.app.clipboard

        script = command_file().read_text(encoding="utf-8")
        assert launch.startswith("env T5PANEL_RUN_ID=next ")
        assert "deepspeed.launcher.runner" in launch
        assert launch in script
        assert "\nt5panel --preset deepspeed --no-ui --run-dir /runs/next\n" in script
        assert told(pilot.app) == [f"both lines are in {command_file()}"]


async def test_the_whole_plan_says_its_basis_and_the_exact_commands_and_copies_them() -> None:
    async with panel(THREE_NAMED_CARDS).run_test(size=(120, 80)) as pilot:
        await planned(pilot)

        await pilot.press("v")
        await until(pilot, lambda: isinstance(pilot.app.screen, WholePlanDialog))
        text = " ".join(screen_text(pilot).split())
        await pilot.press("y")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))

        assert "speed: stock T5 loops measured on one H100" in text
        assert "t5panel.trainers.prepare" in text
        assert "CUDA_VISIBLE_DEVICES=0,1,2" in text
        assert pilot.app.clipboard.startswith("t5panel --preset deepspeed")


async def test_every_keystroke_shows_the_memory_it_would_take_before_the_exact_plan_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with panel(THREE_NAMED_CARDS, preset="trainer").run_test(size=SIZE) as pilot:
        await planned(pilot)
        monkeypatch.setattr(setup, "PAUSE_SECONDS", 3600.0)

        await pilot.press("e", "3", "2")
        await pilot.pause()
        at_once = shown(pilot, PlanPane)
        monkeypatch.setattr(setup, "PAUSE_SECONDS", 0.02)
        await pilot.press("escape", "e", "3", "2")
        await planned(pilot)

        assert "≈ in closed form" in at_once
        assert "32 × 8 × 3 = 768" in at_once
        near, exact = (float(text.split("/20.0")[0].split()[-1]) for text in (at_once, shown(pilot, PlanPane)))
        assert near == pytest.approx(exact, rel=0.1)


async def test_enter_walks_through_the_form_and_never_starts_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "SETTLE_SECONDS", 60.0)  # a machine at work may take long between two keys
    starts = Starts()
    async with panel(starts=starts).run_test(size=SIZE) as pilot:
        await planned(pilot)
        editors = [row.editor for row in pilot.app.screen.query(FieldRow) if row.display]

        await pilot.press("e", "up", "enter")
        second = pilot.app.focused
        editors[-2].focus()
        await pilot.press("enter", "enter", "down")
        last = pilot.app.focused
        await pilot.press("escape", "enter", "enter")
        await pilot.pause(0.1)

        assert second is editors[1]
        assert last is editors[-1]
        assert isinstance(pilot.app.focused, MethodList)
        assert starts.asked == []


async def test_a_part_edited_after_its_whole_is_what_is_shown_and_run() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("a")
        rows = {row.field.key: row for row in pilot.app.screen.query(FieldRow)}
        stage, whole = rows[ZERO_STAGE].editor, rows["deepspeed"].editor
        assert isinstance(stage, Cycle)
        assert isinstance(whole, ValueInput)

        stage.focus()
        await pilot.press("left")
        whole.focus()
        whole.value = "{zero_optimization: {stage: 0}}"
        await pilot.pause()
        between = stage.value
        stage.focus()
        await pilot.press("left")
        await planned(pilot)

        plan = pilot.app.screen.query_one(PlanPane).state.plan
        assert plan is not None
        assert (between, stage.value, plan.spec.zero_stage) == ("0", "3", 3)
        assert whole.value == "{zero_optimization: {stage: 3}}"


async def test_the_machine_is_read_again_for_a_later_plan_and_for_a_start(home: Path) -> None:
    machines, now = [NO_CARDS], [NOW]
    starts = Starts(living(home / "elsewhere"))
    app = panel(starts=starts)
    app._services = replace(app._services, machine=lambda: machines[-1], clock=lambda: now[0])
    async with app.run_test(size=SIZE) as pilot:
        await planned(pilot)

        machines.append(THREE_CARDS)
        now[0] += 3
        await pilot.press("down")
        await planned(pilot)
        plan, header = pilot.app.screen.query_one(PlanPane).state.plan, screen_text(pilot).splitlines()[0]
        machines.append(replace(THREE_CARDS, cores=2))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

        assert plan is not None
        assert plan.machine == THREE_CARDS
        assert "3 × card 20 GiB" in header
        assert starts.asked[0].plan.machine == machines[-1]


async def test_a_tight_plan_asks_before_it_starts(home: Path) -> None:
    ram = steady_prospect(Wish("deepspeed"), NO_CARDS).plan.ram
    assert ram is not None
    starts = Starts(living(home / "elsewhere"))
    async with panel(replace(NO_CARDS, ram_limit=ram.total * 12 // 11), starts=starts).run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, TightDialog))
        question = screen_text(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))
        asked_only = list(starts.asked)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, TightDialog))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

        assert f"host RAM {ram.total / GIB:.1f} of" in question
        assert asked_only == []
        assert len(starts.asked) == 1


async def test_help_opened_during_a_start_gives_way_to_the_run(home: Path) -> None:
    go, starts = threading.Event(), Starts(living(home / "elsewhere"))

    def start(prospect: Prospect, queue: bool, tell: Callable[[str], None]) -> RunDir:
        tell("trying out whether the ranks reach each other")
        go.wait(WAIT_SECONDS)
        return starts(prospect, queue, tell)

    app = panel()
    app._services = replace(app._services, start=start)
    async with app.run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("enter", "question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpDialog))
        await until(pilot, lambda: "trying out whether the ranks reach each other" in told(app))
        go.set()
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        await pilot.press("1")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))

        assert [type(screen) for screen in pilot.app.screen_stack] == [OpeningScreen, SetupScreen]
        assert told(app) == []


def told(app: App[None]) -> list[str]:
    """What the panel's notices say now."""
    return [notice.message for notice in app._notifications]


BUSY = Finding("error", "gpu.busy", "cards 0, 1, 2 are used by run 20260101-120000-trainer", "w in the panel")


def panel_on_busy_cards(starts: Starts) -> PanelApp:
    """A panel whose cards another run of ours uses."""
    app = panel(THREE_CARDS, starts=starts)

    def busy_prospect(wish: Wish, machine: Machine) -> Prospect:
        found = steady_prospect(wish, machine)
        return replace(found, plan=replace(found.plan, findings=(BUSY,)))

    def start(prospect: Prospect, queue: bool, tell: Callable[[str], None]) -> RunDir:
        if not queue:
            raise PreflightError.of(BUSY.code, BUSY.message, BUSY.hint)
        return starts(prospect, queue, tell)

    app._services = replace(app._services, prospect=busy_prospect, start=start)
    return app


async def test_a_run_whose_cards_are_in_use_can_wait_for_them(home: Path) -> None:
    starts = Starts(living(home / "elsewhere"))
    async with panel_on_busy_cards(starts).run_test(size=SIZE) as pilot:
        await planned(pilot)
        footer = shown(pilot, Footer)

        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

        assert "w queue" in footer
        assert starts.queued == [True]


async def test_a_refused_start_offers_the_queue(home: Path) -> None:
    starts = Starts(living(home / "elsewhere"))
    async with panel_on_busy_cards(starts).run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, FaultsDialog))
        question = screen_text(pilot)
        await pilot.press("w")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

        assert "are used by run 20260101-120000-trainer" in question
        assert " w  queue it until they are free" in question
        assert starts.queued == [True]


@pytest.mark.usefixtures("settled")
async def test_where_no_card_is_in_use_there_is_no_queue_to_wait_in() -> None:
    starts = Starts()
    async with panel(THREE_CARDS, starts=starts).run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("w")
        await pilot.pause()

        assert "w queue" not in shown(pilot, Footer)
        assert starts.asked == []


async def test_help_lists_the_keys_of_the_screen() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpDialog))

        assert "Start the run as the plan shows it" in screen_text(pilot)


async def test_typing_is_never_blocked_and_only_the_newest_plan_stays() -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)

        await pilot.press("e", *"1234", *["backspace"] * 2, "escape")
        await planned(pilot)

        plan = pilot.app.screen.query_one(PlanPane).state.plan
        assert plan is not None
        assert plan.spec.train.per_device_train_batch_size == 12


async def test_an_unknown_preset_is_said_and_another_can_be_chosen() -> None:
    async with panel(preset="deepsped").run_test(size=SIZE) as pilot:
        await planned(pilot)
        unknown = " ".join(shown(pilot, PlanPane).split())

        await pilot.press("down")
        await planned(pilot)

        assert "no preset 'deepsped' did you mean 'deepspeed'?" in unknown
        assert "8 × 16 × 3 = 384" in shown(pilot, PlanPane)


async def test_a_preset_with_bad_overrides_opens_with_its_faults() -> None:
    async with panel(train__learning_rate=-1.0).run_test(size=SIZE) as pilot:
        await planned(pilot)

        assert "learning_rate" in shown(pilot, PlanPane)
        assert pilot.app.screen.query_one(PlanPane).state.plan is None


async def test_settings_are_saved_as_a_preset_of_the_users_own() -> None:
    async with panel(preset="trainer").run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("e", "4", "escape")
        await planned(pilot)

        await pilot.press("p")
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
        await pilot.press(*"trainer", "enter")
        assert "trainer comes with t5panel" in screen_text(pilot)
        await pilot.press(*"-4", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))
        await planned(pilot)

        assert "trainer-4" in shown(pilot, MethodList)
        assert "4 × 8 × 3 = 96" in shown(pilot, PlanPane)
        assert "--preset trainer-4" in command_line_of(pilot)
    assert load_preset("trainer-4").spec.train.per_device_train_batch_size == 4


def command_line_of(pilot: Pilot[None]) -> str:
    """What the copy key copies."""
    screen = pilot.app.screen
    assert isinstance(screen, SetupScreen)
    screen.action_copy("line")
    return pilot.app.clipboard
