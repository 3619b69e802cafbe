"""The detached process that owns one run: starts the launcher, watches, keeps the state, ends everything.

Run as `python -P -m t5panel.launch.supervisor RUN_DIR`. One thread, no torch, under 20 MiB.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from t5panel.contract.checkpoints import newest_checkpoint, step_of
from t5panel.contract.layout import SUPERVISOR_VARIABLE, RunDir, cards_home, write_atomic
from t5panel.contract.records import (
    CommandInfo,
    Diagnosis,
    Phase,
    ProcessId,
    Recovery,
    Result,
    State,
    run_json,
)
from t5panel.launch.asking import Asking
from t5panel.launch.cards import Cards
from t5panel.launch.helpers import Helpers
from t5panel.launch.inquest import before_start, inquest
from t5panel.launch.journal import Journal
from t5panel.launch.locks import take_lock
from t5panel.launch.observer import Observer
from t5panel.launch.outcome import CUT_SHORT, EXIT_FAULTS, Ending, Outcome, ended_by_user, newest_text, stopped_text
from t5panel.launch.processes import Stopped, at_free_port, become_subreaper, reap, spawn, stop_all
from t5panel.launch.recovery import MOST_RECOVERIES, changes_after_shortage, values_of, with_changes
from t5panel.launch.release import prove_release
from t5panel.launch.stacks import dump_stacks
from t5panel.launch.warden import Warden
from t5panel.monitor.proc import boot_id, descendants, how_it_ended, marked, read_process
from t5panel.monitor.runs import prepared_text, read_info, read_prepared, read_progress, read_result
from t5panel.monitor.watchdogs import Alert

CUDA_OUT_OF_MEMORY = "cuda-out-of-memory"
TICK_SECONDS = 1.0
STOP_SECONDS = 120.0
"""From a stop request, or the last sign of an evaluation or a checkpoint after it, to the forced end."""
LONGEST_STOP_SECONDS = 1800.0
"""From a stop request to the forced end, however long a checkpoint takes: a slow disk gets half an hour."""
FAREWELL_SECONDS = 30.0
"""From rank 0's result to the forced end of a launcher that does not exit."""
TERM_SECONDS = 2.0
"""From SIGTERM to SIGKILL of what is left: nothing saves at SIGTERM, and the launchers pass it on at once."""


class Supervisor:
    """One run's owner, from its start to the proof that nothing of it is left."""

    def __init__(self, run: RunDir, wakeup: int, warden: Warden, *, patient: bool = False) -> None:
        self.run = run
        self._warden = warden
        self.info = read_info(run)
        self.asking = Asking(run, self.info.spec.get("schedule"))
        self._wakeup = wakeup
        self._helpers = Helpers()
        self._journal = Journal(run, self.info.spec.get("on_event") or (), self._helpers)
        self._observer = Observer(run, self.info)
        self._cards = Cards(cards_home(), run, self.info.created, self.info.cards) if self.info.cards else None
        self._patient = patient
        """Whether it waits for cards that others use, instead of giving up."""
        self._launcher: ProcessId | None = None
        self._exit_codes: dict[int, int] = {}
        self._phase: Phase = "starting"
        self._message = "starting"
        self._until: float | None = None
        self._asked_at: float | None = None
        """When the present stop was first seen, by the monotonic clock."""
        self._next_tick = time.monotonic()
        self._own = _process_id(os.getpid())
        self._before = before_start(run)

    def supervise(self) -> Outcome:
        """Run the preparation and the launcher to their end and leave no process behind."""
        for folder in (self.run.logs, self.run.ranks, self.run.checkpoints, self.run.cache):
            folder.mkdir(exist_ok=True)
        self._forget_last_start()
        self._set_phase("starting", "the supervisor started")
        self._journal.event("started", "the supervisor started")
        try:
            self._sweep(grace=0.0)  # ranks that outlived an earlier supervisor would write to the same files
            outcome = self._await_window() or self._prepare()
            while outcome is None:
                outcome = self._await_window() or self._await_cards() or self._train()
        finally:
            self._sweep(grace=TERM_SECONDS)
            if self._cards is not None:
                self._cards.leave_line()
                self._cards.release()
        self._warden.dismiss()
        self._end(outcome)
        return outcome

    # --- before the ranks ---------------------------------------------------------------------------------------

    def _await_window(self) -> Outcome | None:
        """Wait until the daily window is open; an Outcome when the run was ended meanwhile."""
        window = self.asking.window
        if window is None or window.is_open(time.time()):
            return None
        until = window.next_opening(time.time())
        self._rest(f"paused until {window.clock(until)}", until)
        while not window.is_open(time.time()):
            if outcome := self._ended_at_rest():
                return outcome
        self._journal.event("continued", "the daily window is open")
        return None

    def _await_cards(self) -> Outcome | None:
        """Hold the run's cards, waiting for them in line when it is patient; an Outcome when that failed."""
        if self._cards is None:
            return None
        waited = ""
        while reason := self._why_not_yet():
            if not self._patient:
                return Outcome("failed", EXIT_FAULTS, f"{reason}; --queue waits for it")
            if reason != waited:
                self._rest(f"queued: {reason}", None)
                waited = reason
            if outcome := self._ended_at_rest():
                return outcome
        if waited:
            self._journal.event("continued", "its cards are free")
        return None

    def _why_not_yet(self) -> str:
        """Who has one of the cards; empty when they are ours and free. Only the patient ask for strangers."""
        if self._cards is None:
            return ""
        taken = self._cards.take_in_turn() if self._patient else self._cards.take()
        if taken is not None:
            return str(taken)
        return self._observer.stranger() if self._patient else ""

    def _rest(self, message: str, until: float | None) -> None:
        """Be paused from now on."""
        self._until = until
        self._journal.event("paused", message)
        self._set_phase("paused", message)

    def _ended_at_rest(self) -> Outcome | None:
        """Sleep for one tick; an Outcome when the user has ended the run."""
        self._sleep()
        self._collect()
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + TICK_SECONDS
            self._helpers.end_overdue()
            self._write_state()
        asked = self.asking.now()
        if asked in ("stop", "kill"):
            return ended_by_user(f"stopped while {self._message}")
        return None

    def _prepare(self) -> Outcome | None:
        """Tokenise the data; None when the ranks may start."""
        self._before = before_start(self.run)
        self._set_phase("starting", "reading and tokenising the data")
        process = self._spawn(self.info.prepare, self.run.prepare_log)
        if isinstance(process, Outcome):
            return process
        ending = self._wait(process.pid, by_window=False)
        code = self._exit_codes[process.pid]
        if ending == "exited" and code == 0:
            asked = self.asking.now()
            if asked not in ("stop", "kill"):
                self._note_prepared()
                return None
            ending = "killed" if asked == "kill" else "stopped"
        if ending != "exited":
            how = "killed by the user" if ending == "killed" else "stopped"
            return ended_by_user(f"{how} before the training began")
        if self.run.faults.exists():
            return Outcome("failed", EXIT_FAULTS, "the data or the model cannot be used")
        found = self._diagnose(code, preparing=True)
        return Outcome("failed", 1, found.sentence, found)

    def _note_prepared(self) -> None:
        """Say what the preparation left out of the data."""
        prepared = read_prepared(self.run)
        if prepared is not None:
            left_out = prepared.dropped or prepared.truncated_sources or prepared.truncated_targets
            self._journal.event("prepared", prepared_text(prepared), "warning" if left_out else "info")

    # --- the ranks ----------------------------------------------------------------------------------------------

    def _train(self) -> Outcome | None:
        """One start of the ranks, to the end of all of them; None when they shall start again."""
        self._forget_last_start()
        self._observer.begin(time.monotonic())
        self._before = before_start(self.run)
        self._set_phase("starting", "starting the ranks")
        process = self._spawn(self.info.command, self.run.launcher_log)
        if isinstance(process, Outcome):
            return process
        ending = self._wait(process.pid)
        code = self._exit_codes[process.pid]
        stopped = self._sweep(grace=TERM_SECONDS)
        self._tell(self._observer.follow(time.monotonic()))  # the last words
        gone = self._how_it_went(stopped)
        return self._verdict(ending, code, gone)

    def _verdict(self, ending: Ending, code: int, gone: str) -> Outcome | None:
        """What one start of the ranks came to; None when they shall start again."""
        result = read_result(self.run)
        if result is not None and result.status == "finished":
            note = "" if code == 0 else f" (the launcher {how_it_ended(code)})"
            return Outcome("finished", 0, f"finished at step {result.step:,}{note}")
        if ending in ("paused", "overdue", "unbegun") and self.asking.take() == "pause":
            self._note_pause(ending, result, gone)
            return None
        if result is not None:
            return ended_by_user(f"{stopped_text(self.run, result)}, {gone}")
        if ending in CUT_SHORT:
            return ended_by_user(f"{CUT_SHORT[ending]}, {gone}{newest_text(self.run)}")
        found = self._diagnose(code)
        if ending == "exited" and self._recover(found):
            return None
        asked = "" if ending == "exited" else "asked to stop, but "  # a full disk, for example
        return Outcome("failed", 1, asked + found.sentence, found)

    def _note_pause(self, ending: Ending, result: Result | None, gone: str) -> None:
        """Note a pause; the next start of the ranks waits for the window."""
        self._patient = True  # another run may have taken the cards by then
        if self._cards is not None:
            self._cards.release()
        self._asked_at = None
        well = result is not None or ending == "unbegun"
        how = stopped_text(self.run, result) if result else CUT_SHORT.get(ending, "not saved")
        self._journal.event("window", f"the daily window is closed: {how}, {gone}", "info" if well else "warning")

    def _recover(self, found: Diagnosis) -> bool:
        """Change what an out-of-memory on a card asks for; False when nothing can be or shall be changed."""
        spec, done = self.info.spec, self.info.recoveries
        if found.code != CUDA_OUT_OF_MEMORY or not spec.get("oom_recovery"):
            return False
        self._journal.event("out-of-memory", found.sentence, "error")
        changes = changes_after_shortage(spec, evaluating=self._observer.work == "evaluating")
        if not changes or len(done) >= MOST_RECOVERIES:
            why = f"{len(done)} recoveries did not help" if changes else "nothing smaller is left"
            self._journal.event("recovery", f"not started again: {why}", "error")
            return False
        folder = newest_checkpoint(self.run)
        step = step_of(folder) if folder else 0
        before = values_of(spec, changes)
        recovery = Recovery(time.time(), step, found.sentence, before, changes)
        info = msgspec.structs.replace(self.info, spec=with_changes(spec, changes), recoveries=(*done, recovery))
        try:
            write_atomic(self.run.run_json, run_json(info))
        except OSError as error:
            self._journal.event("recovery", f"not started again: run.json cannot be written: {error.strerror}", "error")
            return False
        words = ", ".join(f"{key.removeprefix('train.')} {before[key]} → {value}" for key, value in changes.items())
        text = f"started again from step {step:,} with {words}: the same rows per optimizer step"
        self._journal.event("recovered", text, "warning")
        self.info = info
        return True

    def _diagnose(self, code: int, *, preparing: bool = False) -> Diagnosis:
        """Why the ranks, or the preparation, ended without a result."""
        return inquest(
            self.run,
            self.info,
            self._before,
            self._observer,
            preparing=preparing,
            exit_code=code,
            doing=self._message,
            asked="signal" if self.asking.signals else None,
        )

    def _how_it_went(self, stopped: Stopped) -> str:
        """`3 ranks gone in 4.1 s, VRAM released`: what is proven after the ranks' end."""
        release = prove_release(
            stopped,
            ranks=len(self._observer.ranks),
            seconds=time.monotonic() - (self._asked_at or time.monotonic() - stopped.seconds),
            vram_before=self._observer.vram_before,
            vram=self._observer.vram,
            ports=self._observer.ports,
        )
        self._tell(release.held)
        return release.text

    # --- processes ----------------------------------------------------------------------------------------------

    def _spawn(self, command: CommandInfo, log: Path) -> subprocess.Popen[bytes] | Outcome:
        """A started process, or how the run failed because it cannot be started. Hold it: dropped, it reaps itself."""
        argv = at_free_port(command.argv)
        try:
            process = spawn(argv, {**command.env, SUPERVISOR_VARIABLE: str(os.getpid())}, log)
        except OSError as error:
            return Outcome("failed", 1, f"cannot start {argv[0]}: {error.strerror}")
        self._launcher = _process_id(process.pid)
        self._write_state()
        self._journal.event("spawned", f"pid {process.pid}: {' '.join(argv)}")
        return process

    def _wait(self, pid: int, *, by_window: bool = True) -> Ending:
        """Tick until a child ends; asked to, end everything: at once without a step made, else when it takes long."""
        deadline = latest = math.inf
        ending: Ending = "exited"
        while not self._has_ended(pid):
            self._sleep()
            self._tick_when_due()
            if by_window:
                self.asking.pause_when_closed()
            now = time.monotonic()
            asked = self.asking.now()
            if asked is not None and self._asked_at is None:
                self._asked_at = now
            if asked == "kill" and ending != "killed":
                ending = "killed"
                self._set_phase("stopping", "killing all processes of the run")
                self._sweep(grace=0.0)
            elif asked is not None and ending == "exited":
                ending, latest = "paused" if asked == "pause" else "stopped", now + LONGEST_STOP_SECONDS
                self._tell(self._observer.follow(now))
                if self._observer.began_steps:
                    deadline = min(deadline, now + STOP_SECONDS)
                    self._set_phase("stopping", "asked to stop: the ranks agree on a step and save")
                else:
                    ending, deadline = "unbegun", now
                    self._set_phase("stopping", "asked to stop before the first step: nothing is to be saved")
            elif asked == "stop" and ending == "paused":
                ending = "stopped"
            done = self.run.result.exists()
            if done:
                deadline = min(deadline, now + FAREWELL_SECONDS)
            elif ending in ("stopped", "paused") and self._observer.work in ("evaluating", "saving"):
                deadline = min(now + STOP_SECONDS, latest)
            if time.monotonic() >= deadline:
                ending = ending if ending == "unbegun" or done else "overdue"
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
            self._helpers.ended(pid)
            if self._launcher is not None and pid == self._launcher.pid:
                self._journal.event("exited", f"pid {pid} {how_it_ended(code)}")

    def _sweep(self, *, grace: float) -> Stopped:
        """End every process of this run, found as our descendant or by the run's mark; helpers are none of it."""
        own = os.getpid()

        def find() -> tuple[int, ...]:
            spared = {own, self._warden.pid, *self._helpers.pids}
            for pid in self._helpers.pids:
                spared |= set(descendants(pid))
            return tuple({*descendants(own), *marked(self.run)} - spared)

        left = find()
        stopped = stop_all(find, self._collect, grace=grace if left else 0.0)
        if left:
            words = f"{len(left)} processes ended in {stopped.seconds:.1f} s ({stopped.killed} killed)"
            self._journal.event("swept", words)
        return stopped

    # --- the clock ----------------------------------------------------------------------------------------------

    def _sleep(self) -> None:
        """Until the next tick, a signal, or the end of a rank."""
        wait_for = [self._wakeup, *self._observer.exits.descriptors]
        if select.select(wait_for, [], [], max(0.0, self._next_tick - time.monotonic()))[0]:
            self._observer.note_exits()
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def _tick_when_due(self) -> None:
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = max(self._next_tick + TICK_SECONDS, now)
        alerts = self._observer.follow(now)
        sample, more = self._observer.sample(now)
        self._journal.append(self.run.samples, sample)
        self._tell([*alerts, *more])
        self._helpers.end_overdue()
        self._follow_work()
        self._write_state()

    def _tell(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            self._journal.event(alert.name, alert.message, alert.severity)
            if alert.name == "stall" and alert.severity == "error":
                dump_stacks(self.run, self._observer.ranks, self._helpers)

    def _follow_work(self) -> None:
        """Say what the ranks do."""
        work = self._observer.work
        if work == "starting":
            return
        message = f"{work} at step {self._observer.step:,}"
        if self._phase == "stopping":
            self._message = f"asked to stop: {message}"
        else:
            self._phase, self._message = work, message

    # --- what is written ----------------------------------------------------------------------------------------

    def _forget_last_start(self) -> None:
        """Remove what an earlier start of the ranks left, so that nothing of it is taken for this one's."""
        stale = [self.run.result, self.run.progress, self.run.faults, *self.run.ranks.iterdir()]
        for path in stale:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _set_phase(self, phase: Phase, message: str) -> None:
        self._phase, self._message = phase, message
        if phase != "paused":
            self._until = None
        self._write_state()

    def _end(self, outcome: Outcome) -> None:
        """Say how the run ended, and let the last hooks end."""
        self._journal.event(outcome.phase, outcome.message, "error" if outcome.phase == "failed" else "info")
        self._phase, self._message, self._until = outcome.phase, outcome.message, None
        self._write_state(exit_code=outcome.exit_code, diagnosis=outcome.diagnosis, durable=True)

    def end_helpers(self) -> None:
        """Wait for the last hooks, at most their time."""
        while self._helpers.pids:
            self._collect()
            self._helpers.end_overdue()
            time.sleep(0.05)

    def _write_state(
        self, *, exit_code: int | None = None, diagnosis: Diagnosis | None = None, durable: bool = False
    ) -> None:
        state = State(
            phase=self._phase,
            run_id=self.info.run_id,
            boot_id=boot_id(),
            heartbeat=time.time(),
            supervisor=self._own,
            launcher=self._launcher,
            ranks=self._observer.ranks,
            progress=read_progress(self.run),
            exit_code=exit_code,
            message=self._message,
            until=self._until,
            diagnosis=diagnosis,
            vram=self._observer.card_use(),
        )
        self._journal.state(state, durable=durable)


def _process_id(pid: int) -> ProcessId:
    """A process with its start time, 0 when it has ended already."""
    found = read_process(pid)
    return ProcessId(pid, found.start_time if found else 0)


def main(path: str, *options: str) -> int:
    """Supervise the run in a directory, as a process of our own; 1 when another supervisor already does.

    `--queue`: wait for cards that others use.
    """
    run = RunDir(Path(path))
    lock = take_lock(run.lock)
    if lock is None:
        sys.stderr.write("this run already has a supervisor\n")
        return 1
    run.state.unlink(missing_ok=True)  # an earlier supervisor's
    if os.fork() > 0:
        # The front that called us goes on; the lock stays with the child.
        os._exit(0)
    warden = Warden(run, closing=(lock,))
    become_subreaper()
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    supervisor = Supervisor(run, read_end, warden, patient="--queue" in options)

    def count(_number: int, _frame: object) -> None:
        supervisor.asking.signals += 1

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, count)
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda _number, _frame: None)
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    outcome = supervisor.supervise()
    os.close(lock)  # a resume need not wait for the last hooks
    supervisor.end_helpers()
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
