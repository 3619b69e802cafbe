"""Why a run ended, in one sentence: logs and measurements in, a Diagnosis out. Has no clock, no files, no processes.

Judges are asked in their order; the first that knows an answer gives it. What a rank says comes before what the others
say about it: a vanished peer, a watchdog that waited, a launcher that counts exit codes.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

from t5panel.contract.records import Diagnosis
from t5panel.monitor.clues import Evidence, Log
from t5panel.monitor.proc import how_it_ended
from t5panel.monitor.sentences import (
    at_step,
    by_signal,
    doing,
    explain,
    kernel_kill,
    logout_hint,
    memory_hint,
    memory_now,
    one_line,
    resume,
)
from t5panel.monitor.signatures import Weight
from t5panel.monitor.suspects import Suspect, first_exit, own_logs, rank_of, silent_exit, suspects_of
from t5panel.monitor.tracebacks import plain

HARDWARE_XIDS = frozenset({48, 62, 63, 64, 74, 79, 92, 94, 95, 109, 110, 119, 120, 140, 143, 154})
"""Of the card itself; others (13, 31, 43, 45) follow from what a program did.

Source: https://docs.nvidia.com/deploy/xid-errors/."""
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<place>[^)]+)\): (?P<number>\d+)(?P<words>[^\n]*)")
_BY_SIGNAL = frozenset({-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL})
"""Signals that come from outside of Python: whoever died of one has said nothing about it."""


def diagnose(evidence: Evidence) -> Diagnosis:
    """Why this run ended: always an answer, at the least its last words."""
    suspects = suspects_of(evidence)
    for judge in _JUDGES:
        found = judge(evidence, suspects)
        if found is not None:
            return found
    return _last_words(evidence)


# Facts that need no log.


def _restarted(evidence: Evidence, _: list[Suspect]) -> Diagnosis | None:
    if not evidence.boot_then or not evidence.boot_now or evidence.boot_then == evidence.boot_now:
        return None
    return Diagnosis(
        "machine-restarted",
        f"the machine was restarted while the run was {doing(evidence)}",
        resume(evidence),
    )


def _killed_by_user(evidence: Evidence, _: list[Suspect]) -> Diagnosis | None:
    if evidence.asked != "kill":
        return None
    sentence = f"killed by the user{at_step(evidence)}, without a checkpoint"
    return Diagnosis("killed-by-user", sentence, resume(evidence))


def _logged_out(evidence: Evidence, _: list[Suspect]) -> Diagnosis | None:
    ended = not evidence.supervisor_alive or evidence.asked == "signal" or evidence.exit_code in _ASKING_SIGNALS
    if not ended or not evidence.login.kill_user_processes or evidence.login.alive is not False:
        return None
    return Diagnosis(
        "logged-out",
        f"logind ended the run when its login session closed (KillUserProcesses=yes){at_step(evidence)}",
        logout_hint(evidence),
    )


def _supervisor_gone(evidence: Evidence, _: list[Suspect]) -> Diagnosis | None:
    if evidence.supervisor_alive:
        return None
    if kernel_kill(evidence):
        sentence = f"the supervisor died while the run was {doing(evidence)}, {kernel_kill(evidence)}"
        return Diagnosis("host-out-of-memory", sentence, memory_hint(evidence))
    logout = "; " + logout_hint(evidence) if evidence.login.kill_user_processes else ""
    sentence = f"the supervisor died while the run was {doing(evidence)}: killed, by whom is unknown"
    return Diagnosis("supervisor-killed", sentence, resume(evidence) + logout)


# What the hardware, a rank, the others and the launcher say, in this order.


def _card_lost(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    """A card that the kernel saw fail outranks whatever the ranks say about it; not what has nothing to do with it."""
    blamed = next((one for one in suspects if one.weight == "cause"), None)
    if blamed is not None and not _tells_of_card(blamed):
        return None
    for line in evidence.kernel:
        found = _XID.search(line)
        if found and int(found["number"]) in HARDWARE_XIDS:
            words = re.sub(r"\b(?:pid|name)=[^,]*,\s*", "", found["words"]).strip(" ,.")
            lost = found["number"] == "79"
            who = next((f"; {suspect.origin} failed with it" for suspect in suspects if suspect.rank is not None), "")
            sentence = (
                f"the card at PCI {found['place']} failed{at_step(evidence)}: Xid {found['number']}, {words}{who}"
            )
            hint = (
                "check power, temperature and seat of the card, reboot; "
                f"`t5panel resume {evidence.run_id}` goes on, `--gpus` leaves the card out"
            )
            return Diagnosis("gpu-lost" if lost else "gpu-xid", one_line(sentence), hint, detail=line)
    return None


def _tells_of_card(suspect: Suspect) -> bool:
    return re.search(r"CUDA|CU(?:BLAS|DNN)_|NCCL|NVML|\bGPU\b", suspect.error.text) is not None


def _killed_rank(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    """A rank that a signal ended before any other failed: it says nothing, the others only miss it."""
    name, code = first_exit(evidence, suspects)
    if code not in _BY_SIGNAL or any(one.origin == name and one.weight == "cause" for one in suspects):
        return None
    return by_signal(evidence, name, code)


def _cause(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    return _of_weight(evidence, suspects, "cause")


def _symptom(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    return _of_weight(evidence, suspects, "symptom")


def _consequence(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    return _of_weight(evidence, suspects, "consequence")


def _other_signal(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    name, code = first_exit(evidence, suspects)
    return by_signal(evidence, name, code) if code < 0 else None


def _bad_loss(evidence: Evidence, _: list[Suspect]) -> Diagnosis | None:
    if evidence.loss_finite is not False or evidence.exit_code in (None, 0):
        return None
    return Diagnosis(
        "loss-not-finite",
        f"the run ended after its loss was no longer finite{at_step(evidence)}",
        "`--set train.learning_rate=…` lower, `--set train.max_grad_norm=1.0`; start from an earlier checkpoint",
    )


def _silent_rank(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    rank, code = silent_exit(evidence, suspects)
    if rank is None:
        return None
    log = next((log for log in evidence.ranks if rank_of(log) == rank), Log(""))
    words = next((plain(line).strip() for line in reversed(log.lines) if plain(line).strip()), "none")
    sentence = f"rank {rank}{at_step(evidence)} returned {code} without an error; its last words: {words}"
    return Diagnosis("silent-exit", one_line(sentence), resume(evidence), rank)


def _vanished_rank(evidence: Evidence, suspects: list[Suspect]) -> Diagnosis | None:
    """One rank is gone without a word and the others only miss it: deepspeed does not tell how it ended."""
    missing = {one.rank for one in suspects if one.rank is not None and one.weight == "consequence"}
    silent = [rank for log in evidence.ranks if (rank := rank_of(log)) is not None and rank not in missing]
    if not missing or len(silent) != 1:
        return None
    found = by_signal(evidence, f"rank {silent[0]}", -signal.SIGKILL, code="vanished")
    if found.code != "vanished":
        return found
    sentence = f"rank {silent[0]}{at_step(evidence)} died without a word, the others only miss it{memory_now(evidence)}"
    return Diagnosis("vanished", sentence, resume(evidence), silent[0])


def _launcher_end(evidence: Evidence, _: list[Suspect]) -> Diagnosis | None:
    code = evidence.exit_code
    agent = next((one for one in evidence.exits if "agent" in one.name and one.code < 0), None)
    if agent and code == 0:
        return by_signal(evidence, agent.name, agent.code, code="agent-killed")
    if code is not None and code < 0:
        name = "the preparation" if evidence.launcher is None else "the launcher"
        return by_signal(evidence, name, code, code="launcher-killed")
    if code == 0 and evidence.launcher is not None and evidence.launcher_name == "deepspeed":
        # It passes on positive return codes only.
        sentence = f"the deepspeed launcher returned 0 without a result{at_step(evidence)}: its agent was killed"
        kill = kernel_kill(evidence)
        words = f", {kill}" if kill else f", by whom is unknown{memory_now(evidence)}"
        return Diagnosis("host-out-of-memory" if kill else "agent-killed", sentence + words, memory_hint(evidence))
    return None


_ASKING_SIGNALS = (-signal.SIGTERM, -signal.SIGHUP)
_Judge = Callable[[Evidence, "list[Suspect]"], Diagnosis | None]
_JUDGES: tuple[_Judge, ...] = (
    _restarted,
    _killed_by_user,
    _logged_out,
    _supervisor_gone,
    _card_lost,
    _killed_rank,
    _cause,
    _symptom,
    _other_signal,
    _launcher_end,
    _bad_loss,
    _silent_rank,
    _vanished_rank,
    _consequence,
)


def _last_words(evidence: Evidence) -> Diagnosis:
    """Nothing is known: how the launcher ended, and the last line of the log that ended last."""
    logs = sorted((*evidence.ranks, *own_logs(evidence)), key=lambda log: -log.written)
    words = next((plain(line).strip() for log in logs for line in reversed(log.lines) if plain(line).strip()), "")
    name = "the preparation" if evidence.launcher is None and evidence.prepare is not None else "the launcher"
    ended = "ended" if evidence.exit_code is None else how_it_ended(evidence.exit_code)
    sentence = f"{name} {ended} without a result{at_step(evidence)}; its last words: {words or 'none'}"
    hint = f"see the logs folder of the run; `t5panel resume {evidence.run_id}` tries again"
    return Diagnosis("unknown", one_line(sentence), hint)


def _of_weight(evidence: Evidence, suspects: list[Suspect], weight: Weight) -> Diagnosis | None:
    suspect = next((one for one in suspects if one.weight == weight), None)
    return explain(evidence, suspect) if suspect else None
