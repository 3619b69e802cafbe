"""What must be true of a run whatever happened to it, and the figures of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from t5panel.contract.checkpoints import checkpoints_of
from t5panel.contract.layout import RunDir
from t5panel.contract.records import Start, Step
from tests.faults.blows import BLOWS
from tests.faults.light import losses_until
from tests.faults.observed import is_whole, lines_of, load_words, metrics_of

LIMITS = {"stop": 10.0, "SIGTERM to the supervisor": 10.0, "stop --now": 3.0}
"""Seconds from a request to the end of the last process."""


@dataclass
class Report:
    """What one schedule, or many, came to."""

    schedules: int = 0
    passes: int = 0
    """Trainings of a real model with a kill, a stop and two resumes."""
    blows: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    """Blows with the reason why this machine cannot strike them."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """From each blow that ends a run to the end of its last process."""
    resumes: int = 0
    lines: int = 0
    deaths: int = 0
    """Failures whose cause was looked at."""
    faults: list[str] = field(default_factory=list)
    """Every broken promise, with the schedule that broke it."""

    def add(self, other: Report) -> None:
        """Count another report in."""
        self.schedules += other.schedules
        self.passes += other.passes
        self.blows += other.blows
        self.skipped += other.skipped
        for name, seconds in other.seconds.items():
            self.seconds.setdefault(name, []).extend(seconds)
        self.resumes += other.resumes
        self.lines += other.lines
        self.deaths += other.deaths
        self.faults += other.faults

    def took(self, name: str, seconds: float) -> None:
        """Note how long an end took; too long is a broken promise, however much else the machine does."""
        self.seconds.setdefault(name, []).append(seconds)
        if seconds > LIMITS.get(name, math.inf):
            self.faults.append(f"{name} took {seconds:.1f} s ({load_words()})")

    def slowest(self, *names: str) -> float | None:
        """Seconds of the slowest end after one of these blows."""
        return max((seconds for name in names for seconds in self.seconds.get(name, ())), default=None)

    def figures(self) -> dict[str, object]:
        """The same as JSON has it."""
        others = [name for name in self.seconds if name not in LIMITS]
        return {
            "schedules": self.schedules,
            "full_passes": self.passes,
            "blows": sum(self.blows.values()),
            "resumes": self.resumes,
            "deaths_explained": self.deaths,
            "metric_records": self.lines,
            "broken_promises": self.faults,
            "slowest_stop_seconds": self.slowest("stop", "SIGTERM to the supervisor"),
            "slowest_stop_now_seconds": self.slowest("stop --now"),
            "slowest_other_end_seconds": self.slowest(*others),
            "skipped": dict(self.skipped),
            "by_blow": dict(sorted(self.blows.items())),
        }


def look_at_files(run: RunDir, report: Report) -> None:
    """Every record that was written is there, every checkpoint is what it says, every loss is that of its step."""
    damage = lines_of(run.cache / "damage")
    metrics = metrics_of(run)
    steps = [metric for metric in metrics if isinstance(metric, Step)]
    recorded = Counter(step.step for step in steps)
    noted = Counter(int(line) for line in lines_of(run.cache / "steps"))
    lost = sorted((noted - recorded).elements())
    starts = sum(isinstance(metric, Start) for metric in metrics)
    if len(lost) > starts + damage.count(b"the last record"):  # at each death the one that was being written
        report.faults.append(f"records lost: {lost}")
    report.lines += len(steps)
    expected = losses_until(max(noted, default=0))
    finite = [(step.step, step.loss) for step in steps if step.loss is not None]
    wrong = [step for step, loss in finite if not math.isclose(loss, expected[step - 1], abs_tol=1e-5)]
    if wrong:
        report.faults.append(f"steps with another loss than an unbroken run's: {wrong[:5]}")
    damaged = [folder.name for folder in checkpoints_of(run) if not is_whole(folder)]
    if unexplained := [name for name in damaged if name.encode() not in damage]:
        report.faults.append(f"checkpoints that are none: {unexplained}")


def summary_lines(report: Report) -> list[str]:
    """The figures of a campaign, for people."""

    def at_most(seconds: float | None) -> str:
        return "none" if seconds is None else f"{seconds:.1f} s"

    others = report.slowest(*(name for name in report.seconds if name not in LIMITS))
    return [
        f"schedules {report.schedules}, full passes {report.passes}, "
        f"blows {sum(report.blows.values())}, resumes {report.resumes}",
        f"broken promises {len(report.faults)}",
        f"causes of death looked at {report.deaths}, metric records {report.lines:,}",
        f"slowest stop {at_most(report.slowest('stop', 'SIGTERM to the supervisor'))}, "
        f"slowest stop --now {at_most(report.slowest('stop --now'))}",
        f"slowest end after any other blow {at_most(others)}",
        *(f"  {report.blows[name]:4} × {name}" for name in BLOWS if name in report.blows),
        *(f"  {count:4} × not struck: {why}" for why, count in sorted(report.skipped.items())),
    ]
