"""Keys that come in a burst, as from a fast hand on a slow line: each goes to where the one before it led."""

from __future__ import annotations

from pathlib import Path

from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import Input

from t5panel.tui.screens.log import LogScreen
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.save import SaveDialog
from t5panel.tui.widgets.form import FieldRow
from t5panel.tui.widgets.methods import MethodList

from .panels import panel, planned, until
from .recorded import living


def burst(pilot: Pilot[None], *keys: str) -> None:
    """All of them before the panel sees the first."""
    for key in keys:
        pilot.app.post_message(Key(key, key if len(key) == 1 else None))


def texts(pilot: Pilot[None]) -> dict[str, str]:
    """What the fields of the form hold."""
    return {row.field.key.rpartition(".")[2]: row.editor.value for row in pilot.app.screen.query(FieldRow)}


async def test_what_is_typed_after_tab_goes_into_the_next_field() -> None:
    async with panel(preset="deepspeed").run_test(size=(120, 30)) as pilot:
        await planned(pilot)
        burst(pilot, "e", "end", "backspace", "4", "tab", "end", "backspace", "backspace", "2")
        await until(pilot, lambda: texts(pilot)["gradient_accumulation_steps"] == "2")
        found = texts(pilot)
        burst(pilot, "escape", "down")
        await until(pilot, lambda: isinstance(pilot.app.focused, MethodList) and pilot.app.focused.highlighted != 0)

    assert found["per_device_train_batch_size"] == "4"


async def test_what_is_typed_after_a_key_that_opens_a_dialog_goes_into_the_dialog() -> None:
    async with panel().run_test(size=(60, 15)) as pilot:
        await planned(pilot)
        burst(pilot, "p", *"mine")
        pilot.app.post_message(Paste("-own"))
        await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))
        name = pilot.app.screen.query_one(Input)
        await until(pilot, lambda: name.value == "mine-own")
        burst(pilot, "escape", "e", "end", "x")
        await until(pilot, lambda: texts(pilot).get("per_device_train_batch_size", "") == "8x")


async def test_a_key_whose_widget_went_away_holds_up_no_other(home: Path) -> None:
    living(home)
    async with panel().run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        for _ in range(20):
            burst(pilot, "v", "escape")
        burst(pilot, "v")
        await until(pilot, lambda: isinstance(pilot.app.screen, LogScreen))
