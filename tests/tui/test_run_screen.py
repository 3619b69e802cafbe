"""Run and Runs: what the files of a run say, and what can be asked of it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from t5panel import session
from t5panel.contract.layout import RunDir
from t5panel.contract.records import Evaluation, Event, Prediction, State, encode_line
from t5panel.errors import UsageError
from t5panel.monitor.history import History
from t5panel.monitor.runs import RunState
from t5panel.tui.messages import RunChosen
from t5panel.tui.screens import run as run_screen
from t5panel.tui.screens.answers import AnswersDialog
from t5panel.tui.screens.details import DetailsDialog
from t5panel.tui.screens.faults import FaultsDialog
from t5panel.tui.screens.figures import FiguresDialog
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.runs import RunList, RunsScreen
from t5panel.tui.screens.setup import SetupScreen
from t5panel.tui.screens.stop import StopDialog, stop_text
from t5panel.tui.widgets.banner import AlertBanner, banner_text
from t5panel.tui.widgets.curves import VramPlot
from t5panel.tui.widgets.memory import MemoryPane
from t5panel.tui.widgets.status import StatusPane
from t5panel.tui.widgets.step_plot import StepPlot
from t5panel.tui.widgets.texts import EndingPane, LogPane, PredictionPane

from .panels import THREE_CARDS, panel, planned, screen_text, shown, until
from .recorded import (
    CREATED,
    DISK,
    OOM,
    SPIKE,
    STALL,
    crashed,
    diagnosed,
    ended,
    finished,
    living,
    on_named_cards,
    paused,
    queued,
    tell,
)

SIZE = (120, 30)


async def watched(pilot: Pilot[None]) -> None:
    """A run is on the screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.view is not None)


async def test_a_living_run_is_shown_first_and_leaving_it_says_how_to_come_back(home: Path) -> None:
    finished(home)
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)

        status = shown(pilot, StatusPane)
        assert "● running  20260101-130000-manual  2 × 2 × 3 = 12   REHEARSAL on the CPU" in status
        assert "step 50/80  loss 3.1" in status
        assert "checkpoint of step 40 · evaluated at step 40: chrF 5.2" in status
        assert "━━ training  ◆ evaluation 3.195" in shown(pilot, StepPlot)
        assert "VRAM" not in screen_text(pilot)

        await pilot.app.run_action("leave")

        assert pilot.app._exit_renderables == ["20260101-130000-manual goes on: t5panel attach 20260101-130000-manual"]


async def test_memory_of_every_rank_and_card_stands_against_its_limit(home: Path) -> None:
    living(home, cards=3)

    async with panel(THREE_CARDS).run_test(size=SIZE) as pilot:
        await watched(pilot)

        memory = shown(pilot, MemoryPane)
        assert "card 2" in memory
        assert "12.5/20.0 GiB" in memory
        assert "94% 310W 72°C" in memory
        assert "rank 2" in memory
        assert "/12.0 GiB" in memory
        assert "VRAM per card" in screen_text(pilot)


async def test_new_steps_appear_while_watching(home: Path) -> None:
    run = living(home)
    rest = finished(home, "20260101-100000-manual").metrics.read_bytes()[run.metrics.stat().st_size :]

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        with run.metrics.open("ab") as file:
            file.write(rest)
        await until(pilot, lambda: "step 80/80" in shown(pilot, StatusPane))


async def test_a_finished_run_shows_its_result(home: Path) -> None:
    finished(home)

    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("2")
        await watched(pilot)

        ending = shown(pilot, EndingPane)
        assert "6.3935 → 2.9794" in ending
        assert "checkpoints/checkpoint-80" in ending
        assert "inspect.currentframe()" in shown(pilot, PredictionPane)


async def test_a_crashed_run_says_so_and_offers_to_go_on(home: Path) -> None:
    crashed(home)

    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("2")
        await watched(pilot)

        assert "✗ failed" in shown(pilot, StatusPane)
        assert "the machine was restarted" in shown(pilot, StatusPane)
        assert "r resumes from step 40" in shown(pilot, EndingPane)
        assert "r resume" in screen_text(pilot)
        assert "s stop" not in screen_text(pilot)


async def test_a_key_changes_the_scale_and_another_sets_up_a_run_beside_the_living_one(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        linear = shown(pilot, StepPlot)
        await pilot.press("l")
        await pilot.pause()

        assert "linear scale" in linear
        assert "log scale" in shown(pilot, StepPlot)

        await pilot.press("n")
        await planned(pilot)

        assert isinstance(pilot.app.screen, SetupScreen)


async def test_keys_zoom_into_the_live_end_and_follow_it(home: Path) -> None:
    run = living(home)
    rest = finished(home, "20260101-100000-manual").metrics.read_bytes()[run.metrics.stat().st_size :]

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("plus", "plus")
        await until(pilot, lambda: "steps 38–50" in shown(pilot, StepPlot))
        with run.metrics.open("ab") as file:
            file.write(rest)
        await until(pilot, lambda: "steps 68–80" in shown(pilot, StepPlot))
        await pilot.press("left", "left")
        await until(pilot, lambda: "steps 62–74" in shown(pilot, StepPlot))
        await pilot.press("minus")
        await until(pilot, lambda: "steps 56–80" in shown(pilot, StepPlot))
        await pilot.press("0")
        await until(pilot, lambda: "steps" not in shown(pilot, StepPlot))


async def test_a_cursor_tells_the_values_of_a_step_and_escape_leaves_it_before_the_zoom(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("plus", "plus", "x")
        await until(pilot, lambda: "step 50  loss 3.1067  lr 1.7e-03" in shown(pilot, StepPlot))
        await pilot.press("left", "left", "right")
        await until(pilot, lambda: "step 49  loss" in shown(pilot, StepPlot))
        await pilot.press(*["left"] * 12)
        await until(pilot, lambda: "steps 37–49" in shown(pilot, StepPlot))
        await pilot.press("escape")
        await until(pilot, lambda: "lr" not in shown(pilot, StepPlot))

        assert "steps 37–49" in shown(pilot, StepPlot)

        await pilot.press("escape")
        await until(pilot, lambda: "steps" not in shown(pilot, StepPlot))


async def test_the_mouse_sets_the_cursor_and_the_wheel_zooms_at_the_pointer(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.click(StepPlot, offset=(4, 8))
        await until(pilot, lambda: "step 1  loss 6.3935  lr 0.0e+00  smoothed" in shown(pilot, StepPlot))
        plot = pilot.app.screen.query_one(StepPlot)
        wheel = {"widget": plot, "x": 4, "y": 8, "delta_x": 0, "delta_y": 0, "button": 0}
        flags = {"shift": False, "meta": False, "ctrl": False, "screen_x": 4, "screen_y": plot.region.y + 8}
        plot.post_message(MouseScrollUp(**wheel, **flags))  # type: ignore[arg-type]
        await until(pilot, lambda: "steps 1–26" in shown(pilot, StepPlot))
        plot.post_message(MouseScrollDown(**wheel, **flags))  # type: ignore[arg-type]
        await until(pilot, lambda: "steps" not in shown(pilot, StepPlot))


async def test_a_zoomed_plot_is_dragged_with_the_mouse_and_no_cursor_comes_of_it(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("plus", "plus")
        await until(pilot, lambda: "steps 38–50" in shown(pilot, StepPlot))
        plot = pilot.app.screen.query_one(StepPlot)
        width = plot.region.width
        await pilot.mouse_down(StepPlot, offset=(10, 5))
        await pilot.hover(StepPlot, offset=(10 + width // 2, 5))
        await pilot.mouse_up(StepPlot, offset=(10 + width // 2, 5))
        await until(pilot, lambda: "steps 31–44" in shown(pilot, StepPlot))
        await pilot.hover(StepPlot, offset=(12, 5))
        await pilot.pause()

        assert "steps 31–44" in shown(pilot, StepPlot)
        assert plot.cursor is None


async def test_answers_in_chinese_are_shown_whole_and_their_control_characters_are_not(home: Path) -> None:
    run = living(home)
    answer = "训练在第十步停下，因为显存不足；请把每卡批量减半，并把累积步数加倍，再从最近的检查点继续。" * 2
    row = Prediction("为什么停了？", "显存不足。", f"\x1b[31m{answer}")
    done = Evaluation(CREATED + 90, 50, 2.5, 31.0, None, (row,), 1.0)
    with run.metrics.open("ab") as file:
        file.write(encode_line(done))

    async with panel().run_test(size=(80, 24)) as pilot:
        await watched(pilot)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(pilot.app.screen, AnswersDialog))
        text = re.sub(r"[\s│]", "", screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

    assert "Predictionsatstep50·loss2.5000·chrF31.0" in text
    assert f"为什么停了？→{answer}=显存不足。" in text


async def test_earlier_evaluations_are_a_key_away_with_their_answers_to_the_same_prompts(home: Path) -> None:
    run = living(home)
    evaluations = [done for done in History(run).refresh().evaluations if done.step <= 40]
    answers = [History(run).refresh().evaluation_at(done.step) for done in evaluations]

    async with panel().run_test(size=(120, 50)) as pilot:
        await watched(pilot)
        await pilot.press("p")
        await until(pilot, lambda: "Predictions at step 40" in screen_text(pilot))
        await pilot.press("left", "left", "left")
        await until(pilot, lambda: "Predictions at step 20" in screen_text(pilot))
        earlier = screen_text(pilot)
        await pilot.press("right")
        await until(pilot, lambda: "Predictions at step 40" in screen_text(pilot))

    first, last = answers
    assert first is not None
    assert last is not None
    assert [row.prompt for row in first.samples] == [row.prompt for row in last.samples]
    assert f"→ {first.samples[0].prediction[:40]}" in earlier
    assert "1 of 2" in earlier


async def test_the_figures_of_a_run_tell_on_what_they_rest(home: Path) -> None:
    on_named_cards(living(home, cards=3))

    async with panel().run_test(size=(80, 24)) as pilot:
        await watched(pilot)
        status = shown(pilot, StatusPane)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(pilot.app.screen, FiguresDialog) and "MFU" in screen_text(pilot))
        text = re.sub(r"[\s│]+", " ", screen_text(pilot))

    assert "27.3 samples/s · 1,306 tokens/s · MFU ≈ 15% · 6.7 Wh · data 1% · comm 9%" in status
    assert "MFU ≈ 15.2% estimate: measured rate × 497 GFLOP a row, counted from its lengths" in text
    assert "energy so far 6.7 Wh measured: power of the cards alone by NVML, over 26 s" in text


async def test_a_key_walks_through_what_is_plotted(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        titles = []
        for title in ("Learning rate", "Gradient norm", "Samples per second", "Loss per target token"):
            await pilot.press("m")
            await until(pilot, lambda title=title: title in shown(pilot, StepPlot))  # type: ignore[misc]
            titles.append(shown(pilot, StepPlot))

        assert "30┤" in titles[2]
        assert "waits for data 1% of the time" in titles[2]
        assert all("evaluation" not in text for text in titles[:3])


async def test_the_keys_of_the_plot_stand_in_the_help_and_work_without_a_step(home: Path) -> None:
    run = living(home)
    run.metrics.unlink()

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("plus", "x", "left", "right", "minus", "0", "escape", "m")
        await pilot.click(StepPlot, offset=(20, 5))
        await pilot.press("question_mark")
        await until(pilot, lambda: "Plot the whole run" in screen_text(pilot))

        assert "+  Zoom in" in screen_text(pilot)


async def test_the_predicted_peak_is_a_line_among_the_cards_until_the_run_was_changed(home: Path) -> None:
    run = living(home, cards=3)
    info = msgspec.json.decode(run.run_json.read_bytes())
    peak = {"requested": 0, "allocated": 0, "reserved": 14 * 2**30, "context": 2**29}
    info["plan"]["vram"] = [{"index": index, **peak} for index in range(3)]
    run.run_json.write_bytes(msgspec.json.encode(info))

    async with panel(THREE_CARDS).run_test(size=SIZE) as pilot:
        await watched(pilot)
        await until(pilot, lambda: "VRAM ┄ predicted 14.5 GiB, limit 20 GiB" in shown(pilot, VramPlot))
        info["changes"] = [{"time": 0.0, "step": 40, "before": {}, "after": {}}]
        run.run_json.write_bytes(msgspec.json.encode(info))
        await until(pilot, lambda: "VRAM per card, limit 20 GiB" in shown(pilot, VramPlot))


async def test_a_key_walks_through_the_logs(home: Path) -> None:
    living(home).rank_log(1).write_text("\x1b[31mred words of rank one\x1b[0m\n")

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        first = shown(pilot, LogPane)
        await pilot.press("o")
        await until(pilot, lambda: "Log of rank 1" in shown(pilot, LogPane))

        assert "Log of rank 0" in first
        assert "\n red words of rank one" in shown(pilot, LogPane)


async def test_the_journal_of_a_run_is_one_of_its_logs(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        for name in ("rank 1", "rank 2", "launcher", "preparation", "supervisor", "the run"):
            await pilot.press("o")
            await until(pilot, lambda name=name: f"Log of {name}" in shown(pilot, LogPane))  # type: ignore[misc]

        assert isinstance(pilot.app.screen, RunScreen)
        assert pilot.app.screen.view is not None
        assert "started: the supervisor started" in pilot.app.screen.view.log_lines[0]


async def test_a_run_that_cannot_go_on_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: RunDir, *, queue: bool) -> None:
        raise UsageError.of(run.run_id, "is still running")

    monkeypatch.setattr(session, "resume", refuse)
    crashed(home)

    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("2")
        await watched(pilot)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, FaultsDialog))

        assert "is still running" in screen_text(pilot)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What was asked of runs: no signal leaves the test."""
    asked: list[tuple[str, bool]] = []

    def take(run: RunDir, *, now: bool) -> bool:
        asked.append((run.run_id, now))
        return True

    monkeypatch.setattr(run_screen, "request_stop", take)
    return asked


async def test_stopping_asks_first_and_says_what_a_kill_would_lose(
    home: Path, requests: list[tuple[str, bool]]
) -> None:
    answers = [
        ("s", "escape", None),
        ("K", "escape", None),
        ("s", "enter", False),
        ("s", "K", True),
        ("K", "enter", True),
    ]
    run = living(home).run_id
    asked: list[tuple[str, bool]] = []

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        for key, answer, now in answers:
            await pilot.press(key)
            await until(pilot, lambda: isinstance(pilot.app.screen, StopDialog))
            lost = "everything after step 40 is lost" in " ".join(screen_text(pilot).split())
            assert lost == (key == "K")
            assert requests == asked
            await pilot.press(answer)
            asked += [] if now is None else [(run, now)]
            await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
            await pilot.app.workers.wait_for_complete()

        assert requests == asked


async def test_a_run_removed_while_it_is_watched_says_so(home: Path) -> None:
    run = living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        shutil.rmtree(run.path)
        await until(pilot, lambda: "the run directory was removed" in shown(pilot, StatusPane))
        offered = screen_text(pilot).splitlines()[-1]
        await pilot.press("2")
        await until(pilot, lambda: isinstance(pilot.app.screen, FaultsDialog))
        dialog = screen_text(pilot)
        await pilot.press("escape", "2")
        await until(pilot, lambda: bool(pilot.app._notifications))

        assert "s stop" not in offered
        assert "r resume" not in offered
        assert "the run directory was removed" in dialog
        assert [notice.message for notice in pilot.app._notifications] == ["no runs yet: enter on the setup starts one"]


async def test_a_run_removed_from_under_the_list_opens_a_dialog(home: Path) -> None:
    finished(home)
    gone = crashed(home)

    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("3")
        await until(pilot, lambda: "✗ failed" in screen_text(pilot))
        shutil.rmtree(gone.path)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, FaultsDialog))

        assert "the run directory was removed" in screen_text(pilot)


async def test_broken_files_never_end_the_panel(home: Path) -> None:
    other = msgspec.json.decode(finished(home).run_json.read_bytes())
    contents = (
        ("run.json", b"{"),
        ("run.json", msgspec.json.encode({**other, "spec": {}, "plan": {}})),
        ("state.json", b"\xff"),
        ("result.json", b"[]"),
        ("metrics.jsonl", b'\xff\n{"kind":"step"}\n'),
        ("faults.json", b'[{"no": "fault"}]'),
    )
    broken = [finished(home, f"20260101-0{number}0000-manual") for number in range(len(contents))]
    for run, (name, content) in zip(broken, contents, strict=True):
        (run.path / name).write_bytes(content)

    async with panel().run_test(size=(100, 24)) as pilot:
        await planned(pilot)
        await pilot.press("3")
        await until(pilot, lambda: "20260101-120000-manual" in screen_text(pilot))
        await pilot.press("1")
        await planned(pilot)
        for run in broken:
            pilot.app.post_message(RunChosen(run))
            await until(pilot, lambda run=run: run.run_id in screen_text(pilot))  # type: ignore[misc]
            if isinstance(pilot.app.screen, FaultsDialog):
                await pilot.press("escape")
            await pilot.press("1")
            await planned(pilot)

        assert pilot.app.is_running


async def test_runs_are_listed_newest_first_and_enter_opens_one(home: Path) -> None:
    finished(home)
    crashed(home)
    ended(crashed(home, "20260101-090000-manual"), "stopped", "stopped at step 50")
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("3")
        await until(pilot, lambda: "stopped" in screen_text(pilot))
        listed = [line for line in shown(pilot, RunList).splitlines() if "-manual" in line]
        await pilot.press("down", "down", "enter")
        await watched(pilot)

        assert [line.split()[1] for line in listed] == ["running", "finished", "failed", "stopped"]
        assert "20260101-110000-manual" in shown(pilot, StatusPane)


async def test_without_runs_the_list_says_what_to_do(home: Path) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("3")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen) and pilot.app.screen.has_class("-empty"))

        assert "no runs yet" in screen_text(pilot)


async def test_a_run_without_a_single_file_yet_is_no_problem(home: Path) -> None:
    run = living(home)
    for path in (run.metrics, run.samples, run.events):
        path.unlink()

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)

        assert "no step yet" in shown(pilot, StatusPane)
        assert "no loss yet" in shown(pilot, StepPlot)


async def test_no_colour_and_any_size_work(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    living(home, cards=3)

    async with panel(THREE_CARDS).run_test(size=(80, 24)) as pilot:
        await watched(pilot)
        await pilot.press("l")
        await pilot.resize_terminal(300, 80)
        await pilot.resize_terminal(40, 10)
        await pilot.press("n")
        await planned(pilot)
        await pilot.resize_terminal(300, 80)
        await pilot.press("3")
        await until(pilot, lambda: "running" in screen_text(pilot))
        await pilot.resize_terminal(40, 10)

        assert pilot.app.no_color


async def test_the_worst_alert_is_a_banner_that_goes_when_it_is_over(home: Path) -> None:
    run = tell(living(home), DISK, SPIKE, STALL)

    async with panel().run_test(size=(80, 24)) as pilot:
        await watched(pilot)
        await until(pilot, lambda: "ERROR" in screen_text(pilot))
        banner, plot, status = shown(pilot, AlertBanner), shown(pilot, StepPlot), shown(pilot, StatusPane)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, DetailsDialog))
        details = screen_text(pilot)
        await pilot.press("escape")
        tell(run, Event(CREATED + 99, "stall", "the ranks make steps again"))
        await until(pilot, lambda: "loss-spike" in shown(pilot, AlertBanner))
        warning = shown(pilot, AlertBanner)
        tell(run, *(Event(CREATED + 99, name, "over") for name in ("disk", "loss-spike")))
        await until(pilot, lambda: not pilot.app.screen.query_one(AlertBanner).display)
        await pilot.press("d")

        assert banner == " ✗ ERROR  stall: no step for 61 s after step 50, usually …  +2 more · d details"
        assert warning == " ! WARNING  loss-spike: the loss jumped from 3.121 to 7.9…  +1 more · d details"
        assert len(plot.splitlines()) >= 7
        assert " left" not in status
        assert "disk  since 2026-01-01 12:00:20" in details
        assert isinstance(pilot.app.screen, RunScreen)


def test_a_banner_is_cut_by_the_cells_of_its_characters() -> None:
    alert = Event(CREATED, "card-lost", "显卡一不再响应：请检查电源和温度\n[red]检查点仍然安全" * 3, "error")

    text = banner_text((alert,), 60)

    assert text.cell_length == 60
    assert text.plain.startswith(" ✗ ERROR  card-lost: 显卡一不再响应")
    assert text.plain.endswith("  d details ")
    assert "\n" not in text.plain


async def test_a_paused_run_counts_down_and_its_stop_says_that_it_will_not_go_on(home: Path) -> None:
    diagnosed(home)
    paused(home)

    async with panel(THREE_CARDS).run_test(size=SIZE) as pilot:
        await watched(pilot)
        status = shown(pilot, StatusPane)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(pilot.app.screen, StopDialog))
        dialog = screen_text(pilot)
        await pilot.press("escape", "3")
        await until(pilot, lambda: "✗ failed" in screen_text(pilot))

        assert "‖ paused  20260101-130000-manual" in status
        assert "paused until 22:00 (in 6 h 55 min) · checkpoint of step 40" in status
        assert "it will not go on by itself" in dialog
        assert "The checkpoint of step 40 stays" in dialog
        assert "leave it paused" in dialog
        assert "╰ paused until 22:00 (in 6 h 55 min)" in screen_text(pilot)
        assert f"╰ {OOM.sentence}" in screen_text(pilot)


async def test_a_failed_run_says_why_and_one_key_shows_the_traceback(home: Path) -> None:
    run = diagnosed(home)
    run.rank_log(1).write_text("last words of rank one\n")

    async with panel(THREE_CARDS).run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("2")
        await watched(pilot)
        status, log, ending = shown(pilot, StatusPane), shown(pilot, LogPane), shown(pilot, EndingPane)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, DetailsDialog))
        top = screen_text(pilot)
        await pilot.press("end")
        await until(pilot, lambda: "torch.OutOfMemoryError" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

        assert OOM.sentence in status
        assert f"→ {OOM.hint}" in status
        assert "last words of rank one" in log
        assert "r resumes from step 40" in ending
        assert "d shows the traceback of rank 1" in ending
        assert "Rank 1 failed first" in top
        assert "rank-1.log" in re.sub(r"[\s│]", "", top)


async def test_a_run_that_was_cut_off_or_died_while_paused_goes_on_with_one_key(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed: list[RunDir] = []

    def note(run: RunDir, *, queue: bool) -> None:
        assert not queue
        resumed.append(run)

    monkeypatch.setattr(session, "resume", note)
    runs = [
        crashed(home),
        ended(crashed(home, "20260101-100000-manual"), "paused", "paused until 22:00"),
    ]

    async with panel().run_test(size=(80, 24)) as pilot:
        await planned(pilot)
        for number, run in enumerate(runs, 1):
            pilot.app.post_message(RunChosen(run))
            await until(pilot, lambda run=run: run.run_id in screen_text(pilot))  # type: ignore[misc]
            assert "r resume" in screen_text(pilot).splitlines()[-1]
            await pilot.press("r")
            await until(pilot, lambda number=number: len(resumed) == number)  # type: ignore[misc]
            await pilot.app.workers.wait_for_complete()

    assert resumed == runs


def test_a_stop_says_what_it_does_in_every_phase(home: Path) -> None:
    waiting, young = queued(home), queued(home, "20260101-150000-manual")
    ended(young, "starting", "reading and tokenising the data")

    texts = [stop_text(replace(History(run).refresh(), state=state_of(run))) for run in (waiting, young, living(home))]

    assert texts[0].startswith("It leaves the queue; nothing of it runs yet.")
    assert texts[1].startswith("It has made no step since its start")
    assert texts[2].startswith("The ranks finish the present optimizer step, save a checkpoint and exit.")


def state_of(run: RunDir) -> RunState:
    """The state as it was written, as if its supervisor lived."""
    state = msgspec.json.decode(run.state.read_bytes(), type=State)
    return RunState(state.phase, state.message, alive=True, state=state)
