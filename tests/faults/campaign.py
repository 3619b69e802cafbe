"""The fault campaign: `python -m tests.faults.campaign` breaks runs and counts what it cost.

A schedule is one run on three CPU ranks under a real launcher and a real supervisor, hit by one to three blows, each
followed by a resume. Its seed gives the schedule; the moment of a blow within it is as good as the machine's clock.
The whole campaign is 200 schedules, every blow once on every launcher, and a training of a real model with each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from t5panel import __version__
from t5panel.contract.layout import RunDir
from t5panel.monitor.proc import Process, descendants, is_alive, marked, read_process
from t5panel.monitor.runs import RunState, read_state
from t5panel.session import resume, spawn_supervisor
from tests.faults.blows import BLOWS, PRESETS, Blow
from tests.faults.observed import (
    RANKS,
    START_SECONDS,
    Stage,
    await_stage,
    await_start,
    await_steps,
    load_words,
    newest_step,
    starts_of,
    within,
)
from tests.faults.passes import FullPass
from tests.faults.promises import Report, look_at_files, summary_lines
from tests.faults.small_disk import small_disk
from tests.house.household import House, supervisor_pid

END_SECONDS, GONE_SECONDS, GOES_ON_SECONDS = 60.0, 10.0, 30.0
LONGEST_START_UP_SECONDS = 6.0
"""After it a run has made its first steps, or is late."""
MANNERS = ("plain", "plain", "ignores-term", "forks")
PARTS = ("schedules", "blows", "passes")
LIBRARIES = ("torch", "accelerate", "deepspeed", "transformers")


@dataclass(frozen=True)
class Hit:
    """One blow of a schedule."""

    name: str
    stage: Stage
    rank: int
    delay: float
    """Of a blow during the start-up: seconds after it began."""

    @property
    def blow(self) -> Blow:
        """What is done."""
        return BLOWS[self.name]

    def __str__(self) -> str:
        return f"{self.name} at {self.stage}"


@dataclass(frozen=True)
class Schedule:
    """What happens to one run of light ranks."""

    name: str
    preset: str
    manner: str
    """How hard one of the ranks is to end."""
    hits: tuple[Hit, ...]

    def carry_out(self, home: Path) -> Report:
        """Let it happen, and look after every blow whether all promises hold."""
        return carry_out(self, home)


def hit_of(name: str, dice: random.Random) -> Hit:
    """A blow at one of its moments."""
    stage = dice.choice(BLOWS[name].stages)
    return Hit(name, stage, dice.randrange(RANKS), dice.uniform(0, LONGEST_START_UP_SECONDS))


def blows_of(preset: str) -> list[str]:
    """The names of all blows that a launcher can meet."""
    return [name for name, blow in BLOWS.items() if preset in blow.presets]


def schedule_of(seed: int) -> Schedule:
    """The schedule that a seed stands for."""
    dice = random.Random(seed)
    preset = PRESETS[seed % len(PRESETS)]
    hits = tuple(hit_of(dice.choice(blows_of(preset)), dice) for _ in range(dice.choice((1, 1, 2, 3))))
    return Schedule(f"seed {seed}", preset, dice.choice(MANNERS), hits)


def every_blow(seed: int) -> list[Schedule]:
    """Each blow once on every launcher that has it."""
    dice = random.Random(seed)
    pairs = [(preset, name) for preset in PRESETS for name in blows_of(preset)]
    return [
        Schedule(f"blow {number}", preset, "plain", (hit_of(name, dice),))
        for number, (preset, name) in enumerate(pairs, start=1)
    ]


def subset(seed: int) -> list[Schedule]:
    """One schedule per launcher; every kind of blow comes up in one of them."""
    dice = random.Random(seed)
    kinds: dict[str, list[str]] = {}
    for name, blow in BLOWS.items():
        if blow.presets == PRESETS and "watchdog" not in name:  # that one takes a minute
            kinds.setdefault(blow.kind, []).append(name)
    names = [dice.choice(alike) for alike in kinds.values()]
    dice.shuffle(names)
    return [
        Schedule(f"subset {seed}", preset, manner, tuple(hit_of(name, dice) for name in names[number :: len(PRESETS)]))
        for number, (preset, manner) in enumerate(zip(PRESETS, ("plain", "ignores-term", "forks"), strict=True))
    ]


def carry_out(schedule: Schedule, home: Path) -> Report:
    """Let a schedule happen, and look after every blow whether all promises hold."""
    report = Report(schedules=1)
    house = House(home, {})
    run = house.fake_run("waits", *["light"] * RANKS, name="run")
    house.launched_by(run, schedule.preset, "tests.faults.light")
    (run.cache / f"manner-{hard_rank(schedule)}").write_text(schedule.manner)
    hits = [hit for hit in schedule.hits if not hit.blow.unavailable()]
    report.skipped.update(why for hit in schedule.hits if (why := hit.blow.unavailable()))
    with contextlib.ExitStack() as stack:
        stack.callback(kill_all, run)
        try:
            if any(hit.blow.small_disk for hit in hits):
                stack.enter_context(small_disk(run.checkpoints))
            spawn_supervisor(run)
            for hit in hits:
                strike(run, hit, report)
            finish(run, report)
        except (TimeoutError, AssertionError, OSError) as error:
            report.faults.append(f"{type(error).__name__}: {error}; {read_state(run).message} ({load_words()})")
    told = "; ".join(map(str, schedule.hits))
    report.faults = [f"{schedule.name} ({schedule.preset}: {told}): {fault}" for fault in report.faults]
    return report


def hard_rank(schedule: Schedule) -> int:
    """The rank that is hard to end: none to which SIGTERM alone is sent, for then nothing would happen."""
    asked = {hit.rank for hit in schedule.hits if hit.name == "SIGTERM to a rank"}
    candidates: tuple[int, ...] = (len(schedule.hits) % RANKS, *range(RANKS), RANKS)
    return next(rank for rank in candidates if rank not in asked)


def kill_all(run: RunDir) -> None:
    """Leave nothing of a run alive, whatever it did."""
    for pid in marked(run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def strike(run: RunDir, hit: Hit, report: Report) -> None:
    """One blow at its stage, what must be true after it, and a resume where it ended the run."""
    await_stage(run, hit.stage, hit.delay)
    blow, family = hit.blow, family_of(run)
    begin = time.monotonic()
    blow.act(run, hit.rank)
    report.blows[hit.name] += 1
    if blow.ends == "goes on":
        await_steps(run, 10, seconds=START_SECONDS if hit.stage == "start-up" else GOES_ON_SECONDS)
        if read_state(run).alive:
            return
    within(lambda: not read_state(run).alive, seconds=END_SECONDS)
    within(lambda: not alive_of(run, family), seconds=GONE_SECONDS)
    report.took(hit.name, time.monotonic() - begin)
    look_at_end(hit, read_state(run), report)
    look_at_files(run, report)
    start_again(run, report)


def family_of(run: RunDir) -> list[Process]:
    """Every process that descends from the run's supervisor."""
    return [found for pid in descendants(supervisor_pid(run)) if (found := read_process(pid)) is not None]


def alive_of(run: RunDir, family: Iterable[Process]) -> set[int]:
    """What lives of a run: by its mark, and by descent before the blow."""
    return {*marked(run), *(one.pid for one in family if is_alive(one.pid, one.start_time))}


def look_at_end(hit: Hit, state: RunState, report: Report) -> None:
    """A run that ended did so as this blow lets one end, and says why."""
    blow = hit.blow
    if state.phase != blow.ends:
        report.faults.append(f"{hit}: {state.phase}, not {blow.ends}: {state.message}")
    elif state.phase == "failed":
        report.deaths += 1
        cause = state.diagnosis.code if state.diagnosis else "none"
        if cause not in blow.causes:
            report.faults.append(f"{hit}: the cause is said to be {cause}: {state.message}")


def start_again(run: RunDir, report: Report) -> None:
    """Resume, and see that it goes on from the newest complete checkpoint."""
    expected, before = newest_step(run), len(starts_of(run))
    resume(run)
    report.resumes += 1
    if wrong := await_start(run, before, expected):
        report.faults.append(wrong)


def finish(run: RunDir, report: Report) -> None:
    """Let the run come to its end."""
    (run.cache / "enough").touch()
    within(lambda: not read_state(run).alive, seconds=START_SECONDS)
    state = read_state(run)
    if state.phase != "finished":
        report.faults.append(f"did not finish: {state.phase}: {state.message}")
    within(lambda: not marked(run), seconds=GONE_SECONDS)
    look_at_files(run, report)


def campaign(tasks: Sequence[Schedule | FullPass], home: Path, *, jobs: int, say: Callable[[str], object]) -> Report:
    """Many schedules, some at a time."""
    total = Report()
    with ThreadPoolExecutor(jobs) as pool:
        begun = {pool.submit(task.carry_out, home / str(number)): task for number, task in enumerate(tasks)}
        for number, done in enumerate(as_completed(begun), start=1):
            task, report = begun[done], done.result()
            total.add(report)
            for fault in report.faults:
                say(f"BROKEN {fault}")
            say(f"{number}/{len(tasks)} {task.name}: {sum(total.blows.values())} blows, {len(total.faults)} broken")
    return total


def tasks_of(parts: Iterable[str], *, schedules: int, seed: int) -> list[Schedule | FullPass]:
    """All that a campaign does."""
    everything: dict[str, Sequence[Schedule | FullPass]] = {
        "schedules": [schedule_of(number) for number in range(seed, seed + schedules)],
        "blows": every_blow(seed),
        "passes": [FullPass(preset, seed) for preset in PRESETS],
    }
    return [task for part in PARTS if part in parts for task in everything[part]]


def circumstances() -> dict[str, object]:
    """When and on what: without it figures say nothing."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "t5panel": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
    }


def main() -> int:
    """Run the campaign of the command line; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first schedule")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given several times")
    parser.add_argument("--shard", default="1/1", help="I/N: the I-th of N parts of it all")
    parser.add_argument("--jobs", type=int, default=max(2, (os.cpu_count() or 2) // 3))
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args()
    shard, shards = map(int, wanted.shard.split("/"))
    tasks = tasks_of(wanted.only or PARTS, schedules=wanted.schedules, seed=wanted.seed)[shard - 1 :: shards]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup every launcher would be deaf to it
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ |= {f"XDG_{kind}_HOME": home for kind in ("STATE", "CACHE", "CONFIG")}
        report = campaign(tasks, Path(home), jobs=wanted.jobs, say=lambda line: sys.stderr.write(line + "\n"))
    around = {
        **circumstances(),
        "seed": wanted.seed,
        "shard": wanted.shard,
        "jobs": wanted.jobs,
        "seconds": round(time.monotonic() - begin),
    }
    if wanted.json:
        sys.stdout.write(json.dumps({**around, **report.figures()}, indent=1) + "\n")
    else:
        words = ", ".join(f"{name} {value}" for name, value in around.items())
        sys.stdout.write("\n".join([words, *summary_lines(report)]) + "\n")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
