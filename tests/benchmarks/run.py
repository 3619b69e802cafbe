"""What t5panel itself costs, against its bars: `python -m tests.benchmarks.run [--quick]`. Prints; asserts nothing."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from t5panel import __version__
from t5panel.contract.layout import RunDir
from t5panel.contract.versions import installed_versions
from t5panel.monitor.watch import watch
from t5panel.session import prospect, request_stop, start
from t5panel.wish import Wish
from tests.benchmarks.cost import cpu_milliseconds
from tests.benchmarks.figure import Figure
from tests.benchmarks.keystrokes import keystroke
from tests.benchmarks.panel import panel_figures
from tests.benchmarks.screen import cpu_seconds, resident_mib
from tests.house.household import House, ended, eventually, supervisor_pid

RANKS = ("guarded", "guarded", "guarded")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def command_cost(words: tuple[str, ...], env: Mapping[str, str], *, repeats: int) -> float:
    """Least CPU milliseconds, user and system, of a `t5panel` command."""
    return min(cpu_milliseconds((sys.executable, "-m", "t5panel", *words), env) for _ in range(repeats))


@contextmanager
def watched_run(house: House) -> Iterator[tuple[RunDir, int]]:
    """A run of three fake ranks under a real supervisor, followed by a headless front, whose pid is given."""
    run = house.started("waits", *RANKS)
    with subprocess.Popen(
        [sys.executable, "-m", "t5panel", "attach", run.run_id],
        env={**os.environ, **house.env},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as front:
        yield run, front.pid
        request_stop(run, now=True)
        ended(run)


def cpu_share(pid: int, seconds: float) -> float:
    """Percent of one core that a process takes over some seconds."""
    begin = cpu_seconds(pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - begin) / seconds


def measure(house: House, *, quick: bool) -> Iterator[Figure]:
    """All figures."""
    repeats, seconds, steps = (1, 2.0, 20_000) if quick else (7, 30.0, 10_000_000)
    for bar, words in ((150, ("--version",)), (400, ("plan", "--preset", "deepspeed", "--json"))):
        cost = command_cost(words, house.env, repeats=repeats)
        yield Figure(f"t5panel {words[0]}", cost, bar, "ms CPU", f"t5panel {' '.join(words)}, best of {repeats}")
    with watched_run(house) as (run, front):
        supervisor = supervisor_pid(run)
        eventually(lambda: run.samples.exists() and run.samples.stat().st_size > 0)
        share = cpu_share(supervisor, seconds)
        yield Figure("supervisor, sampling", share, 0.5, "% of core", f"1 Hz over {seconds:.0f} s, 3 ranks")
        yield Figure("supervisor", resident_mib(supervisor), 20, "MiB RSS", f"after {seconds:.0f} s, no NVIDIA driver")
        yield Figure("headless front", resident_mib(front), 60, "MiB RSS", f"t5panel attach, after {seconds:.0f} s")
    cost = keystroke(repeats=40 if not quick else 4)
    yield Figure("keystroke in the setup", cost, 16, "ms CPU", "to the painted plan, 120x30, 3 cards, median")
    yield from panel_figures(house, steps, repeats=repeats, seconds=seconds)
    if not quick:
        yield rehearsed_rank()


def rehearsed_rank() -> Figure:
    """The largest rank of a short rehearsal of the method that needs most."""
    wish = Wish("deepspeed", {"device": "cpu", "train.max_steps": 3})
    run = start(prospect(wish))
    *_, last = watch(run)
    peaks = last.result.peak_rss_per_rank if last.result else ()
    how = f"peak of {len(peaks)} ranks, deepspeed, 3 steps, evaluation, checkpoint"
    return Figure("rank of the rehearsal", max(peaks, default=math.inf) / 2**20, 500, "MiB RSS", how)


def main(words: list[str]) -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder), {f"XDG_{kind.upper()}_HOME": f"{folder}/{kind}" for kind in ("state", "cache")})
        os.environ.update(house.env)
        versions = " ".join(f"{name} {version}" for name, version in installed_versions().items())
        sys.stdout.write(f"t5panel {__version__} on {platform.machine()}, {os.cpu_count()} cores: {versions}\n")
        for figure in measure(house, quick="--quick" in words):
            sys.stdout.write(figure.row + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
