"""Every screen in four sizes of a terminal, as text: one panel is resized, which also shows that nothing is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot

from t5panel.cells import width_of
from t5panel.contract.layout import RunDir
from t5panel.language import speak
from t5panel.plan.machine import Machine
from t5panel.tui.screens.help import HelpDialog
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.screens.runs import RunsScreen
from t5panel.tui.screens.save import SaveDialog
from t5panel.tui.widgets.form import ValueInput

from .panels import NO_CARDS, THREE_CARDS, THREE_NAMED_CARDS, panel, planned, screen_text, settled, until
from .recorded import DISK, SPIKE, STALL, diagnosed, finished, living, on_named_cards, paused, queued, tell
from .test_pictures import (
    answered,
    asked,
    compared,
    explained,
    listed,
    measured,
    opened_last,
    searched,
    watched,
)

Prepare = Callable[[Path], object]
Arrive = Callable[[Pilot[None]], Awaitable[None]]
SIZES = ((60, 15), (80, 24), (120, 30), (200, 60))


@dataclass(frozen=True)
class Scene:
    """What was there before the panel, its machine, and how to come to the screen."""

    prepare: Prepare
    machine: Machine
    arrive: Arrive


def nothing(_home: Path) -> None:
    """A home without runs."""


def several(home: Path) -> None:
    """One run in each state."""
    finished(home)
    diagnosed(home)
    paused(home, "20260101-140000-manual")
    living(home)


def three(home: Path) -> None:
    """Runs to compare."""
    diagnosed(home)
    finished(home)
    living(home, cards=3)


def troubled(home: Path) -> RunDir:
    """A run with every kind of alert."""
    return tell(living(home, cards=3), DISK, SPIKE, STALL)


def chatty(home: Path) -> None:
    """A run with a long log."""
    lines = (f"step {step}: 学习率 {1e-4 * step:.4f}, loss {6 - step / 100:.3f}" for step in range(400))
    living(home).rank_log(0).write_text("\n".join(lines))


async def edited(pilot: Pilot[None]) -> None:
    """A setting is being typed."""
    await planned(pilot)
    await pilot.press("e", "down", "backspace", "backspace", "4")
    await planned(pilot)
    assert isinstance(pilot.app.focused, ValueInput)


async def saved(pilot: Pilot[None]) -> None:
    """A name for a preset is being typed."""
    await planned(pilot)
    await pilot.press("p", *"news")
    await until(pilot, lambda: isinstance(pilot.app.screen, SaveDialog))


async def empty(pilot: Pilot[None]) -> None:
    """The list of runs, without any."""
    await planned(pilot)
    await pilot.press("3")
    await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen) and "no runs yet" in screen_text(pilot))


async def helped(pilot: Pilot[None]) -> None:
    """The keys of a run."""
    await watched(pilot)
    await pilot.press("question_mark")
    await until(pilot, lambda: isinstance(pilot.app.screen, HelpDialog))


async def commanded(pilot: Pilot[None]) -> None:
    """The palette."""
    await watched(pilot)
    await pilot.press("ctrl+p", *"zoom")
    await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette) and "Zoom in" in screen_text(pilot))


SCENES = {
    "setup of a rehearsal": Scene(nothing, NO_CARDS, planned),
    "setup with three cards": Scene(nothing, THREE_NAMED_CARDS, planned),
    "setup with a value being typed": Scene(nothing, THREE_NAMED_CARDS, edited),
    "a preset being saved": Scene(nothing, NO_CARDS, saved),
    "a run before its first step": Scene(queued, THREE_CARDS, watched),
    "a living run": Scene(lambda home: living(home, cards=3), THREE_CARDS, watched),
    "a run with alerts": Scene(troubled, THREE_CARDS, watched),
    "a finished run": Scene(finished, NO_CARDS, opened_last),
    "a failed run": Scene(diagnosed, THREE_CARDS, opened_last),
    "the details of a failure": Scene(diagnosed, THREE_CARDS, explained),
    "the figures of a run": Scene(lambda home: on_named_cards(living(home, cards=3)), THREE_NAMED_CARDS, measured),
    "the answers of a run": Scene(living, NO_CARDS, answered),
    "a log": Scene(chatty, NO_CARDS, searched),
    "the question before a stop": Scene(living, NO_CARDS, asked),
    "the list without runs": Scene(nothing, NO_CARDS, empty),
    "the list of runs": Scene(several, NO_CARDS, listed),
    "a comparison": Scene(three, NO_CARDS, compared),
    "the keys": Scene(living, NO_CARDS, helped),
    "the palette": Scene(living, NO_CARDS, commanded),
}


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places that are the same on every machine."""
    monkeypatch.setattr("t5panel.tui.screens.details.log_place", lambda _: "/runs/failed/logs/rank-1.log")
    monkeypatch.setattr("t5panel.tui.screens.run.PERIOD_SECONDS", 0.1)
    monkeypatch.setattr("t5panel.tui.screens.save.own_preset_path", lambda name: Path(f"/presets/{name}.yaml"))


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("name", SCENES)
async def test_a_screen_in_four_sizes(name: str, home: Path, snapshot: Any) -> None:  # noqa: ANN401 - syrupy's
    scene = SCENES[name]
    scene.prepare(home)
    async with panel(scene.machine).run_test(size=(120, 30)) as pilot:
        await scene.arrive(pilot)

        seen = {f"{width}x{height}": await at_size(pilot, width, height) for width, height in SIZES}

    assert "\n\n".join(f"{size}\n{text}" for size, text in seen.items()).replace(str(home), "/runs") == snapshot


async def at_size(pilot: Pilot[None], width: int, height: int) -> str:
    """What is on the screen once it has settled there."""
    await pilot.resize_terminal(width, height)
    return await settled(pilot)


async def test_chinese_texts_fit_into_their_lines(home: Path) -> None:
    speak("zh")
    try:
        troubled(home)
        app = panel(THREE_NAMED_CARDS)
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.view is not None)
            run = {width: await at_size(pilot, width, height) for width, height in SIZES}
            await pilot.press("1")
            await planned(pilot)
            setup = {width: await at_size(pilot, width, height) for width, height in SIZES}
    finally:
        speak("en")

    assert all("运行中" in text for text in run.values())
    assert all("方法" in text for text in setup.values())
    assert all(max(map(width_of, text.splitlines())) <= width for seen in (run, setup) for width, text in seen.items())
