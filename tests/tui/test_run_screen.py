"""Run and Runs: what the files of a run say, and what can be asked of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from t5panel import session
from t5panel.contract.layout import RunDir
from t5panel.errors import UsageError
from t5panel.tui.screens import run as run_screen
from t5panel.tui.screens.faults import FaultsDialog
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.runs import RunsScreen
from t5panel.tui.screens.setup import SetupScreen
from t5panel.tui.screens.stop import StopDialog
from t5panel.tui.widgets.curves import LossPlot
from t5panel.tui.widgets.memory import MemoryPane
from t5panel.tui.widgets.status import StatusPane
from t5panel.tui.widgets.texts import EndingPane, LogPane, PredictionPane

from .panels import THREE_CARDS, panel, planned, screen_text, shown, until
from .recorded import crashed, ended, finished, living

SIZE = (120, 30)


async def watched(pilot: Pilot[None]) -> None:
    """A run is on the screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.view is not None)


async def test_a_living_run_is_shown_first(home: Path) -> None:
    finished(home)
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)

        status = shown(pilot, StatusPane)
        assert "● running  20260101-130000-manual  2 × 2 × 3 = 12   REHEARSAL on the CPU" in status
        assert "step 50/80  loss 3.1" in status
        assert "checkpoint of step 40 · evaluated at step 40: chrF 5.2" in status
        assert "━━ training  ◆ evaluation 3.195" in shown(pilot, LossPlot)


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


async def test_without_cards_nothing_speaks_of_them(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)

        assert "VRAM" not in screen_text(pilot)


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
        assert "the supervisor died" in shown(pilot, StatusPane)
        assert "r resumes from step 40" in shown(pilot, EndingPane)
        assert "r resume" in screen_text(pilot)
        assert "s stop" not in screen_text(pilot)


async def test_a_key_switches_between_linear_and_logarithmic_loss(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        linear = shown(pilot, LossPlot)
        await pilot.press("l")
        await pilot.pause()

        assert "linear scale" in linear
        assert "log scale" in shown(pilot, LossPlot)


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

        await until(pilot, lambda: "started: the supervisor started" in shown(pilot, LogPane))


async def test_an_ended_run_goes_on_with_one_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed: list[RunDir] = []
    monkeypatch.setattr(session, "resume", resumed.append)
    run = crashed(home)

    async with panel().run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("2")
        await watched(pilot)
        await pilot.press("r")
        await until(pilot, lambda: bool(resumed))
        await watched(pilot)

        assert resumed == [run]


async def test_a_run_that_cannot_go_on_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: RunDir) -> None:
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


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        (("s", "enter"), [("20260101-130000-manual", False)]),
        (("s", "K"), [("20260101-130000-manual", True)]),
        (("K", "enter"), [("20260101-130000-manual", True)]),
        (("s", "escape"), []),
        (("K", "escape"), []),
    ],
)
async def test_stopping_asks_first(
    home: Path, requests: list[tuple[str, bool]], keys: tuple[str, str], asked: list[tuple[str, bool]]
) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press(keys[0])
        await until(pilot, lambda: isinstance(pilot.app.screen, StopDialog))
        before = list(requests)
        await pilot.press(keys[1])
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))

        assert before == []
        assert requests == asked


async def test_the_question_says_what_a_kill_would_lose(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("K")
        await until(pilot, lambda: isinstance(pilot.app.screen, StopDialog))

        assert "everything after step 40 is lost" in " ".join(screen_text(pilot).split())


async def test_leaving_says_how_to_come_back(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.app.run_action("leave")

        assert pilot.app._exit_renderables == ["20260101-130000-manual goes on: t5panel attach 20260101-130000-manual"]


async def test_a_new_run_can_be_set_up_beside_a_living_one(home: Path) -> None:
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("n")
        await planned(pilot)

        assert isinstance(pilot.app.screen, SetupScreen)


async def test_runs_are_listed_newest_first_and_enter_opens_one(home: Path) -> None:
    finished(home)
    crashed(home)
    ended(crashed(home, "20260101-090000-manual"), "stopped", "stopped at step 50")
    living(home)

    async with panel().run_test(size=SIZE) as pilot:
        await watched(pilot)
        await pilot.press("3")
        await until(pilot, lambda: "stopped" in screen_text(pilot))
        listed = [line for line in screen_text(pilot).splitlines() if "-manual" in line]
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
        assert "no loss yet" in shown(pilot, LossPlot)


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (300, 80)])
async def test_no_colour_and_any_size_work(home: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    living(home, cards=3)

    async with panel(THREE_CARDS).run_test(size=size) as pilot:
        await watched(pilot)
        await pilot.press("l", "n")
        await planned(pilot)
        await pilot.press("3")
        await pilot.pause(0.1)

        assert pilot.app.no_color
