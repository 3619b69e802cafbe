"""The fault campaign: `python -m tests.faults.campaign --schedules 200 --seed 1` breaks runs and counts what it cost.

A schedule is one run on three CPU ranks under a real launcher and a real supervisor, hit by one to three blows, each
followed by a resume. Its seed gives the schedule; the moment of a blow within it is as good as the machine's clock.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Event, Metric, RankId, Start, Status, Step
from t5panel.monitor.proc import descendants, is_alive, marked
from t5panel.monitor.runs import RunState, read_state
from t5panel.session import request_stop, resume, spawn_supervisor
from tests.house.household import House, eventually, supervisor_pid

RANKS = 3
PRESETS = ("manual", "trainer", "deepspeed")
START_SECONDS, END_SECONDS = 120.0, 60.0

Stage = Literal["start-up", "steps", "saving", "evaluating"]
Phase = Literal["failed", "stopped"]


@dataclass(frozen=True)
class Blow:
    """One thing that happens to a run: who does it, how the run may end, and what may be said to be the cause."""

    act: Callable[[RunDir, int], object]
    ends: Phase
    causes: Collection[str] = ()
    stages: tuple[Stage, ...] = ("steps", "saving", "evaluating")
    presets: tuple[str, ...] = PRESETS


def signal_rank(number: signal.Signals) -> Callable[[RunDir, int], None]:
    """A signal to one rank."""
    return lambda run, rank: os.kill(ranks_of(run)[rank].pid, number)


def signal_launcher(number: signal.Signals) -> Callable[[RunDir, int], None]:
    """A signal to the launcher."""

    def act(run: RunDir, _rank: int) -> None:
        state = read_state(run).state
        assert state is not None
        assert state.launcher is not None
        os.kill(state.launcher.pid, number)

    return act


def signal_supervisor(number: signal.Signals) -> Callable[[RunDir, int], None]:
    """A signal to the supervisor."""
    return lambda run, _rank: os.kill(supervisor_pid(run), number)


def kill_agent(run: RunDir, _rank: int) -> None:
    """SIGKILL to what deepspeed's runner starts: the parent of the ranks."""
    status = Path(f"/proc/{ranks_of(run)[0].pid}/status").read_text()
    os.kill(int(status.split("PPid:")[1].split()[0]), signal.SIGKILL)


def freeze_and_stop_now(run: RunDir, rank: int) -> None:
    """A rank that stands still, until the user loses patience."""
    os.kill(ranks_of(run)[rank].pid, signal.SIGSTOP)
    time.sleep(1.0)
    request_stop(run, now=True)


def trouble(name: str) -> Callable[[RunDir, int], None]:
    """Something that goes wrong within a rank."""
    return lambda run, rank: write_trouble(run, rank, name)


def write_trouble(run: RunDir, rank: int, name: str) -> None:
    """Have a light rank do something wrong at its next step."""
    draft = run.cache / f"draft-{rank}"
    draft.write_text(name)
    draft.replace(run.cache / f"trouble-{rank}")


def lose_the_loss(run: RunDir, _rank: int) -> None:
    """A loss that is not finite from now on; the user hears of it and stops."""
    for rank in range(RANKS):
        write_trouble(run, rank, "nan")
    eventually(lambda: any(event.name == "not-finite" for event in events_of(run)), seconds=5)
    for rank in range(RANKS):
        (run.cache / f"trouble-{rank}").unlink()
    request_stop(run, now=False)


def hang_and_stop_now(run: RunDir, rank: int) -> None:
    """A rank that waits for something that never comes, until the user loses patience."""
    write_trouble(run, rank, "hang")
    time.sleep(1.0)
    request_stop(run, now=True)


SIGNALLED = {"launcher-signalled", "launcher-killed", "interrupted"}
BLOWS: dict[str, Blow] = {
    "SIGKILL to a rank": Blow(signal_rank(signal.SIGKILL), "failed", {"killed"}),
    "SIGTERM to a rank": Blow(signal_rank(signal.SIGTERM), "failed", {"killed"}),
    "a rank crashes": Blow(trouble("segfault"), "failed", {"crashed"}, stages=("steps",)),
    "a rank exits": Blow(trouble("exit"), "failed", {"silent-exit"}, stages=("steps",)),
    "a rank freezes": Blow(freeze_and_stop_now, "stopped"),
    "a rank hangs": Blow(hang_and_stop_now, "stopped", stages=("steps",)),
    "CUDA out of memory (fake)": Blow(trouble("oom"), "failed", {"cuda-out-of-memory"}, stages=("steps",)),
    "NCCL without shared memory (fake)": Blow(trouble("nccl-shm"), "failed", {"nccl-shared-memory"}, stages=("steps",)),
    "a bad row": Blow(trouble("row"), "failed", {"data-row"}, stages=("steps",)),
    "NaN loss": Blow(lose_the_loss, "stopped", stages=("steps",)),
    "SIGKILL to the launcher": Blow(
        signal_launcher(signal.SIGKILL),
        "failed",
        {"launcher-killed"},
        stages=("start-up", "steps", "saving", "evaluating"),
    ),
    "SIGTERM to the launcher": Blow(signal_launcher(signal.SIGTERM), "failed", SIGNALLED),
    "SIGINT to the launcher": Blow(signal_launcher(signal.SIGINT), "failed", SIGNALLED),
    "SIGHUP to the launcher": Blow(signal_launcher(signal.SIGHUP), "failed", SIGNALLED),
    "SIGKILL to the agent": Blow(kill_agent, "failed", {"agent-killed"}, presets=("deepspeed",)),
    "SIGKILL to the supervisor": Blow(
        signal_supervisor(signal.SIGKILL),
        "failed",
        {"supervisor-killed"},
        stages=("start-up", "steps", "saving", "evaluating"),
    ),
    "SIGTERM to the supervisor": Blow(
        signal_supervisor(signal.SIGTERM), "stopped", stages=("start-up", "steps", "saving", "evaluating")
    ),
    "stop": Blow(
        lambda run, _rank: request_stop(run, now=False),
        "stopped",
        stages=("start-up", "steps", "saving", "evaluating"),
    ),
    "stop --now": Blow(
        lambda run, _rank: request_stop(run, now=True), "stopped", stages=("start-up", "steps", "saving", "evaluating")
    ),
}


@dataclass(frozen=True)
class Schedule:
    """What happens to one run."""

    seed: int
    preset: str
    manner: str
    """How hard one of the ranks is to end."""
    blows: tuple[tuple[str, Stage, int], ...]
    """Name, stage and rank of each."""


@dataclass
class Report:
    """What one schedule, or many, came to."""

    schedules: int = 0
    blows: Counter[str] = field(default_factory=Counter)
    stop_seconds: list[float] = field(default_factory=list)
    now_seconds: list[float] = field(default_factory=list)
    death_seconds: list[float] = field(default_factory=list)
    resumes: int = 0
    lines: int = 0
    faults: list[str] = field(default_factory=list)
    """Every broken promise, with the schedule that broke it."""

    def add(self, other: Report) -> None:
        """Count another report in."""
        self.schedules += other.schedules
        self.blows += other.blows
        self.stop_seconds += other.stop_seconds
        self.now_seconds += other.now_seconds
        self.death_seconds += other.death_seconds
        self.resumes += other.resumes
        self.lines += other.lines
        self.faults += other.faults


def schedule_of(seed: int) -> Schedule:
    """The schedule that a seed stands for."""
    dice = random.Random(seed)
    preset = PRESETS[seed % len(PRESETS)]
    blows = []
    for _ in range(dice.choice((1, 1, 2, 3))):
        name = dice.choice([name for name, blow in BLOWS.items() if preset in blow.presets])
        blows.append((name, dice.choice(BLOWS[name].stages), dice.randrange(RANKS)))
    return Schedule(seed, preset, dice.choice(("plain", "plain", "ignores-term", "forks")), tuple(blows))


def every_blow(seed: int) -> list[Schedule]:
    """Each blow once on every launcher that has it."""
    dice = random.Random(seed)
    pairs = [(preset, name) for preset in PRESETS for name, blow in BLOWS.items() if preset in blow.presets]
    return [
        Schedule(number, preset, "plain", ((name, dice.choice(BLOWS[name].stages), dice.randrange(RANKS)),))
        for number, (preset, name) in enumerate(pairs, start=1)
    ]


def carry_out(schedule: Schedule, home: Path) -> Report:
    """Let a schedule happen, and look after every blow whether all promises hold."""
    report = Report(schedules=1)
    house = House(home, {})
    run = house.fake_run("waits", *["light"] * RANKS, name=f"run-{schedule.seed}")
    house.launched_by(run, schedule.preset, "tests.faults.light")
    manner = run.cache / f"manner-{schedule.seed % RANKS}"
    manner.write_text(schedule.manner)
    try:
        spawn_supervisor(run)
        for name, stage, rank in schedule.blows:
            if not strike(run, name, stage, rank, report):
                break  # it had finished before
            start_again(run, report)
        finish(run, report)
    except (TimeoutError, AssertionError, OSError) as error:
        report.faults.append(f"{type(error).__name__}: {error}; {read_state(run)}")
    finally:
        for pid in marked(run):
            os.kill(pid, signal.SIGKILL)
    report.faults = [f"seed {schedule.seed} ({schedule.preset}, {schedule.blows}): {fault}" for fault in report.faults]
    return report


def start_again(run: RunDir, report: Report) -> None:
    """Resume, and see that it goes on from the newest complete checkpoint."""
    expected, before = newest_step(run), len(starts_of(run))
    resume(run)
    eventually(lambda: len(starts_of(run)) > before or not read_state(run).alive, seconds=START_SECONDS)
    report.resumes += 1
    begun = starts_of(run)[before:]
    if [start.step for start in begun] != [expected]:
        report.faults.append(f"resumed at {begun}, not at the newest complete checkpoint {expected}")


def strike(run: RunDir, name: str, stage: Stage, rank: int, report: Report) -> bool:
    """One blow at its stage, and what must be true after it; False when the run was over before."""
    blow = BLOWS[name]
    if not await_stage(run, stage):
        return False
    family = descendants(supervisor_pid(run))
    begin = time.monotonic()
    blow.act(run, rank)
    eventually(lambda: not read_state(run).alive, seconds=END_SECONDS)
    ended = time.monotonic() - begin
    gone = eventually(lambda: not marked(run) and not alive_of(family, run), seconds=10)
    state = read_state(run)
    report.blows[name] += 1
    times = {"stop": report.stop_seconds, "stop --now": report.now_seconds}.get(name, report.death_seconds)
    times.append(ended + gone)
    if state.phase == "finished":
        return False
    if state.phase != blow.ends:
        report.faults.append(f"{name} at {stage}: {state.phase}, not {blow.ends}: {state.message}")
    cause = cause_of(state)
    if blow.ends == "failed" and cause not in blow.causes:
        report.faults.append(f"{name} at {stage}: the cause is said to be {cause}: {state.message}")
    look_at_files(run, report)
    return True


def look_at_files(run: RunDir, report: Report) -> None:
    """Every record that was written is there, every checkpoint is what it says, every loss is that of its step."""
    from t5panel.contract.checkpoints import step_of
    from t5panel.trainers.checkpoint import newest_verified
    from tests.faults.light import SEED, chain_after, losses_until

    steps = [metric for metric in metrics_of(run) if isinstance(metric, Step)]
    recorded = Counter(step.step for step in steps)
    noted = Counter(int(line) for line in lines_of(run.cache / "steps"))
    lost = sorted((noted - recorded).elements())
    starts = sum(isinstance(metric, Start) for metric in metrics_of(run))
    if len(lost) > starts:  # at each death the one that was being written
        report.faults.append(f"records lost: {lost}")
    report.lines += len(steps)
    expected = losses_until(max(noted, default=0))
    finite = [(step.step, step.loss) for step in steps if step.loss is not None]
    wrong = [step for step, loss in finite if not math.isclose(loss, expected[step - 1], abs_tol=1e-5)]
    if wrong:
        report.faults.append(f"steps with another loss than an unbroken run's: {wrong[:5]}")
    folder, damaged = newest_verified(run)
    if damaged:
        report.faults.append(f"damaged checkpoints: {damaged}")
    if folder is not None:
        link = SEED
        for step in range(1, step_of(folder) + 1):
            link = chain_after(link, step)
        if (folder / "chain-0").read_bytes() != link:
            report.faults.append(f"{folder.name} holds another state than its step's")


def finish(run: RunDir, report: Report) -> None:
    """Let the run come to its end."""
    eventually(lambda: not read_state(run).alive, seconds=START_SECONDS)
    state = read_state(run)
    if state.phase != "finished":
        report.faults.append(f"did not finish: {state.phase}: {state.message}")
    eventually(lambda: not marked(run), seconds=10)
    look_at_files(run, report)


def await_stage(run: RunDir, stage: Stage) -> bool:
    """Wait until the run is at a stage; False when it ended before."""
    if stage == "start-up":
        time.sleep(random.uniform(0, 3))  # after the supervisor's, up to the launcher's and the ranks' start
        return read_state(run).alive
    before = len(metrics_of(run))
    wanted = {"saving": "saving", "evaluating": "evaluating"}.get(stage)

    def is_there() -> bool:
        if not read_state(run).alive:
            return True
        news = metrics_of(run)[before:]
        if wanted is None:
            return sum(isinstance(metric, Step) for metric in news) > 10
        return any(isinstance(metric, Status) and metric.phase == wanted for metric in news)

    eventually(is_there, seconds=START_SECONDS)
    return read_state(run).alive


def cause_of(state: RunState) -> str:
    """The code of a failed run's diagnosis."""
    if state.diagnosis is not None:
        return state.diagnosis.code
    return "none"


def alive_of(family: Iterable[int], run: RunDir) -> bool:
    """Whether one of these processes still lives and belongs to this run: pids are used again."""
    return bool(set(family) & set(marked(run)))


def ranks_of(run: RunDir) -> list[RankId]:
    """The ranks as they registered themselves."""
    found = [msgspec.json.decode(path.read_bytes(), type=RankId) for path in run.ranks.glob("[0-9]")]
    return sorted((rank for rank in found if is_alive(rank.pid, rank.start_time)), key=lambda rank: rank.rank)


def metrics_of(run: RunDir) -> list[Metric]:
    """Every whole record of rank 0."""
    decoder = msgspec.json.Decoder(Metric)
    return [decoder.decode(line) for line in lines_of(run.metrics)]


def events_of(run: RunDir) -> list[Event]:
    """Every event of the run."""
    return [msgspec.json.decode(line, type=Event) for line in lines_of(run.events)]


def lines_of(path: Path) -> list[bytes]:
    """The whole lines of a file; one that a death left torn is none."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1].splitlines()


def newest_step(run: RunDir) -> int:
    """The step of the newest complete checkpoint, 0 without one."""
    from t5panel.contract.checkpoints import step_of
    from t5panel.trainers.checkpoint import newest_verified

    folder, _ = newest_verified(run)
    return step_of(folder) if folder else 0


def starts_of(run: RunDir) -> list[Start]:
    """Where each start began."""
    return [metric for metric in metrics_of(run) if isinstance(metric, Start)]


def campaign(schedules: Iterable[Schedule], home: Path, *, jobs: int, say: Callable[[str], object]) -> Report:
    """Many schedules, some at a time."""
    total = Report()
    with ThreadPoolExecutor(jobs) as pool:
        for report in pool.map(lambda schedule: carry_out(schedule, home / str(schedule.seed)), schedules):
            total.add(report)
            for fault in report.faults:
                say(f"BROKEN {fault}")
            say(f"{total.schedules} schedules, {sum(total.blows.values())} blows, {len(total.faults)} broken promises")
    return total


def summary_lines(report: Report) -> list[str]:
    """The figures of a campaign."""

    def slowest(seconds: list[float]) -> str:
        return f"{max(seconds):.1f} s" if seconds else "none"

    return [
        f"schedules {report.schedules}, blows {sum(report.blows.values())}, resumes {report.resumes}",
        f"broken promises {len(report.faults)}",
        f"metric records looked at {report.lines:,}",
        f"slowest stop {slowest(report.stop_seconds)}, slowest stop --now {slowest(report.now_seconds)}",
        f"slowest end after any other blow {slowest(report.death_seconds)}",
        *(f"  {count:4} × {name}" for name, count in sorted(report.blows.items())),
    ]


def main() -> int:
    """Run the campaign of the command line; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first schedule")
    parser.add_argument("--every-blow", action="store_true", help="each blow once on every launcher instead")
    parser.add_argument("--jobs", type=int, default=2)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {f"XDG_{kind}_HOME": home for kind in ("STATE", "CACHE", "CONFIG")}
        chosen = map(schedule_of, range(wanted.seed, wanted.seed + wanted.schedules))
        report = campaign(
            every_blow(wanted.seed) if wanted.every_blow else chosen,
            Path(home),
            jobs=wanted.jobs,
            say=lambda line: sys.stderr.write(line + "\n"),
        )
    sys.stdout.write("\n".join(summary_lines(report)) + "\n")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
