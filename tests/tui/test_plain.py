"""ASCII only: no cell of any screen holds anything else."""

from __future__ import annotations

from pathlib import Path

from textual.command import CommandPalette
from textual.pilot import Pilot

from t5panel.tui.screens.compare import CompareScreen
from t5panel.tui.screens.details import DetailsDialog
from t5panel.tui.screens.help import HelpDialog
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.runs import RunsScreen

from .panels import THREE_NAMED_CARDS, panel, planned, screen_text, until
from .recorded import STALL, diagnosed, finished, living, tell


def strangers(pilot: Pilot[None]) -> set[str]:
    """What is on the screen and no ASCII."""
    return {character for character in screen_text(pilot) if not character.isascii()}


async def test_every_screen_is_drawn_in_ascii_alone(home: Path) -> None:
    finished(home)
    diagnosed(home)
    tell(living(home, cards=3), STALL)
    (home / "20260101-130000-manual" / "logs" / "rank-0.log").write_text("批次 é ▁▂▃ \N{PARTY POPPER}\n")
    app = panel(THREE_NAMED_CARDS, plain=True)
    async with app.run_test(size=(120, 30)) as pilot:

        async def seen(kind: type, *keys: str) -> str:
            await pilot.press(*keys)
            await until(pilot, lambda: isinstance(app.screen, kind))
            await pilot.pause(0.1)
            assert strangers(pilot) == set()
            return screen_text(pilot)

        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.view is not None)
        run = await seen(RunScreen, "plus", "x")
        await seen(DetailsDialog, "d")
        await seen(HelpDialog, "escape", "question_mark")
        await seen(CommandPalette, "escape", "ctrl+p")
        await seen(RunsScreen, "escape", "3", "space", "space")
        compared = await seen(CompareScreen, "c")
        await pilot.press("escape", "1")
        await planned(pilot)
        setup = await seen(type(app.screen), "e")

    assert "????" in run, "two for each wide character"
    assert "|" in run
    assert "/" in compared
    assert "8 x 16 x 3 = 384" in setup
    assert "?" not in setup.replace("? help", "")
