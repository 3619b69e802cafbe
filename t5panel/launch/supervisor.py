"""The detached process that owns one run: starts the launcher, samples the machine, keeps the state, ends everything.

Run as `python -P -m t5panel.launch.supervisor RUN_DIR`. One thread, no torch, under 20 MiB.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from t5panel.contract.layout import SUPERVISOR_VARIABLE, RunDir, write_atomic
from t5panel.contract.records import (
    CommandInfo,
    Event,
    Phase,
    ProcessId,
    RankId,
    RankSample,
    Request,
    Result,
    Sample,
    State,
    Status,
    encode_line,
)
from t5panel.launch.processes import Stopped, at_free_port, become_subreaper, reap, spawn, stop_all
from t5panel.monitor.hardware import Nvml, host_memory, process_memory, proportional_memory
from t5panel.monitor.last_words import how_it_ended, read_log, why
from t5panel.monitor.proc import boot_id, descendants, is_alive, marked, read_process
from t5panel.monitor.runs import prepared_text, read_info, read_prepared, read_progress, read_result
from t5panel.monitor.tail import Tail

TICK_SECONDS = 1.0
STOP_SECONDS = 120.0
"""From a stop request, or the last sign of an evaluation or a checkpoint after it, to the forced end."""
LONGEST_STOP_SECONDS = 1800.0
"""From a stop request to the forced end, however long a checkpoint takes: a slow disk gets half an hour."""
FAREWELL_SECONDS = 30.0
"""From rank 0's result to the forced end of a launcher that does not exit."""
TERM_SECONDS = 5.0
PSS_EVERY = 60
EXIT_STOPPED = 130
EXIT_FAULTS = 4

Stop = Literal["stopped", "killed", "overdue"]
Ending = Literal["exited"] | Stop


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    phase: Phase
    exit_code: int
    message: str


class Supervisor:
    """One run's owner, from its start to the proof that nothing of it is left."""

    def __init__(self, run: RunDir, wakeup: int) -> None:
        self.run = run
        self.info = read_info(run)
        self.signals = 0
        self._wakeup = wakeup
        self._nvml = Nvml()
        self._metrics = Tail(run.metrics, from_end=True)
        self._ranks: tuple[RankId, ...] = ()
        self._ticks = 0
        self._launcher: ProcessId | None = None
        self._exit_codes: dict[int, int] = {}
        self._phase: Phase = "starting"
        self._work: Phase = "starting"
        """What the ranks said they do, also while they are asked to stop."""
        self._message = "starting"
        self._next_tick = time.monotonic()
        self._own = _process_id(os.getpid())

    def supervise(self) -> Outcome:
        """Run the preparation and the launcher to their end and leave no process behind."""
        for folder in (self.run.logs, self.run.ranks, self.run.checkpoints, self.run.cache):
            folder.mkdir(exist_ok=True)
        for stale in (self.run.result, self.run.progress, self.run.faults):
            stale.unlink(missing_ok=True)
        self._set_phase("starting", "the supervisor started")
        self._event("started", "the supervisor started")
        self._sweep(grace=0.0)  # ranks that outlived an earlier supervisor would write to the same files
        try:
            outcome = self._prepare() or self._train()
        finally:
            stopped = self._sweep(grace=TERM_SECONDS)
        if stopped.survivors:
            self._event("survivors", f"processes {stopped.survivors} cannot be killed; a reboot may be needed", "error")
        self._event(outcome.phase, outcome.message, "error" if outcome.phase == "failed" else "info")
        self._phase, self._message = outcome.phase, outcome.message
        self._write_state(exit_code=outcome.exit_code, durable=True)
        return outcome

    def _prepare(self) -> Outcome | None:
        """Tokenise the data; None when the ranks may start."""
        self._set_phase("starting", "reading and tokenising the data")
        process = self._spawn(self.info.prepare, self.run.prepare_log)
        if isinstance(process, Outcome):
            return process
        ending = self._wait(process.pid, stop_seconds=0.0)
        code = self._exit_codes[process.pid]
        if ending == "exited" and code == 0:
            asked = self._asked()
            if asked is None:
                self._note_prepared()
                return None
            ending = "killed" if asked == "kill" else "stopped"
        if ending != "exited":
            return _outcome_of_stop(ending, "before the training began")
        if self.run.faults.exists():
            return Outcome("failed", EXIT_FAULTS, "the data or the model cannot be used")
        last = why((read_log(self.run.prepare_log),))
        return Outcome("failed", 1, f"the preparation {how_it_ended(code)}: {last}")

    def _note_prepared(self) -> None:
        """Say what the preparation left out of the data."""
        prepared = read_prepared(self.run)
        if prepared is not None:
            left_out = prepared.dropped or prepared.truncated_sources or prepared.truncated_targets
            self._event("prepared", prepared_text(prepared), "warning" if left_out else "info")

    def _train(self) -> Outcome:
        self.run.progress.unlink(missing_ok=True)
        self._set_phase("starting", "starting the ranks")
        process = self._spawn(self.info.command, self.run.launcher_log)
        if isinstance(process, Outcome):
            return process
        ending = self._wait(process.pid, stop_seconds=STOP_SECONDS)
        code = self._exit_codes[process.pid]
        result = read_result(self.run)
        if result is not None:
            return _outcome_of_result(result, code)
        if ending in ("killed", "overdue"):
            return _outcome_of_stop(ending, "without a checkpoint")
        asked = "asked to stop, but " if ending == "stopped" else ""  # a full disk, for example
        return Outcome("failed", 1, asked + self._failure_message(code))

    def _spawn(self, command: CommandInfo, log: Path) -> subprocess.Popen[bytes] | Outcome:
        """A started process, or how the run failed because it cannot be started. Hold it: dropped, it reaps itself."""
        argv = at_free_port(command.argv)
        try:
            process = spawn(argv, {**command.env, SUPERVISOR_VARIABLE: str(os.getpid())}, log)
        except OSError as error:
            return Outcome("failed", 1, f"cannot start {argv[0]}: {error.strerror}")
        self._launcher = _process_id(process.pid)
        self._write_state()
        self._event("spawned", f"pid {process.pid}: {' '.join(argv)}")
        return process

    def _wait(self, pid: int, *, stop_seconds: float) -> Ending:
        """Tick until a child ends, or end everything when asked to and it takes longer than `stop_seconds`."""
        deadline = latest = math.inf
        ending: Ending = "exited"
        while not self._has_ended(pid):
            self._sleep()
            self._tick_when_due()
            now = time.monotonic()
            match self._asked():
                case "kill" if ending != "killed":
                    ending = "killed"
                    self._set_phase("stopping", "killing all processes of the run")
                    self._sweep(grace=0.0)
                case "stop" if ending == "exited":
                    ending, latest = "stopped", now + LONGEST_STOP_SECONDS
                    deadline = min(deadline, now + stop_seconds)
                    self._set_phase("stopping", "asked to stop: the ranks agree on a step and save")
            done = self.run.result.exists()
            if done:
                deadline = min(deadline, now + FAREWELL_SECONDS)
            elif ending == "stopped" and self._work in ("evaluating", "saving"):
                deadline = min(now + stop_seconds, latest)
            if time.monotonic() >= deadline:
                ending = "overdue" if stop_seconds and not done else ending
                self._sweep(grace=TERM_SECONDS)
                deadline = math.inf
        return ending

    def _has_ended(self, pid: int) -> bool:
        self._collect()
        return pid in self._exit_codes

    def _collect(self) -> None:
        """Reap ended children, the launcher among them, whoever ended them."""
        for pid, code in reap().items():
            self._exit_codes[pid] = code
            if self._launcher is not None and pid == self._launcher.pid:
                self._event("exited", f"pid {pid} {how_it_ended(code)}")

    def _sweep(self, *, grace: float) -> Stopped:
        """End every process of this run, found as our descendant or by the run's mark."""
        own = os.getpid()

        def find() -> tuple[int, ...]:
            return tuple({*descendants(own), *marked(self.run)} - {own})

        left = find()
        stopped = stop_all(find, self._collect, grace=grace if left else 0.0)
        if left:
            self._event("swept", f"{len(left)} processes ended in {stopped.seconds:.1f} s ({stopped.killed} killed)")
        return stopped

    def _asked(self) -> Literal["stop", "kill"] | None:
        """What the user wants, by signal or by request.json; a run whose folder was removed shall end too."""
        if self.signals > 1 or not self.run.run_json.exists():
            return "kill"
        if self.signals == 1 and not self.run.request.exists():
            with contextlib.suppress(OSError):
                write_atomic(self.run.request, msgspec.json.encode(Request("stop", time.time())))
        try:
            action = msgspec.json.decode(self.run.request.read_bytes(), type=Request).action
            return "kill" if action == "kill" else "stop"
        except OSError:
            return "stop" if self.signals else None
        except msgspec.DecodeError:
            return "stop"  # as the ranks take any request

    def _sleep(self) -> None:
        """Until the next tick, or a signal."""
        select.select([self._wakeup], [], [], max(0.0, self._next_tick - time.monotonic()))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def _tick_when_due(self) -> None:
        if time.monotonic() < self._next_tick:
            return
        self._next_tick = max(self._next_tick + TICK_SECONDS, time.monotonic())
        self._ticks += 1
        self._follow_ranks()
        self._append(self.run.samples, encode_line(self._sample()))
        self._write_state()

    def _follow_ranks(self) -> None:
        paths = list(self.run.ranks.glob("[0-9]*"))
        if len(self._ranks) < len(paths):
            decoded = (msgspec.json.decode(path.read_bytes(), type=RankId) for path in paths)
            self._ranks = tuple(sorted(decoded, key=lambda rank: rank.rank))
        for line in self._metrics.lines():
            if line.startswith(b'{"kind":"status"'):
                with contextlib.suppress(msgspec.DecodeError):  # a line that a dying writer left torn
                    self._take_status(msgspec.json.decode(line, type=Status))

    def _take_status(self, status: Status) -> None:
        self._work = status.phase
        message = f"{status.phase} at step {status.step:,}"
        if self._phase == "stopping":
            self._set_phase("stopping", f"asked to stop: {message}")
        else:
            self._set_phase(status.phase, message)

    def _sample(self) -> Sample:
        used, limit = host_memory()
        ranks = [sample for rank in self._ranks if (sample := self._rank_sample(rank)) is not None]
        return Sample(time.time(), self._nvml.cards(self.info.cards), tuple(ranks), used, limit)

    def _rank_sample(self, rank: RankId) -> RankSample | None:
        memory = process_memory(rank.pid) if is_alive(rank.pid, rank.start_time) else None
        if memory is None:
            return None
        # One rank per tick and seldom: reading PSS holds the rank's memory map.
        turn = self._ticks % PSS_EVERY == PSS_EVERY // 2 + rank.rank
        return RankSample(rank.rank, rank.pid, memory[0], proportional_memory(rank.pid) if turn else None, memory[1])

    def _failure_message(self, code: int) -> str:
        # All rank logs, not those of registered ranks: a rank may fail on its first line.
        ranks = [read_log(path) for path in sorted(self.run.logs.glob("rank-*.log"))]
        last = why(ranks, read_log(self.run.launcher_log))
        return f"the ranks ended without a result (the launcher {how_it_ended(code)}): {last}"

    def _set_phase(self, phase: Phase, message: str) -> None:
        self._phase, self._message = phase, message
        self._write_state()

    def _write_state(self, *, exit_code: int | None = None, durable: bool = False) -> None:
        state = State(
            phase=self._phase,
            run_id=self.info.run_id,
            boot_id=boot_id(),
            heartbeat=time.time(),
            supervisor=self._own,
            launcher=self._launcher,
            ranks=self._ranks,
            progress=read_progress(self.run),
            exit_code=exit_code,
            message=self._message,
        )
        with contextlib.suppress(OSError):  # a full disk must not end a training
            write_atomic(self.run.state, msgspec.json.encode(state), durable=durable)

    def _event(self, name: str, message: str, severity: Literal["info", "warning", "error"] = "info") -> None:
        self._append(self.run.events, encode_line(Event(time.time(), name, message, severity)))

    @staticmethod
    def _append(path: Path, line: bytes) -> None:
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:  # as in _write_state
            file.write(line)


def _process_id(pid: int) -> ProcessId:
    """A process with its start time, 0 when it has ended already."""
    found = read_process(pid)
    return ProcessId(pid, found.start_time if found else 0)


def _outcome_of_stop(ending: Stop, how: str) -> Outcome:
    words = {
        "stopped": "stopped",
        "killed": "killed by the user",
        "overdue": "did not stop in time and was killed",
    }
    return Outcome("stopped", EXIT_STOPPED, f"{words[ending]} {how}")


def _outcome_of_result(result: Result, code: int) -> Outcome:
    if result.status == "finished":
        note = "" if code == 0 else f" (the launcher {how_it_ended(code)})"
        return Outcome("finished", 0, f"finished at step {result.step:,}{note}")
    return Outcome("stopped", EXIT_STOPPED, f"stopped at step {result.step:,}, checkpoint {result.checkpoint}")


def main(path: str) -> int:
    """Supervise the run in a directory, as a process of our own; 1 when another supervisor already does."""
    run = RunDir(Path(path))
    lock = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write("this run already has a supervisor\n")
        return 1
    run.state.unlink(missing_ok=True)  # an earlier supervisor's
    if os.fork() > 0:
        # The front that called us goes on; the lock stays with the child.
        os._exit(0)
    become_subreaper()
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    supervisor = Supervisor(run, read_end)

    def count(_number: int, _frame: object) -> None:
        supervisor.signals += 1

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, count)
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda _number, _frame: None)
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    return supervisor.supervise().exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
