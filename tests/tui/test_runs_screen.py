"""Runs and Compare: mark, filter, order, delete, and what several runs say side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from t5panel.contract.layout import RunDir
from t5panel.monitor.runs import read_note
from t5panel.tui.app import PanelApp
from t5panel.tui.screens.compare import CompareScreen
from t5panel.tui.screens.faults import FaultsDialog
from t5panel.tui.screens.price import PriceDialog
from t5panel.tui.screens.removal import RemovalDialog
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.runs import RunList, RunsScreen
from t5panel.tui.widgets.plot import Plot
from t5panel.tui.widgets.run_facts import RunFacts

from .panels import panel, screen_text, shown, until
from .recorded import crashed, ended, finished, living, on_named_cards

SIZE = (120, 30)


@pytest.fixture
def runs(home: Path) -> list[RunDir]:
    """A living, a finished, a failed and a stopped run, the newest first."""
    stopped = ended(crashed(home, "20260101-090000-manual"), "stopped", "stopped at step 50")
    return [living(home), finished(home), crashed(home), stopped]


async def listed(pilot: Pilot[None]) -> None:
    """All runs are on the screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
    await pilot.press("3")
    await until(pilot, lambda: "stopped" in screen_text(pilot))


async def compared(pilot: Pilot[None], *keys: str) -> None:
    """After these keys in the list the comparison is on the screen."""
    await pilot.press(*keys)
    await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and bool(pilot.app.screen.readings))


def times(pilot: Pilot[None]) -> list[str]:
    """The time of day in the ids of the runs in the list, from above."""
    return [line.split("20260101-")[1][:6] for line in shown(pilot, RunList).splitlines() if "20260101-" in line]


def notices(app: PanelApp) -> list[str]:
    """What the panel said beside the screen."""
    return [notice.message for notice in app._notifications]


async def test_only_runs_that_hold_the_words_are_listed_and_escape_shows_all(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("slash", *"manual FIN")
        await until(pilot, lambda: times(pilot) == ["120000"])

        assert "Runs · 1 of 4" in screen_text(pilot)

        await pilot.press("enter", "down")
        assert not pilot.app.screen.query_one(Input).has_focus
        assert times(pilot) == ["120000"]

        await pilot.press("slash", *"zzz")
        await until(pilot, lambda: "no run holds these words" in screen_text(pilot))

        await pilot.press("escape")
        await until(pilot, lambda: len(times(pilot)) == len(runs))


async def test_the_run_under_the_cursor_is_told_of_where_there_is_room(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await until(pilot, lambda: "running at step 40" in shown(pilot, RunFacts))
        await pilot.press("down")
        await until(pilot, lambda: "finished at step 80" in shown(pilot, RunFacts))
        facts = shown(pilot, RunFacts)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not pilot.app.screen.query_one(RunFacts).region)

    assert "manual under accelerate, 3 ranks on cpu" in facts
    assert "2 × 2 × 3 = 12" in facts
    assert runs[1].run_id in facts


async def test_a_key_orders_the_list_by_loss_then_by_state(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        by_start = times(pilot)
        await pilot.press("o")
        by_loss = times(pilot)
        await pilot.press("o")

        assert by_start == ["130000", "120000", "110000", "090000"]
        assert by_loss == ["120000", "130000", "110000", "090000"]
        assert times(pilot) == ["130000", "110000", "090000", "120000"]
        assert "Runs · by state" in screen_text(pilot)


async def test_marked_runs_are_compared_and_stay_marked(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await compared(pilot, "down", "space", "space", "c")

        plot = shown(pilot, Plot)
        assert "Loss per target token by step" in plot
        assert "━━ 1 manual  ━━ ━━ 2 manual" in plot
        text = screen_text(pilot)
        assert "120000-manual" in text
        assert "110000-manual" in text
        assert "SETTINGS THAT DIFFER" in text

        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        assert "2 marked: c compares" in screen_text(pilot)
        assert shown(pilot, RunList).count("◆") == 2


async def test_a_second_press_takes_a_mark_away(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("space", "up", "space")

        assert "◆" not in shown(pilot, RunList)


async def test_keys_change_axis_and_scale_and_leave_all_room_to_the_figures(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await compared(pilot, "space", "space", "c")
        await pilot.press("x")
        assert "by samples, linear scale" in shown(pilot, Plot)
        assert "800" in shown(pilot, Plot).splitlines()[-1]
        await pilot.press("x", "l")
        assert "by training time, log scale" in shown(pilot, Plot)
        assert " s" in shown(pilot, Plot).splitlines()[-1]

        await pilot.press("p")
        await pilot.pause()

        assert "Loss per target token" not in screen_text(pilot)
        assert "samples/s" in screen_text(pilot)


async def test_without_marks_the_run_under_the_cursor_shows_its_figures(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await compared(pilot, "down", "c")

        assert "3 CPU ranks, REHEARSAL" in screen_text(pilot)
        assert "SETTINGS THAT DIFFER" not in screen_text(pilot)


async def test_a_run_that_cannot_be_read_is_told_beside_the_others(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("space", "space")
        runs[1].run_json.write_text("{")
        await compared(pilot, "c")
        await pilot.press("p")
        await until(pilot, lambda: "cannot be read" in screen_text(pilot))

        assert "130000-manual" in screen_text(pilot)


async def test_an_ended_run_is_deleted_once_the_user_said_so(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("down", "D")
        await until(pilot, lambda: isinstance(pilot.app.screen, RemovalDialog))
        await pilot.press("enter")
        assert runs[1].path.exists()

        await pilot.press("D")
        await until(pilot, lambda: isinstance(pilot.app.screen, RemovalDialog))
        await pilot.press("y")
        await until(pilot, lambda: "120000" not in times(pilot))

    assert [run.path.exists() for run in runs] == [True, False, True, True]


async def test_a_living_run_is_not_deleted(runs: list[RunDir]) -> None:
    app = panel()
    async with app.run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("D")

        assert notices(app) == ["this run lives: stop it first"]
        assert isinstance(pilot.app.screen, RunsScreen)


async def test_of_a_run_elsewhere_only_the_place_in_the_list_goes(home: Path, tmp_path: Path) -> None:
    run = ended(crashed(tmp_path / "elsewhere"), "stopped", "stopped at step 50")
    living(home)
    (home / "20260101-080000-manual").symlink_to(run.path)

    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("down", "D")
        await until(pilot, lambda: isinstance(pilot.app.screen, RemovalDialog))
        assert "Take this run off the list?" in screen_text(pilot)
        await pilot.press("y")
        await until(pilot, lambda: len(times(pilot)) == 1)

    assert run.metrics.exists()


async def test_what_stands_against_a_removal_is_told(runs: list[RunDir], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t5panel.launch.removal.marked", lambda _: (4242,))

    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("down", "D")
        await until(pilot, lambda: isinstance(pilot.app.screen, RemovalDialog))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(pilot.app.screen, FaultsDialog))

        assert "processes of it still live: 4242" in screen_text(pilot)


async def test_the_price_of_energy_is_asked_for_and_told(home: Path) -> None:
    on_named_cards(living(home, cards=3))
    async with panel().run_test(size=SIZE) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        await pilot.press("3")
        await until(pilot, lambda: "running" in screen_text(pilot))
        await compared(pilot, "c")
        await pilot.press("p", "end")
        await pilot.press("e", *"much", "enter")
        asked = type(pilot.app.screen)
        await pilot.press(*["backspace"] * 4, *"0,5", "enter")
        await until(pilot, lambda: "cost" in screen_text(pilot))
        text = screen_text(pilot)

    energy, cost = (figure(text, name) for name in ("energy", "cost"))
    assert asked is PriceDialog
    assert cost == pytest.approx(energy / 2, rel=0.05)


def figure(text: str, name: str) -> float:
    """The number of a row of the table."""
    found = re.search(rf"^ *{name} +([\d.,]+)", text, re.MULTILINE)
    assert found is not None
    return float(found[1].replace(",", ""))


async def test_a_note_is_written_in_the_list_found_by_its_words_and_shown_with_its_run(runs: list[RunDir]) -> None:
    async with panel().run_test(size=SIZE) as pilot:
        await listed(pilot)
        await pilot.press("t", *"warm-up 学习率", "enter")
        await until(pilot, lambda: "✎ warm-up 学习率" in shown(pilot, RunList))
        await pilot.press("slash", *"warm-up")
        await until(pilot, lambda: times(pilot) == ["130000"])
        await pilot.press("enter", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and "✎ warm-up" in screen_text(pilot))
        await pilot.press("t", "home", *"no ", "enter")
        await until(pilot, lambda: "✎ no warm-up 学习率" in screen_text(pilot))

    assert read_note(runs[0]) == "no warm-up 学习率"
