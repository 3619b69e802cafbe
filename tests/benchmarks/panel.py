"""What the panel costs on a terminal: its first frame, a run of any length, and a second of a living run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.monitor.history import History
from tests.benchmarks.cost import cpu_milliseconds
from tests.benchmarks.figure import Figure
from tests.benchmarks.player import played
from tests.benchmarks.plots import comparing, drawing, reopening, with_steps
from tests.benchmarks.screen import Screen, shown
from tests.house.household import House

RECORDING = Path(__file__).parent.parent / "data" / "recorded-run"
PANEL = (sys.executable, "-m", "t5panel")
FIRST_FRAME = "reading the machine"
PLOT = "Loss per target token"
SETUP = "rows a step"
SETTLING_SECONDS = 5.0


def recorded_run(house: House, name: str) -> RunDir:
    """A recorded run among the runs of a home, which lives as soon as it is played."""
    run = RunDir(Path(shutil.copytree(RECORDING, house.run_path(name))))
    run.result.unlink()
    return run


def panel_figures(house: House, steps: int, *, repeats: int, seconds: float) -> Iterator[Figure]:
    """All figures of the panel; `steps` is the length of the longer one of two runs."""
    yield from first_frames(house, repeats=repeats)
    yield the_setup(house, seconds)
    short, long = recorded_run(house, "20260101-120000-short"), recorded_run(house, "20260101-110000-long")
    with played(short):
        yield from a_living_run(house, "80 steps", seconds)
    shutil.rmtree(short.path)
    with_steps(long, steps // 10)
    yield from reopened(long, steps // 10, bar=1.0)
    with_steps(long, steps)
    yield from reopened(long, steps, bar=1.5)
    cost = drawing(History(long).refresh().steps, repeats=repeats)
    yield Figure("plot, any scale", cost, 8, "ms CPU", f"120x30, {steps:,} rows, dearest of 5 scales")
    with played(long):
        yield from a_living_run(house, f"{steps:,} steps", seconds)


def first_frames(house: House, *, repeats: int) -> Iterator[Figure]:
    """The first frame by itself and against the import that no Textual program can do without."""
    costs = []
    for _ in range(repeats):
        with shown(PANEL, house.env) as screen:
            costs.append(screen.until(FIRST_FRAME).cpu)
    least = min(cpu_milliseconds((sys.executable, "-c", "import textual.app"), house.env) for _ in range(repeats))
    how = f"best of {repeats}, in a terminal of 120x30"
    yield Figure("first frame", min(costs), 350, "ms CPU", how)
    yield Figure(
        "first frame, relative", min(costs) / least, 2.0, "times", f"`import textual.app` takes {least:.0f} ms"
    )


def the_setup(house: House, seconds: float) -> Figure:
    """The setup without a run, once its plan is there."""
    with shown(PANEL, house.env) as screen:
        screen.until(SETUP)
        screen.rest(min(SETTLING_SECONDS, seconds))
        return Figure("setup screen", screen.resident, 60, "MiB RSS", "no card, no run")


def a_living_run(house: House, what: str, seconds: float) -> Iterator[Figure]:
    """The run screen from its start, then left alone."""
    with shown(PANEL, house.env) as screen:
        begun = screen.until(FIRST_FRAME, PLOT)
        screen.rest(min(SETTLING_SECONDS, seconds))
        rate = screen.rest(seconds)
        yield Figure("run screen drawn", begun.cpu, 900, "ms CPU", f"{what}, {begun.written / 1e3:.0f} kB written")
        yield Figure("run screen", screen.resident, 60, "MiB RSS", what)
        yield Figure("run screen, 1 Hz", rate.cpu, 3, "% of core", f"{what}, over {seconds:.0f} s")
        yield Figure("run screen, 1 Hz", rate.written / 1e3, 10, "kB/s", "to a terminal of all colours")
        screen.press("1")
        yield hidden(screen, seconds)


def hidden(screen: Screen, seconds: float) -> Figure:
    """A living run behind the setup."""
    screen.until(SETUP)
    screen.rest(min(SETTLING_SECONDS, seconds))
    rate = screen.rest(seconds)
    return Figure("run behind the setup", rate.written / 1e3, 0, "kB/s", f"{rate.cpu:.2f} % of a core")


def reopened(run: RunDir, steps: int, *, bar: float) -> Iterator[Figure]:
    """Read by a view that is the first to do so, by the next one, and by a comparison."""
    run.bookmark.unlink(missing_ok=True)
    first, again, compared = reopening(run), reopening(run), comparing(run)
    yield Figure("reopen a run", again, bar, "s CPU", f"{steps:,} steps; read for the first time: {first:.2f} s")
    yield Figure("compare it", compared, bar, "s CPU", f"{steps:,} steps, opened before")
