"""What one keystroke in the form of the setup screen costs, from the key to the painted plan."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from unittest.mock import patch

from textual.events import Key
from textual.widgets import Input

from t5panel.plan.machine import parse_machine
from t5panel.tui.app import PanelApp
from t5panel.tui.services import Services
from t5panel.tui.widgets.form import FormPane
from t5panel.tui.widgets.plan_pane import PlanPane
from t5panel.wish import Wish

REFERENCE_BOX = parse_machine("3xRTX 3080 20GiB,12GiB", cores=8)
SETTLED_SECONDS = 0.12
"""After a key until nothing is painted any more."""


def keystroke(*, repeats: int) -> float:
    """Median CPU milliseconds of the thread that draws, 120x30, three cards; the exact plan comes later, elsewhere."""
    return asyncio.run(_typed(repeats))


async def _typed(repeats: int) -> float:
    services = Services(machine=lambda: REFERENCE_BOX)
    app = PanelApp(Wish("deepspeed", {}, Path("/tmp/t5panel-keystrokes")), services)
    async with app.run_test(size=(120, 30)) as pilot:
        while not app.screen.query(PlanPane) or app.screen.query_one(PlanPane).state.plan is None:
            await pilot.pause(0.05)
        app.screen.query_one(FormPane).focus_first()
        await pilot.press("1")
        editor = app.focused
        assert isinstance(editor, Input)
        with patch("t5panel.tui.screens.setup.PAUSE_SECONDS", 3600.0):
            return statistics.median([await _cost(editor, delete=bool(number % 2)) for number in range(repeats)])


async def _cost(editor: Input, *, delete: bool) -> float:
    begin = time.thread_time()
    if delete:
        editor.action_delete_left()
    else:
        editor.app.post_message(Key("2", "2"))
    await asyncio.sleep(SETTLED_SECONDS)
    return 1000 * (time.thread_time() - begin)
