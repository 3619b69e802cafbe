"""Every screen as a picture, in the smallest and in a comfortable terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from t5panel.plan.machine import parse_machine
from t5panel.tui.screens.answers import AnswersDialog
from t5panel.tui.screens.compare import CompareScreen
from t5panel.tui.screens.details import DetailsDialog
from t5panel.tui.screens.figures import FiguresDialog
from t5panel.tui.screens.log import LogScreen
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.stop import StopDialog
from t5panel.tui.screens.whole_plan import WholePlanDialog
from t5panel.tui.widgets.form import ValueInput
from t5panel.tui.widgets.log_view import LogView
from t5panel.tui.widgets.methods import MethodList

from .panels import NO_CARDS, THREE_CARDS, THREE_NAMED_CARDS, panel, planned, screen_text, settled, until
from .recorded import DISK, SPIKE, STALL, crashed, diagnosed, ended, finished, living, on_named_cards, paused, tell
from .test_data_picker import looked, panel_with_data
from .test_model_picker import cache as cache  # noqa: PLC0414 - a fixture
from .test_model_picker import opened

Compare = Callable[..., bool]
sizes = pytest.mark.parametrize("size", [(80, 24), (120, 30)], ids=["80x24", "120x30"])


async def watched(pilot: Pilot[None]) -> None:
    """A run is on the screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.view is not None)


async def opened_last(pilot: Pilot[None]) -> None:
    """The newest run was opened from the setup."""
    await planned(pilot)
    await pilot.press("2")
    await watched(pilot)


async def listed(pilot: Pilot[None]) -> None:
    """All runs are on the screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
    await pilot.press("3")
    await until(pilot, lambda: "✗ failed" in screen_text(pilot))


async def compared(pilot: Pilot[None]) -> None:
    """Three runs of the list are side by side."""
    await listed(pilot)
    await pilot.press("space", "space", "space", "c")
    await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and bool(pilot.app.screen.readings))


async def faulty(pilot: Pilot[None]) -> None:
    """Two impossible values were typed."""
    await planned(pilot)
    await pilot.press("e", "0", "down", "x", "escape")
    await until(pilot, lambda: isinstance(pilot.app.focused, MethodList))


async def edited(pilot: Pilot[None]) -> None:
    """The form is open."""
    await planned(pilot)
    await pilot.press("e")
    await until(pilot, lambda: isinstance(pilot.app.focused, ValueInput))


async def whole(pilot: Pilot[None]) -> None:
    """All of the plan is open."""
    await planned(pilot)
    await pilot.press("v")
    await until(pilot, lambda: isinstance(pilot.app.screen, WholePlanDialog))


async def explained(pilot: Pilot[None]) -> None:
    """The newest run was opened, and what is known of its failure."""
    await opened_last(pilot)
    await pilot.press("d")
    await until(pilot, lambda: isinstance(pilot.app.screen, DetailsDialog))


async def searched(pilot: Pilot[None]) -> None:
    """A log is open, and words in it were found."""
    await watched(pilot)
    await pilot.press("v")
    await until(pilot, lambda: isinstance(pilot.app.screen, LogScreen))
    await pilot.press("slash", *"STEP 39", "enter")
    await until(pilot, lambda: pilot.app.screen.query_one(LogView).hit is not None)


async def measured(pilot: Pilot[None]) -> None:
    """The figures of a living run are open."""
    await watched(pilot)
    await settled(pilot)
    await pilot.press("i")
    await until(pilot, lambda: isinstance(pilot.app.screen, FiguresDialog))


async def answered(pilot: Pilot[None]) -> None:
    """The answers of its last evaluation are open."""
    await watched(pilot)
    await settled(pilot)
    await pilot.press("p")
    await until(pilot, lambda: isinstance(pilot.app.screen, AnswersDialog))


async def asked(pilot: Pilot[None]) -> None:
    """The question before a stop is open."""
    await watched(pilot)
    await pilot.press("s")
    await until(pilot, lambda: isinstance(pilot.app.screen, StopDialog))


@sizes
def test_setup_of_a_rehearsal(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(panel(NO_CARDS), run_before=planned, terminal_size=size)


@sizes
def test_setup_with_three_cards(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(panel(THREE_CARDS), run_before=planned, terminal_size=size)


@sizes
def test_setup_with_a_suggestion(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(panel(THREE_NAMED_CARDS), run_before=planned, terminal_size=size)


@pytest.mark.parametrize("size", [(60, 15), (200, 60)], ids=["60x15", "200x60"])
def test_setup_in_a_tiny_and_in_a_huge_terminal(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(panel(THREE_NAMED_CARDS), run_before=planned, terminal_size=size)


def test_setup_edited_in_a_tiny_terminal(snap_compare: Compare) -> None:
    assert snap_compare(panel(THREE_NAMED_CARDS), run_before=edited, terminal_size=(60, 15))


def test_setup_that_does_not_fit(snap_compare: Compare) -> None:
    small = parse_machine("3xRTX 3080 7GiB,32GiB", cores=8)
    assert snap_compare(panel(small, preset="trainer"), run_before=planned, terminal_size=(120, 30))


@sizes
def test_the_whole_plan(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(panel(THREE_NAMED_CARDS), run_before=whole, terminal_size=size)


@sizes
@pytest.mark.usefixtures("cache")
def test_the_model_picker(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.setattr("t5panel.tui.screens.data_picker.folder_of", lambda _: Path("models"))
    Path("models/mine").mkdir(parents=True)
    assert snap_compare(panel(THREE_NAMED_CARDS), run_before=opened, terminal_size=size)


@sizes
def test_the_data_picker(
    snap_compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("t5panel.tui.screens.data_picker.folder_text", lambda _: "/home/me/data")
    app, _ = panel_with_data(tmp_path)
    assert snap_compare(app, run_before=looked, terminal_size=size)


def test_setup_with_faults(snap_compare: Compare) -> None:
    assert snap_compare(panel(NO_CARDS), run_before=faulty, terminal_size=(80, 24))


@sizes
def test_a_living_run(snap_compare: Compare, home: Path, size: tuple[int, int]) -> None:
    living(home)
    assert snap_compare(panel(NO_CARDS), run_before=watched, terminal_size=size)


@sizes
def test_a_living_run_on_three_cards(snap_compare: Compare, home: Path, size: tuple[int, int]) -> None:
    living(home, cards=3)
    assert snap_compare(panel(THREE_CARDS), run_before=watched, terminal_size=size)


def test_a_finished_run(snap_compare: Compare, home: Path) -> None:
    finished(home)
    assert snap_compare(panel(NO_CARDS), run_before=opened_last, terminal_size=(120, 30))


def test_a_failed_run(snap_compare: Compare, home: Path) -> None:
    diagnosed(home)
    assert snap_compare(panel(THREE_CARDS), run_before=opened_last, terminal_size=(120, 30))


def test_the_traceback_of_a_failed_run(snap_compare: Compare, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t5panel.tui.screens.details.log_place", lambda _: "/runs/failed/logs/rank-1.log")
    diagnosed(home)
    assert snap_compare(panel(THREE_CARDS), run_before=explained, terminal_size=(80, 24))


@sizes
def test_a_run_with_alerts(snap_compare: Compare, home: Path, size: tuple[int, int]) -> None:
    tell(living(home, cards=3), DISK, SPIKE, STALL)
    assert snap_compare(panel(THREE_CARDS), run_before=watched, terminal_size=size)


def test_a_paused_run(snap_compare: Compare, home: Path) -> None:
    paused(home)
    assert snap_compare(panel(THREE_CARDS), run_before=watched, terminal_size=(80, 24))


@sizes
def test_a_log_with_words_found(snap_compare: Compare, home: Path, size: tuple[int, int]) -> None:
    run = living(home)
    lines = (f"step {step}: 学习率 {1e-4 * step:.4f}, loss {6 - step / 100:.3f}" for step in range(400))
    run.rank_log(0).write_text("\n".join(lines))
    assert snap_compare(panel(NO_CARDS), run_before=searched, terminal_size=size)


@sizes
def test_the_figures_of_a_run_on_three_cards(snap_compare: Compare, home: Path, size: tuple[int, int]) -> None:
    on_named_cards(living(home, cards=3))
    assert snap_compare(panel(THREE_NAMED_CARDS), run_before=measured, terminal_size=size)


def test_the_answers_of_a_run(snap_compare: Compare, home: Path) -> None:
    living(home)
    assert snap_compare(panel(NO_CARDS), run_before=answered, terminal_size=(80, 24))


@sizes
def test_the_list_of_runs(snap_compare: Compare, home: Path, size: tuple[int, int]) -> None:
    finished(home)
    diagnosed(home)
    paused(home, "20260101-140000-manual")
    ended(crashed(home, "20260101-090000-manual"), "stopped", "stopped at step 50")
    living(home)
    assert snap_compare(panel(NO_CARDS), run_before=listed, terminal_size=size)


@sizes
def test_a_comparison(snap_compare: Compare, home: Path, size: tuple[int, int]) -> None:
    diagnosed(home)
    finished(home)
    living(home, cards=3)
    assert snap_compare(panel(NO_CARDS), run_before=compared, terminal_size=size)


def test_the_question_before_a_stop(snap_compare: Compare, home: Path) -> None:
    living(home)
    assert snap_compare(panel(NO_CARDS), run_before=asked, terminal_size=(80, 24))
