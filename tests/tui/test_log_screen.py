"""Log: read from its end, followed, paused, searched, however long it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from t5panel.contract.layout import RunDir
from t5panel.monitor.logfile import PART, found_after, found_before, log_around, log_end
from t5panel.tui.screens.log import LogScreen
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.widgets.log_view import LogView, folded
from t5panel.tui.widgets.texts import LogPane

from .panels import panel, screen_text, shown, until
from .recorded import living


def numbered(count: int, *, begin: int = 0) -> str:
    return "".join(f"line {number:07d}\n" for number in range(begin, begin + count))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ten megabytes of numbered lines."""
    path = tmp_path / "rank-0.log"
    path.write_text(numbered(800_000))
    return path


def test_only_the_end_of_a_long_log_is_read(log: Path) -> None:
    part = log_end(log)

    assert (part.lines[-1], part.end, part.size) == ("line 0799999", 10_400_000, 10_400_000)
    assert PART - 13 <= part.end - part.begin <= PART
    assert part.offsets[0] == part.begin


def test_a_part_goes_on_both_sides_of_its_place(log: Path) -> None:
    part = log_around(log, 13 * 400_000)

    assert part.lines[part.offsets.index(13 * 400_000)] == "line 0400000"
    assert log_around(log, 0).lines[0] == "line 0000000"
    assert part.lines[0] < "line 0400000" < part.lines[-1]


def test_words_are_found_in_any_case_above_and_below_a_place(log: Path) -> None:
    assert found_before(log, "LINE 0000123", 10_400_000) == 123 * 13
    assert found_before(log, "line", 13) == 0
    assert found_before(log, "line 0000123", 123 * 13) is None
    assert found_after(log, "0799999", 0) == 799_999 * 13
    assert found_after(log, "line", 13) == 26
    assert found_after(log, "0799999", 799_999 * 13) is None


def test_a_progress_bar_is_one_line_and_a_missing_log_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\r\n 10%\r 50%\r100%\nnot ended")

    assert log_end(path).lines == ("one", "100%", "not ended")
    assert log_end(path).offsets == (0, 5, 20)
    assert log_end(tmp_path / "none").lines == ()
    assert found_before(tmp_path / "none", "x", 10) is None


def test_wide_signs_fold_at_the_width_in_cells() -> None:
    assert list(folded(("学习率太高", "", "abc\x1b[31md"), 4)) == [
        (0, "学习"),
        (0, "率太"),
        (0, "高"),
        (1, ""),
        (2, "abcd"),
    ]


async def opened(pilot: Pilot[None]) -> LogView:
    """The log of the run on the screen, on the whole screen."""
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.view is not None)
    await pilot.press("v")
    await until(pilot, lambda: isinstance(pilot.app.screen, LogScreen))
    view = pilot.app.screen.query_one(LogView)
    await until(pilot, lambda: bool(view.part.lines))
    return view


def write(run: RunDir, text: str) -> None:
    with run.rank_log(0).open("a") as file:
        file.write(text)


async def test_the_end_is_followed_until_the_user_scrolls_up_or_pauses(home: Path) -> None:
    run = living(home)
    run.rank_log(0).write_text(numbered(5000))
    async with panel().run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await until(pilot, lambda: "line 0004999" in screen_text(pilot) and "follows the end" in screen_text(pilot))
        write(run, numbered(1, begin=5000))
        await until(pilot, lambda: "line 0005000" in screen_text(pilot))
        await pilot.press("pageup")
        await until(pilot, lambda: "paused" in screen_text(pilot))
        write(run, numbered(1, begin=5001))
        await pilot.pause(0.6)
        paused = screen_text(pilot)
        await pilot.press("space")
        await until(pilot, lambda: "line 0005001" in screen_text(pilot))

    assert "line 0005001" not in paused
    assert "line 0004970" in paused


async def test_a_search_goes_up_through_a_long_log_and_back(home: Path, log: Path) -> None:
    run = living(home)
    log.rename(run.rank_log(0))
    async with panel().run_test(size=(80, 24)) as pilot:
        view = await opened(pilot)
        await pilot.press("slash", *"LINE 00012", "enter")
        await until(pilot, lambda: "line 0001299" in screen_text(pilot))
        first, memory = view.hit, len(view.part.lines)
        await pilot.press("n")
        await until(pilot, lambda: view.hit == 1298 * 13)
        await pilot.press("N")
        await until(pilot, lambda: view.hit == 1299 * 13)
        await pilot.press("N")
        await until(pilot, lambda: any("no line below" in one.message for one in pilot.app._notifications))
        await pilot.press("home")
        await until(pilot, lambda: "line 0000000" in screen_text(pilot))
        await pilot.press("end")
        await until(pilot, lambda: "line 0799999" in screen_text(pilot) and "follows" in screen_text(pilot))

    assert first == 1299 * 13
    assert memory <= 2 * PART / 13 + 2


async def test_going_on_above_what_was_read_reads_what_is_there(home: Path, log: Path) -> None:
    run = living(home)
    log.rename(run.rank_log(0))
    async with panel().run_test(size=(80, 24)) as pilot:
        view = await opened(pilot)
        await pilot.press("space")
        begin = view.part.begin
        view.scroll_home(animate=False)
        await pilot.pause()
        await pilot.press("up")
        await until(pilot, lambda: view.part.begin < begin)
        kept = view.top
        await pilot.press("up")
        await until(pilot, lambda: view.top is not None and view.top < begin)

    assert kept == begin


async def test_every_log_of_the_run_is_a_key_away_and_the_last_one_stays(home: Path) -> None:
    run = living(home)
    run.rank_log(1).write_text("only rank one says this\n")
    async with panel().run_test(size=(120, 30)) as pilot:
        await opened(pilot)
        await pilot.press("shift+tab")
        await until(pilot, lambda: "started: " in screen_text(pilot))
        journal = screen_text(pilot)
        await pilot.press("tab", "tab")
        await until(pilot, lambda: "only rank one says this" in screen_text(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "only rank one says this" in shown(pilot, LogPane))
        await pilot.press("v", "3")
        await until(pilot, lambda: "3 Runs" in screen_text(pilot) and len(pilot.app.screen_stack) == 2)

    assert "events.jsonl" in journal
