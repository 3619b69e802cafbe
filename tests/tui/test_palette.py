"""The command palette: every key of a screen, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.binding import Binding
from textual.command import CommandList, CommandPalette
from textual.dom import DOMNode
from textual.pilot import Pilot

from t5panel.tui.app import PanelApp, told_once
from t5panel.tui.screens.compare import CompareScreen
from t5panel.tui.screens.log import LogScreen
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.runs import RunList, RunsScreen
from t5panel.tui.screens.setup import SetupScreen
from t5panel.tui.screens.stop import StopDialog
from t5panel.tui.widgets.methods import MethodList

from .panels import panel, planned, until
from .recorded import living


async def asked_for(pilot: Pilot[None], words: str) -> None:
    """Open the palette, type and take the first answer."""
    await pilot.press("ctrl+p")
    await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))
    await pilot.press(*words)
    await until(pilot, lambda: bool(pilot.app.screen.query_one(CommandList).option_count))
    await pilot.press("enter")  # once: a second one would answer what it opens
    await until(pilot, lambda: not isinstance(pilot.app.screen, CommandPalette))


async def test_a_key_of_the_screen_can_be_found_by_its_name(home: Path) -> None:
    living(home)
    async with panel().run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.view is not None)

        await asked_for(pilot, "stop")

        await until(pilot, lambda: isinstance(pilot.app.screen, StopDialog))


async def test_a_key_of_the_panel_works_from_every_screen() -> None:
    async with panel().run_test(size=(80, 24)) as pilot:
        await planned(pilot)

        await asked_for(pilot, "runs")

        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))


@pytest.mark.parametrize(
    "owner", [PanelApp, SetupScreen, MethodList, RunScreen, RunsScreen, RunList, CompareScreen, LogScreen]
)
def test_every_key_of_a_screen_says_what_it_does_and_so_is_in_help_and_palette(owner: type[DOMNode]) -> None:
    silent = [binding.description for binding in owner.BINDINGS if isinstance(binding, Binding) and not binding.tooltip]

    assert owner.BINDINGS
    assert silent == []


async def test_the_palette_lists_every_key_that_says_what_it_does() -> None:
    async with panel().run_test(size=(80, 24)) as pilot:
        await planned(pilot)
        screen = pilot.app.screen

        titles = {command.title.lower() for command in pilot.app.get_system_commands(screen)}

        keys = {active.binding.description for active in told_once(screen.active_bindings.values())}
        assert {"start", "copy", "runs", "help", "leave", "all settings"} <= keys
        assert {key.lower() for key in keys} <= titles
