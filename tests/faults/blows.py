"""Everything that happens to a run: who does it, what may come of it, and what may be said to be the cause."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from t5panel.contract.checkpoints import checkpoints_of
from t5panel.contract.layout import RunDir
from t5panel.contract.records import Checkpoint, Metric, Status
from t5panel.errors import ExitCode
from t5panel.monitor.runs import read_state
from t5panel.session import request_stop
from tests.faults import small_disk
from tests.faults.observed import (
    RANKS,
    START_SECONDS,
    Stage,
    await_records,
    await_start,
    await_steps,
    events_of,
    lines_of,
    metrics_of,
    newest_step,
    ranks_of,
    starts_of,
    within,
)
from tests.house.household import supervisor_pid

PRESETS = ("manual", "trainer", "deepspeed")
STALL_SECONDS = 60.0
"""After so long the shipped watchdog speaks."""
FRONT = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); from t5panel.cli import main; main()"
"""The command as a shell starts it, also where the campaign itself runs under nohup."""
STEPS_UNREAD, SLOW_STEP_SECONDS = 30, 0.5
FREE_BYTES = 4_000_000
"""More than a light run's checkpoint takes, or lets expect before the first one; less than a fat one."""

Kind = Literal["rank", "launcher", "supervisor", "user", "front", "disk", "files"]
Ending = Literal["failed", "stopped", "goes on"]
ANY_TIME: tuple[Stage, ...] = ("start-up", "steps", "saving", "evaluating")
AT_WORK: tuple[Stage, ...] = ("steps", "saving", "evaluating")


@dataclass(frozen=True)
class Blow:
    """One thing that happens to a run. Its act raises AssertionError or TimeoutError when a promise does not hold."""

    kind: Kind
    act: Callable[[RunDir, int], object]
    ends: Ending
    causes: Collection[str] = ()
    stages: tuple[Stage, ...] = AT_WORK
    presets: tuple[str, ...] = PRESETS
    unavailable: Callable[[], str] = str
    """Why this machine cannot strike it; empty when it can."""
    small_disk: bool = False
    """Whether the checkpoints must lie on a disk that can be filled."""


# --- to the processes of a run


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


# --- within a rank


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
    within(lambda: any(event.name == "not-finite" for event in events_of(run)), seconds=5)
    for rank in range(RANKS):
        (run.cache / f"trouble-{rank}").unlink()
    request_stop(run, now=False)


def freeze_and_stop_now(run: RunDir, rank: int) -> None:
    """A rank that stands still, until the user loses patience."""
    os.kill(ranks_of(run)[rank].pid, signal.SIGSTOP)
    time.sleep(1.0)
    request_stop(run, now=True)


def hang_and_stop_now(run: RunDir, rank: int) -> None:
    """A rank that waits for something that never comes, until the user loses patience."""
    write_trouble(run, rank, "hang")
    time.sleep(1.0)
    request_stop(run, now=True)


def freeze_until_it_is_told(run: RunDir, rank: int) -> None:
    """A rank that stands still until the watchdog says so and has asked the others where they stand, then goes on."""
    before = len(events_of(run))
    frozen = ranks_of(run)[rank].pid
    os.kill(frozen, signal.SIGSTOP)

    def told(severity: str) -> bool:
        return any(event.name == "stall" and event.severity == severity for event in events_of(run)[before:])

    try:
        within(lambda: told("error"), seconds=STALL_SECONDS + 10)
        others = [run.stacks(other) for other in range(RANKS) if other != rank]
        within(lambda: all("light.py" in path.read_text() for path in others), seconds=10)
    finally:
        os.kill(frozen, signal.SIGCONT)
    within(lambda: told("info"), seconds=10)


def run_out_of_memory(run: RunDir, rank: int) -> None:
    """A rank whose card is full: the run says so, and starts again by itself with less at a time."""
    told, before = len(events_of(run)), len(starts_of(run))
    write_trouble(run, rank, "oom")
    within(lambda: {"out-of-memory", "recovered"} <= {event.name for event in events_of(run)[told:]}, seconds=30)
    assert (wrong := await_start(run, before, newest_step(run))) == "", wrong


# --- by its users


def stop(run: RunDir, _rank: int) -> None:
    """Ask for an end with a checkpoint."""
    request_stop(run, now=False)


def stop_now(run: RunDir, _rank: int) -> None:
    """Ask for an end at once."""
    request_stop(run, now=True)


def start_thrice(run: RunDir, _rank: int) -> None:
    """Three resumes of an ended run at once: one goes on, the others are refused."""
    end(run)
    before, expected = len(starts_of(run)), newest_step(run)
    fronts = [front(run, "--detach") for _ in range(3)]
    codes = sorted(one.wait(START_SECONDS) for one in fronts)
    assert codes[0] == ExitCode.DONE, codes
    assert set(codes[1:]) <= {ExitCode.USAGE, ExitCode.PREFLIGHT_FAILED}, codes
    assert (wrong := await_start(run, before, expected)) == "", wrong


# --- to the terminal it was started in


def end_of_front(number: signal.Signals) -> Callable[[RunDir, int], None]:
    """A signal to the headless front that started the run and watches it."""

    def act(run: RunDir, _rank: int) -> None:
        end(run)
        before, expected = len(starts_of(run)), newest_step(run)
        with front(run) as watching:
            wrong = await_start_by_front(run, before, expected)
            watching.send_signal(number)
        assert wrong == "", wrong

    return act


def close_terminal(words: str, shown: str) -> Callable[[RunDir, int], None]:
    """A terminal that is closed while a front runs in it; `words` start the run and a front, which shows `shown`."""

    def act(run: RunDir, _rank: int) -> None:
        end(run)
        before, expected = len(starts_of(run)), newest_step(run)
        sockets = tempfile.mkdtemp()  # a socket's path is short
        base = ("tmux", "-S", f"{sockets}/tmux", "-f", "/dev/null")
        panel = f"{shlex.quote(sys.executable)} -m t5panel"
        command = words.format(panel=panel, run=shlex.quote(str(run.path)))
        subprocess.run((*base, "new-session", "-d", "-s", "ssh", "-x", "100", "-y", "30", command), check=True)
        try:
            wrong = await_start_by_front(run, before, expected)
            within(lambda: shown in screen(*base), seconds=30)
        finally:
            subprocess.run((*base, "kill-session", "-t", "ssh"), check=True)
            shutil.rmtree(sockets, ignore_errors=True)
        assert wrong == "", wrong

    return act


def screen(*tmux: str) -> str:
    """What a terminal shows."""
    return subprocess.run((*tmux, "capture-pane", "-p"), capture_output=True, text=True, check=True).stdout


def why_no_tmux() -> str:
    """Why no terminal can be closed here, empty when one can."""
    return "" if shutil.which("tmux") else "closing a real terminal needs tmux"


def leave_unread(run: RunDir, _rank: int) -> None:
    """A front that watches and stops reading, its output unread as well; the run makes its steps as before."""
    command = (sys.executable, "-m", "t5panel", "attach", str(run.path))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stderr is not None
        reader.stderr.readline()
        reader.send_signal(signal.SIGSTOP)
        try:
            await_steps(run, STEPS_UNREAD, seconds=STEPS_UNREAD * SLOW_STEP_SECONDS)
        finally:
            reader.kill()


def front(run: RunDir, *options: str) -> subprocess.Popen[bytes]:
    """A headless front that resumes the run; what it says goes nowhere."""
    return subprocess.Popen(
        (sys.executable, "-c", FRONT, "resume", str(run.path), *options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def await_start_by_front(run: RunDir, before: int, expected: int) -> str:
    """As await_start, of a run that a front has yet to start."""
    within(lambda: read_state(run).alive, seconds=START_SECONDS)
    return await_start(run, before, expected)


def end(run: RunDir) -> None:
    """Have the run ended before the blow itself."""
    request_stop(run, now=True)
    within(lambda: not read_state(run).alive, seconds=30)


# --- to its disk


def fill_disk_for_a_save(run: RunDir, _rank: int) -> None:
    """A checkpoint for which the disk turns out too small while it is written; space is made, and the run goes on."""
    begun: list[int] = []

    def begins(metric: Metric) -> bool:
        if isinstance(metric, Status) and metric.phase == "saving":
            begun.append(metric.step)
            return True
        return False

    with too_little_space(run):
        await_records(run, begins)
        await_steps(run, 1)
    saved = {metric.step for metric in metrics_of(run) if isinstance(metric, Checkpoint)}
    assert not saved & set(begun), f"saved at {begun} on a full disk"


def fill_disk_for_a_stop(run: RunDir, _rank: int) -> None:
    """A stop whose checkpoint finds no space: the run says so and ends; space is made before it is resumed."""
    with too_little_space(run):
        request_stop(run, now=False)
        within(lambda: not read_state(run).alive, seconds=30)


@contextmanager
def too_little_space(run: RunDir) -> Iterator[None]:
    """Space for a checkpoint like the last one, while the next ones are larger: it ends while they are written."""
    fat = run.cache / "fat"
    fat.touch()
    small_disk.fill(run.checkpoints, leave=FREE_BYTES)
    try:
        yield
    finally:
        fat.unlink()
        small_disk.clear(run.checkpoints)


def tear(run: RunDir, rank: int) -> None:
    """What a power cut leaves: the last record torn, and one file of the newest checkpoint cut short."""
    end(run)
    dice = random.Random(f"{rank} {newest_step(run)}")
    if last := lines_of(run.metrics)[-1:]:
        os.truncate(run.metrics, run.metrics.stat().st_size - dice.randint(1, len(last[0])))
        note_damage(run, "the last record")
    if newest := checkpoints_of(run)[-1:]:
        path = dice.choice([path for path in newest[0].rglob("*") if path.is_file()])
        os.truncate(path, dice.randrange(path.stat().st_size))
        note_damage(run, newest[0].name)


def note_damage(run: RunDir, what: str) -> None:
    """Remember that this is no fault of the run."""
    with (run.cache / "damage").open("a") as file:
        file.write(f"{what}\n")


SIGNALLED = {"launcher-signalled", "launcher-killed", "interrupted"}
BLOWS: dict[str, Blow] = {
    "SIGKILL to a rank": Blow("rank", signal_rank(signal.SIGKILL), "failed", {"killed"}),
    "SIGTERM to a rank": Blow("rank", signal_rank(signal.SIGTERM), "failed", {"killed"}),
    "a rank crashes": Blow("rank", trouble("segfault"), "failed", {"crashed"}, stages=("steps",)),
    "a rank exits": Blow("rank", trouble("exit"), "failed", {"silent-exit"}, stages=("steps",)),
    "CUDA out of memory (fake)": Blow("rank", run_out_of_memory, "goes on", stages=("steps",)),
    "NCCL without shared memory (fake)": Blow(
        "rank", trouble("nccl-shm"), "failed", {"nccl-shared-memory"}, stages=("steps",)
    ),
    "a bad row": Blow("rank", trouble("row"), "failed", {"data-row"}, stages=("steps",)),
    "NaN loss": Blow("rank", lose_the_loss, "stopped", stages=("steps",)),
    "a rank freezes": Blow("rank", freeze_and_stop_now, "stopped"),
    "a rank hangs": Blow("rank", hang_and_stop_now, "stopped", stages=("steps",)),
    "a rank freezes until the watchdog tells": Blow("rank", freeze_until_it_is_told, "goes on", stages=("steps",)),
    "SIGKILL to the launcher": Blow(
        "launcher", signal_launcher(signal.SIGKILL), "failed", {"launcher-killed"}, stages=ANY_TIME
    ),
    "SIGTERM to the launcher": Blow("launcher", signal_launcher(signal.SIGTERM), "failed", SIGNALLED),
    "SIGINT to the launcher": Blow("launcher", signal_launcher(signal.SIGINT), "failed", SIGNALLED),
    "SIGHUP to the launcher": Blow(  # torchrun asks for it, although its supervisor is deaf to it
        "launcher", signal_launcher(signal.SIGHUP), "failed", SIGNALLED, presets=("manual", "trainer")
    ),
    "SIGHUP to deepspeed": Blow("launcher", signal_launcher(signal.SIGHUP), "goes on", presets=("deepspeed",)),
    "SIGKILL to the agent": Blow("launcher", kill_agent, "failed", {"agent-killed"}, presets=("deepspeed",)),
    "SIGKILL to the supervisor": Blow(
        "supervisor", signal_supervisor(signal.SIGKILL), "failed", {"supervisor-killed"}, stages=ANY_TIME
    ),
    "SIGTERM to the supervisor": Blow("supervisor", signal_supervisor(signal.SIGTERM), "stopped", stages=ANY_TIME),
    "SIGHUP to the supervisor": Blow("supervisor", signal_supervisor(signal.SIGHUP), "goes on", stages=ANY_TIME),
    "stop": Blow("user", stop, "stopped", stages=ANY_TIME),
    "stop --now": Blow("user", stop_now, "stopped", stages=ANY_TIME),
    "three starts at once": Blow("user", start_thrice, "goes on", stages=ANY_TIME),
    "SIGKILL to the front": Blow("front", end_of_front(signal.SIGKILL), "goes on", stages=("steps",)),
    "SIGHUP to the front": Blow("front", end_of_front(signal.SIGHUP), "goes on", stages=("steps",)),
    "a terminal closes on the headless front": Blow(
        "front",
        close_terminal("{panel} resume {run}", "step "),
        "goes on",
        stages=("steps",),
        unavailable=why_no_tmux,
    ),
    "a terminal closes on the panel": Blow(
        "front",
        close_terminal("{panel} resume --detach {run}; exec {panel}", "Setup"),
        "goes on",
        stages=("steps",),
        unavailable=why_no_tmux,
    ),
    "a front stops reading": Blow("front", leave_unread, "goes on", stages=("steps",)),
    "disk full in a checkpoint": Blow(
        "disk",
        fill_disk_for_a_save,
        "goes on",
        unavailable=small_disk.why_no_small_disk,
        small_disk=True,
    ),
    "disk full at a stop": Blow(
        "disk",
        fill_disk_for_a_stop,
        "failed",
        {"disk-full"},
        unavailable=small_disk.why_no_small_disk,
        small_disk=True,
    ),
    "files torn by a power cut": Blow("files", tear, "stopped"),
}
