"""The run screen as an SVG picture, drawn without a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from t5panel.contract.layout import RunDir
from t5panel.monitor.runs import read_info
from t5panel.tui.app import PanelApp
from t5panel.tui.messages import RunChosen
from t5panel.tui.screens.opening import OpeningScreen
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.view import RunView
from t5panel.wish import Wish

PATIENCE_SECONDS = 180.0
"""Ten million steps that nobody looked at yet are read in twenty."""


async def until(true: Callable[[], object]) -> None:
    """Let the panel work until something is so."""
    while not true():
        await asyncio.sleep(0.02)


def write_picture(run: RunDir, path: Path, *, width: int, height: int) -> None:
    """Draw the screen of a run in a terminal of `width` x `height` cells.

    Raises: OSError when the file cannot be written; T5PanelError when the run cannot be read; TimeoutError.
    """
    read_info(run)
    app = PanelApp(Wish("deepspeed", {}, None))

    async def draw(pilot: Pilot[object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await until(lambda: not isinstance(app.screen, OpeningScreen))
                app.post_message(RunChosen(run))
                await until(
                    lambda: isinstance(app.screen, RunScreen) and app.screen.run == run and _read(app.screen.view)
                )
                await pilot.pause()
            path.write_text(app.export_screenshot(title=run.run_id), encoding="utf-8")
        finally:
            app.exit()

    app.run(headless=True, size=(width, height), auto_pilot=draw)


def _read(view: RunView | None) -> bool:
    """Whether all of a run is in view: a long one comes by and by."""
    return view is not None and not view.snapshot.unread
