"""A terminal changes its size: whatever was typed, chosen, marked or looked at stays."""

from __future__ import annotations

from pathlib import Path

import msgspec
from textual.pilot import Pilot
from textual.widgets import Input

from t5panel.contract.records import Sample, encode_line
from t5panel.tui.screens.compare import CompareScreen
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.runs import RunList, RunsScreen
from t5panel.tui.screens.save import SaveDialog
from t5panel.tui.screens.setup import SetupScreen
from t5panel.tui.widgets.form import ValueInput
from t5panel.tui.widgets.memory import MemoryPane
from t5panel.tui.widgets.step_plot import StepPlot
from t5panel.tui.widgets.texts import LogPane

from .panels import THREE_NAMED_CARDS, panel, planned, screen_text, settled, shown, until
from .recorded import diagnosed, finished, living

SIZES = ((60, 15), (200, 60), (40, 10), (80, 24))


async def through_all_sizes(pilot: Pilot[None]) -> None:
    """The terminal becomes tiny, huge, unusably small, and small again."""
    for size in SIZES:
        await pilot.resize_terminal(*size)
        await pilot.pause(0.02)


async def test_a_value_being_typed_stays_under_the_cursor() -> None:
    app = panel(THREE_NAMED_CARDS)
    async with app.run_test(size=(120, 30)) as pilot:
        await planned(pilot)
        await pilot.press("e", "down", "backspace", "backspace", "3")

        await through_all_sizes(pilot)
        await pilot.press("2")
        await planned(pilot)

        assert isinstance(app.screen, SetupScreen)
        assert isinstance(app.focused, ValueInput)
        assert (app.focused.value, app.focused.cursor_position) == ("32", 2)
        assert "8 × 32 × 3 = 768" in screen_text(pilot)


async def test_a_name_being_typed_into_a_dialog_stays() -> None:
    app = panel(THREE_NAMED_CARDS)
    async with app.run_test(size=(120, 30)) as pilot:
        await planned(pilot)
        await pilot.press("p", *"news")

        await through_all_sizes(pilot)
        await pilot.press("s")

        assert isinstance(app.screen, SaveDialog)
        assert app.screen.query_one(Input).value == "newss"


async def test_zoom_cursor_scale_and_quantity_of_a_plot_stay(home: Path) -> None:
    living(home, cards=3)
    app = panel(THREE_NAMED_CARDS)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.view is not None)
        await pilot.press("m", "l", "plus", "x", "left", "left")
        plot = app.screen.query_one(StepPlot)
        before = (plot.quantity, plot.log_scale, plot.zoom, plot.cursor)

        await through_all_sizes(pilot)

        assert before[0] == "learning_rate"
        assert before[3] is not None
        assert (plot.quantity, plot.log_scale, plot.zoom, plot.cursor) == before


async def test_rows_of_memory_that_were_wider_leave_no_gap(home: Path) -> None:
    run = living(home)
    sample = msgspec.json.decode(run.samples.read_bytes().splitlines()[-1], type=Sample)
    run.samples.write_bytes(encode_line(msgspec.structs.replace(sample, ranks=())))
    app = panel()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.view is not None)

        await pilot.resize_terminal(120, 30)
        await settled(pilot)

        assert app.screen.query_one(MemoryPane).region.height == len(("title", "host"))


async def test_the_end_of_a_log_is_folded_anew_to_its_last_sign(home: Path) -> None:
    words = "/a/long/path/without/a/space" * 9
    lines = [f"{number} {words}" for number in range(60)]
    living(home).rank_log(0).write_text("\n".join(lines))
    app = panel()
    async with app.run_test(size=(200, 60)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.view is not None)
        for size in ((60, 15), (120, 30)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
        rows = shown(pilot, LogPane).splitlines()[1:]

    folded = "".join(row.strip() for row in rows)
    width = max(len(row.strip()) for row in rows)
    assert {len(row.strip()) for row in rows[1:]} <= {len("59"), width, len(words) % width}
    assert "".join(lines).replace(" ", "").endswith(folded.replace(" ", ""))


async def test_filter_marks_order_and_highlight_of_the_list_stay(home: Path) -> None:
    finished(home)
    diagnosed(home)
    living(home)
    app = panel(THREE_NAMED_CARDS)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("3")
        await until(pilot, lambda: "✗ failed" in screen_text(pilot))
        await pilot.press("space", "o", "slash", *"1")

        await through_all_sizes(pilot)
        await pilot.press("2")
        await until(pilot, lambda: "1 of 3" in screen_text(pilot))

        assert isinstance(app.screen, RunsScreen)
        assert isinstance(app.focused, Input)
        assert app.focused.value == "12"
        await pilot.press("enter")
        assert isinstance(app.focused, RunList)
        assert app.focused.highlighted == 0
        assert "120000-manual" in screen_text(pilot)
        assert "1 marked" in screen_text(pilot)


async def test_axis_scale_and_place_of_a_comparison_stay(home: Path) -> None:
    finished(home)
    diagnosed(home)
    living(home)
    app = panel(THREE_NAMED_CARDS)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("3")
        await until(pilot, lambda: "✗ failed" in screen_text(pilot))
        await pilot.press("space", "space", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen) and bool(app.screen.readings))
        await pilot.press("x", "l", "p")

        await through_all_sizes(pilot)

        assert isinstance(app.screen, CompareScreen)
        assert (app.screen.axis, app.screen.log_scale) == ("samples", True)
        assert app.screen.has_class("-figures")
        assert "SETTINGS THAT DIFFER" in screen_text(pilot)
