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
from dataclasses import dataclass
from pathlib import Path

from t5panel import __version__
from t5panel.contract.layout import RunDir
from t5panel.contract.versions import installed_versions
from t5panel.monitor.hardware import process_memory
from t5panel.monitor.watch import watch
from t5panel.session import prospect, request_stop, start
from t5panel.wish import Wish
from tests.benchmarks.keystrokes import keystroke
from tests.benchmarks.plots import drawing, reopening, written_run
from tests.house.household import House, ended, eventually, supervisor_pid

RANKS = ("guarded", "guarded", "guarded")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One measured value and its bar, in the same unit."""

    what: str
    value: float
    bar: float
    unit: str
    how: str

    @property
    def row(self) -> str:
        """The figure as a line of the table."""
        verdict = "ok" if self.value <= self.bar else "OVER"
        return f"{self.what:24}{self.value:9.2f} ≤ {self.bar:<6g}{self.unit:11}{verdict:6}{self.how}"


def command_cost(words: tuple[str, ...], env: Mapping[str, str], *, repeats: int) -> float:
    """Least CPU milliseconds, user and system, of a `t5panel` command."""
    return min(_cpu_milliseconds(words, env) for _ in range(repeats))


def _cpu_milliseconds(words: tuple[str, ...], env: Mapping[str, str]) -> float:
    with subprocess.Popen(
        [sys.executable, "-m", "t5panel", *words], env={**os.environ, **env}, stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return 1000 * (usage.ru_utime + usage.ru_stime)


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
    begin = _cpu_ticks(pid)
    time.sleep(seconds)
    return 100 * (_cpu_ticks(pid) - begin) / TICKS_PER_SECOND / seconds


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return (process_memory(pid) or (0, 0))[0] / 2**20


def measure(house: House, *, quick: bool) -> Iterator[Figure]:
    """All figures."""
    repeats, seconds, steps = (1, 2.0, 20_000) if quick else (7, 60.0, 1_000_000)
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
    yield from plotted_run(house.home / "long", steps, repeats=repeats)
    if not quick:
        yield rehearsed_rank()


def plotted_run(path: Path, steps: int, *, repeats: int) -> Iterator[Figure]:
    """A run with a row for every step, opened by a front and drawn at several scales."""
    log, seconds = reopening(written_run(path, steps))
    yield Figure("reopen a long run", seconds, 1, "s CPU", f"{steps:,} rows of metrics")
    cost = drawing(log, repeats=repeats)
    yield Figure("plot of a long run", cost, 8, "ms CPU", f"120x30, {steps:,} rows, dearest of 5 scales")


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


if __name__ == "__main__":
    main(sys.argv[1:])
