"""Panels for tests: on a described machine, with fixed ports and paths, starting nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textual.geometry import Region
from textual.pilot import Pilot
from textual.widget import Widget

from t5panel.contract.layout import RunDir
from t5panel.launch.commands import command_for
from t5panel.plan.machine import Machine, parse_machine
from t5panel.session import Prospect, prospect
from t5panel.tui.app import PanelApp
from t5panel.tui.services import Services
from t5panel.tui.widgets.plan_pane import PlanPane, PlanState
from t5panel.wish import Wish

from .recorded import CREATED

NO_CARDS = Machine((), ram_limit=12 * 2**30, cores=8)
THREE_CARDS = parse_machine("3x20GiB,12GiB", cores=8)
THREE_NAMED_CARDS = parse_machine("3xRTX 3080 20GiB,12GiB", cores=8)
ONE_SMALL_CARD = parse_machine("1x20GiB,3GiB", cores=8)
NOW = CREATED + 3 * 3600 + 300
WAIT_SECONDS = 20.0
CALM = 4
"""Looks that see the same before a screen counts as settled: a run is looked at in between."""


@dataclass
class Starts:
    """Takes starts instead of a supervisor."""

    run: RunDir | None = None
    asked: list[Prospect] = field(default_factory=list)
    queued: list[bool] = field(default_factory=list)

    def __call__(self, prospect: Prospect, queue: bool, _tell: Callable[[str], None]) -> RunDir:
        """Remember what would start."""
        self.asked.append(prospect)
        self.queued.append(queue)
        return self.run or prospect.run


def panel(
    machine: Machine = NO_CARDS,
    *,
    preset: str = "deepspeed",
    starts: Starts | None = None,
    plain: bool = False,
    **overrides: object,
) -> PanelApp:
    """A panel on this machine; overrides with `__` for dots."""
    values: Mapping[str, Any] = {key.replace("__", "."): value for key, value in overrides.items()}
    services = Services(machine=lambda: machine, prospect=steady_prospect, start=starts or Starts(), clock=lambda: NOW)
    return PanelApp(Wish(preset, values, Path("/runs/next")), services, plain=plain)


def steady_prospect(wish: Wish, machine: Machine) -> Prospect:
    """A prospect that is the same on every machine."""
    found = prospect(wish, machine=machine)
    command = command_for(found.plan.spec, found.run, port=29500, cores=machine.cores)
    return replace(found, command=replace(command, argv=("/usr/bin/python3", *command.argv[1:])))


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Let the panel work until something is so."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not true():
            await pilot.pause(0.02)
    await pilot.pause()


async def planned(pilot: Pilot[None]) -> None:
    """The setup is there and shows its plan."""

    def ready() -> bool:
        panes = pilot.app.screen.query(PlanPane)
        state = panes.first().state if panes else PlanState(pending=True)
        return not state.pending and (state.plan is not None or bool(state.faults))

    await until(pilot, ready)


def shown(pilot: Pilot[None], kind: type[Widget]) -> str:
    """The text that a widget shows, row by row."""
    region = pilot.app.screen.query_one(kind).region
    lines = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.crop(region.x, region.right).text.rstrip() for strip in lines[region.y : region.bottom])


def screen_text(pilot: Pilot[None]) -> str:
    """All that is on the screen."""
    return "\n".join(strip.text.rstrip() for strip in pilot.app.screen._compositor.render_strips())


async def settled(pilot: Pilot[None]) -> str:
    """What is on the screen once it stays the same."""
    seen = [""]
    async with asyncio.timeout(WAIT_SECONDS):
        while len(seen) <= CALM or len(set(seen[-CALM:])) > 1:
            await pilot.pause(0.06)
            seen.append(front_text(pilot))
    return seen[-1]


def front_text(pilot: Pilot[None]) -> str:
    """What is on the screen; of a dialog or the palette without what it covers, which is drawn when it likes."""
    front = [
        part.region for part in pilot.app.screen.query(".dialog, CommandPalette #--input, CommandPalette CommandList")
    ]
    if not front:
        return screen_text(pilot)
    region, strips = Region.from_union(front), pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.crop(region.x, region.right).text.rstrip() for strip in strips[region.y : region.bottom])
