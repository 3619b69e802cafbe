"""Why a run ended, in one sentence: logs and measurements in, a Diagnosis out. Has no clock, no files, no processes.

Judges are asked in their order; the first that knows an answer gives it. What a rank says comes before what the others
say about it: a vanished peer, a watchdog that waited, a launcher that counts exit codes.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from t5panel.contract.records import Diagnosis, Failure
from t5panel.monitor import signatures
from t5panel.monitor.gpu_memory import Batch, as_flags, gib, read_shortage, smaller
from t5panel.monitor.signatures import Signature, Weight
from t5panel.monitor.tracebacks import Error, errors_in, of_failure, plain, warnings_in, without_warnings

LONGEST_SENTENCE = 300
DETAIL_LINES = 60
TIGHT_SHARE = 0.95
"""Of the host's memory: above it a kill is put down to memory, as when processes mostly waited for memory."""
TIGHT_PRESSURE = 10.0
"""Percent of ten seconds (PSI, full avg10)."""
HARDWARE_XIDS = frozenset({48, 62, 63, 64, 74, 79, 92, 94, 95, 109, 110, 119, 120, 140, 143, 154})
"""Of the card itself; others (13, 31, 43, 45) follow from what a program did.

Source: https://docs.nvidia.com/deploy/xid-errors/."""
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<place>[^)]+)\): (?P<number>\d+)(?P<words>[^\n]*)")
_KERNEL_KILL = re.compile(r"Killed process (?P<pid>\d+) \((?P<name>[^)]*)\).*?anon-rss:(?P<kilobytes>\d+)kB")
_KERNEL_OUT_OF_MEMORY = re.compile(r"[Oo]ut of memory|oom-kill:|invoked oom-killer|oom_reaper: reaped")
_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s*: (\d+) \(local_rank.*?exitcode\s*: (-?\d+)", re.DOTALL
)
"""Source: torch.distributed.elastic.multiprocessing.errors."""
_DEEPSPEED_EXIT = re.compile(r"exits with return code = (-?\d+)")
"""Of the process that deepspeed's agent saw fail first; the command before it is another one's.

Source: deepspeed.launcher.launch, sigkill_handler."""
_BY_SIGNAL = frozenset({-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL})
"""Signals that come from outside of Python: whoever died of one has said nothing about it."""

Asked = Literal["stop", "kill", "signal"]


@dataclass(frozen=True, slots=True)
class Log:
    """The end of one log; `written` is when its last line came, in unix seconds."""

    name: str
    written: float = 0.0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kills:
    """How often the kernel killed for want of memory; None where it cannot be read."""

    cgroup: int | None = None
    """`oom_kill` of the cgroup's memory.events."""
    machine: int | None = None
    """`oom_kill` of /proc/vmstat."""


@dataclass(frozen=True, slots=True)
class Host:
    """The host's memory at the last sample, bytes; pressure in percent of ten seconds (PSI avg10)."""

    used: int = 0
    limit: int = 0
    """0: not known."""
    some: float | None = None
    full: float | None = None
    kills_before: Kills = Kills()
    """At the start of the ranks."""
    kills_after: Kills = Kills()


@dataclass(frozen=True, slots=True)
class Login:
    """The login session that the run was started in; None where that is not known."""

    kill_user_processes: bool | None = None
    """logind's KillUserProcesses."""
    alive: bool | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """A process other than the launcher that ended before the supervisor swept: `the deepspeed agent`.

    A negative code is a signal. Ranks are of no use here: those that outlive their launcher are killed by us.
    """

    name: str
    code: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about the end of a run; what is not known has its default. Logs begin with this attempt."""

    run_id: str = "RUN"
    launcher: Log | None = None
    """None: the ranks were never started."""
    ranks: tuple[Log, ...] = ()
    """Named `rank-0`, `rank-1`, …"""
    prepare: Log | None = None
    failures: tuple[Failure, ...] = ()
    exit_code: int | None = None
    """Of the launcher, or of the preparation when there is no launcher."""
    exits: tuple[Exit, ...] = ()
    launcher_name: str = ""
    """torchrun, accelerate or deepspeed."""
    host: Host = Host()
    free_disk: int | None = None
    step: int | None = None
    loss_finite: bool | None = None
    batch: Batch | None = None
    doing: str = ""
    """What the run last said that it does: `saving at step 40`."""
    asked: Asked | None = None
    """Who ended it: a front (stop, kill), or a signal to the supervisor."""
    boot_then: str = ""
    boot_now: str = ""
    supervisor_alive: bool = True
    login: Login = Login()
    kernel: tuple[str, ...] = ()
    """Lines of the kernel's log since the start of the ranks."""


@dataclass(frozen=True, slots=True)
class _Suspect:
    """One error that may be the cause."""

    rank: int | None
    origin: str
    """`rank 1`, `the launcher`, `the preparation`."""
    when: float
    error: Error
    row: Signature | None
    groups: dict[str, str] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def weight(self) -> Weight:
        return self.row.weight if self.row else "cause"


def diagnose(evidence: Evidence) -> Diagnosis:
    """Why this run ended: always an answer, at the least its last words."""
    suspects = _suspects(evidence)
    for judge in _JUDGES:
        found = judge(evidence, suspects)
        if found is not None:
            return found
    return _last_words(evidence)


# Facts that need no log.


def _restarted(evidence: Evidence, _: list[_Suspect]) -> Diagnosis | None:
    if not evidence.boot_then or not evidence.boot_now or evidence.boot_then == evidence.boot_now:
        return None
    return Diagnosis(
        "machine-restarted",
        f"the machine was restarted while the run was {_doing(evidence)}",
        f"`t5panel resume {evidence.run_id}` goes on from its newest complete checkpoint",
    )


def _killed_by_user(evidence: Evidence, _: list[_Suspect]) -> Diagnosis | None:
    if evidence.asked != "kill":
        return None
    hint = f"`t5panel resume {evidence.run_id}` goes on from its newest complete checkpoint"
    return Diagnosis("killed-by-user", f"killed by the user{_at(evidence)}, without a checkpoint", hint)


def _logged_out(evidence: Evidence, _: list[_Suspect]) -> Diagnosis | None:
    ended = not evidence.supervisor_alive or evidence.asked == "signal" or evidence.exit_code in _ASKING_SIGNALS
    if not ended or not evidence.login.kill_user_processes or evidence.login.alive is not False:
        return None
    return Diagnosis(
        "logged-out",
        f"logind ended the run when its login session closed (KillUserProcesses=yes){_at(evidence)}",
        _logout_hint(evidence),
    )


def _supervisor_gone(evidence: Evidence, _: list[_Suspect]) -> Diagnosis | None:
    if evidence.supervisor_alive:
        return None
    resume = f"`t5panel resume {evidence.run_id}` goes on from its newest complete checkpoint"
    if _kernel_kill(evidence):
        sentence = f"the supervisor died while the run was {_doing(evidence)}, {_kernel_kill(evidence)}"
        return Diagnosis("host-out-of-memory", sentence, resume)
    logout = "; " + _logout_hint(evidence) if evidence.login.kill_user_processes else ""
    sentence = f"the supervisor died while the run was {_doing(evidence)}: killed, by whom is unknown"
    return Diagnosis("supervisor-killed", sentence, resume + logout)


# What the hardware, a rank, the others and the launcher say, in this order.


def _card_lost(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    """A card that the kernel saw fail outranks whatever the ranks say about it."""
    for line in evidence.kernel:
        found = _XID.search(line)
        if found and int(found["number"]) in HARDWARE_XIDS:
            words = re.sub(r"\b(?:pid|name)=[^,]*,\s*", "", found["words"]).strip(" ,.")
            lost = found["number"] == "79"
            who = next((f"; {suspect.origin} failed with it" for suspect in suspects if suspect.rank is not None), "")
            sentence = f"the card at PCI {found['place']} failed{_at(evidence)}: Xid {found['number']}, {words}{who}"
            hint = (
                "check power, temperature and seat of the card, reboot; "
                f"`t5panel resume {evidence.run_id}` goes on, `--gpus` leaves the card out"
            )
            return Diagnosis("gpu-lost" if lost else "gpu-xid", _line(sentence), hint, detail=line)
    return None


def _killed_rank(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    """A rank that a signal ended before any other failed: it says nothing, the others only miss it."""
    name, code = _first_exit(evidence, suspects)
    if code not in _BY_SIGNAL or any(one.origin == name and one.weight == "cause" for one in suspects):
        return None
    return _by_signal(evidence, name, code)


def _cause(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    return _of_weight(evidence, suspects, "cause")


def _symptom(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    return _of_weight(evidence, suspects, "symptom")


def _consequence(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    return _of_weight(evidence, suspects, "consequence")


def _other_signal(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    name, code = _first_exit(evidence, suspects)
    return _by_signal(evidence, name, code) if code < 0 else None


def _bad_loss(evidence: Evidence, _: list[_Suspect]) -> Diagnosis | None:
    if evidence.loss_finite is not False or evidence.exit_code in (None, 0):
        return None
    return Diagnosis(
        "loss-not-finite",
        f"the run ended after its loss was no longer finite{_at(evidence)}",
        "`--set train.learning_rate=…` lower, `--set train.max_grad_norm=1.0`; start from an earlier checkpoint",
    )


def _silent_rank(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    rank, code = _root_cause(evidence)
    if code <= 0 or rank is None or any(one.rank == rank for one in suspects):
        return None
    log = next((log for log in evidence.ranks if _rank_of(log) == rank), Log(""))
    words = next((plain(line).strip() for line in reversed(log.lines) if plain(line).strip()), "none")
    sentence = f"rank {rank}{_at(evidence)} returned {code} without an error; its last words: {words}"
    return Diagnosis("silent-exit", _line(sentence), _resume(evidence), rank)


def _vanished_rank(evidence: Evidence, suspects: list[_Suspect]) -> Diagnosis | None:
    """One rank is gone without a word and the others only miss it: deepspeed does not tell how it ended."""
    missing = {one.rank for one in suspects if one.rank is not None and one.weight == "consequence"}
    silent = [rank for log in evidence.ranks if (rank := _rank_of(log)) is not None and rank not in missing]
    if not missing or len(silent) != 1:
        return None
    found = _by_signal(evidence, f"rank {silent[0]}", -signal.SIGKILL, code="vanished")
    if found.code != "vanished":
        return found
    sentence = f"rank {silent[0]}{_at(evidence)} died without a word, the others only miss it{_memory(evidence)}"
    return Diagnosis("vanished", sentence, _resume(evidence), silent[0])


def _launcher_end(evidence: Evidence, _: list[_Suspect]) -> Diagnosis | None:
    code = evidence.exit_code
    agent = next((one for one in evidence.exits if "agent" in one.name and one.code < 0), None)
    if agent and code == 0:
        return _by_signal(evidence, agent.name, agent.code, code="agent-killed")
    if code is not None and code < 0:
        name = "the preparation" if evidence.launcher is None else "the launcher"
        return _by_signal(evidence, name, code, code="launcher-killed")
    if code == 0 and evidence.launcher is not None and evidence.launcher_name == "deepspeed":
        # It passes on positive return codes only.
        sentence = f"the deepspeed launcher returned 0 without a result{_at(evidence)}: its agent was killed"
        kill = _kernel_kill(evidence)
        words = f", {kill}" if kill else f", by whom is unknown{_memory(evidence)}"
        return Diagnosis("host-out-of-memory" if kill else "agent-killed", sentence + words, _memory_hint(evidence))
    return None


_ASKING_SIGNALS = (-signal.SIGTERM, -signal.SIGHUP)
_Judge = Callable[[Evidence, "list[_Suspect]"], Diagnosis | None]
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
    logs = sorted((*evidence.ranks, *_own_logs(evidence)), key=lambda log: -log.written)
    words = next((plain(line).strip() for log in logs for line in reversed(log.lines) if plain(line).strip()), "")
    name = "the preparation" if evidence.launcher is None and evidence.prepare is not None else "the launcher"
    ended = "ended" if evidence.exit_code is None else how_it_ended(evidence.exit_code)
    sentence = f"{name} {ended} without a result{_at(evidence)}; its last words: {words or 'none'}"
    hint = f"see the logs folder of the run; `t5panel resume {evidence.run_id}` tries again"
    return Diagnosis("unknown", _line(sentence), hint)


# Who says what.


def _suspects(evidence: Evidence) -> list[_Suspect]:
    """Every error that was left, the likeliest first: by time as ranks wrote it, else as their launcher saw it."""
    root, _ = _root_cause(evidence)
    told = {failure.rank: failure for failure in evidence.failures}
    logs = {_rank_of(log): log for log in evidence.ranks}
    found: list[_Suspect] = []
    for rank in dict.fromkeys((*told, *logs)):
        log = logs.get(rank, Log(f"rank-{rank}"))
        found += _in_log(
            log, rank, "a rank" if rank is None else f"rank {rank}", told.get(rank) if rank in told else None
        )
    # A clock that ranks share tells who was first; without it torchrun does, which looks ten times a second.
    found.sort(key=lambda one: (one.rank not in told, one.rank != root and not told, one.when))
    for log in _own_logs(evidence):
        found += _in_log(log, None, "the preparation" if log is evidence.prepare else "the launcher")
    return found


def _in_log(log: Log, rank: int | None, origin: str, failure: Failure | None = None) -> Iterator[_Suspect]:
    """The errors of one log, and before them what stands outside of exceptions and tells more."""
    warned = warnings_in(log.lines)
    if failure is not None:
        known = [_suspect(rank, origin, failure.time, of_failure(failure), warned, failure)]
    else:
        errors = errors_in(log.lines)
        known = [
            _suspect(rank, origin, log.written, error, warned) for error in (errors if rank is None else errors[-1:])
        ]
    text = without_warnings(log.lines)
    found = signatures.find_anywhere(text)
    if found and _tells_more(found, known):
        row, match = found
        begin = match[0].splitlines()[0]
        line = next((line for line in text.splitlines() if begin in line), begin)
        error = known[-1].error if known else Error("", "", "", line, "")
        when = known[-1].when if known else log.written
        yield _Suspect(rank, origin, when, _told(error, line), row, _groups(match), failure)
    yield from known


def _tells_more(found: tuple[Signature, re.Match[str]], known: list[_Suspect]) -> bool:
    """A row earlier in the table than that of any exception, or the same one with words that the exception lacks."""
    row, match = found
    heard = [one for one in known if one.weight != "consequence"]
    first = min((signatures.precedence(one.row) for one in heard), default=len(signatures.TABLE))
    bare = bool(_groups(match)) and not any(one.groups for one in heard)
    return signatures.precedence(row) < first or (bool(heard) and signatures.precedence(row) == first and bare)


def _told(error: Error, line: str) -> Error:
    """An exception whose cause another line of the log tells."""
    return Error("", line.strip(), error.where, error.text, error.traceback or line, error.rank)


def _suspect(
    rank: int | None, origin: str, when: float, error: Error, warned: str = "", failure: Failure | None = None
) -> _Suspect:
    found = signatures.find(error.text, f"{error.traceback}\n{warned}")
    if rank is None and error.rank is not None:
        rank, origin = error.rank, f"rank {error.rank}"
    row, groups = (found[0], _groups(found[1])) if found else (None, {})
    return _Suspect(rank, origin, when, error, row, groups, failure)


def _groups(match: re.Match[str]) -> dict[str, str]:
    return {name: value for name, value in match.groupdict().items() if value}


def _own_logs(evidence: Evidence) -> tuple[Log, ...]:
    """Logs of no rank: the launcher's, or the preparation's when it came to no launcher."""
    log = evidence.launcher if evidence.launcher is not None else evidence.prepare
    return (log,) if log is not None else ()


def _rank_of(log: Log) -> int | None:
    number = log.name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else None


def _root_cause(evidence: Evidence) -> tuple[int | None, int]:
    """Rank and exit code of the process that the launcher saw fail first; 0 when it does not say."""
    text = "\n".join(evidence.launcher.lines) if evidence.launcher else ""
    if found := _ROOT_CAUSE.search(text):
        return int(found[1]), int(found[2])
    codes = _DEEPSPEED_EXIT.findall(text)
    return None, int(codes[0]) if codes else 0


def _first_exit(evidence: Evidence, suspects: list[_Suspect]) -> tuple[str, int]:
    """Who ended by a signal before the others did, and its code; deepspeed does not say who."""
    rank, code = _root_cause(evidence)
    if code >= 0:
        return "", 0
    if rank is None:
        speaking = {one.rank for one in suspects}
        silent = [number for log in evidence.ranks if (number := _rank_of(log)) is not None and number not in speaking]
        rank = silent[0] if len(silent) == 1 else None
    return ("a rank" if rank is None else f"rank {rank}"), code


def _of_weight(evidence: Evidence, suspects: list[_Suspect], weight: Weight) -> Diagnosis | None:
    suspect = next((one for one in suspects if one.weight == weight), None)
    return _explain(evidence, suspect) if suspect else None


# Sentences.


def _explain(evidence: Evidence, suspect: _Suspect) -> Diagnosis:
    error, row = suspect.error, suspect.row
    detail = "\n".join((error.traceback or error.text).splitlines()[-DETAIL_LINES:])
    if row is None:
        place = f" ({error.where})" if error.where else ""
        sentence = f"{_who(evidence, suspect)} failed with {error.gist}{place}"
        hint = f"its traceback is in the logs folder; `t5panel resume {evidence.run_id}` tries again"
        return Diagnosis("exception", _line(sentence), hint, suspect.rank, detail)
    words = _Words(_words(evidence, suspect))
    return Diagnosis(
        row.code, _line(row.sentence.format_map(words)), _line(row.hint.format_map(words)), suspect.rank, detail
    )


class _Words(dict[str, str]):
    """Words of a template; one that is not known is left out."""

    def __missing__(self, name: str) -> str:
        return ""


def _words(evidence: Evidence, suspect: _Suspect) -> dict[str, str]:
    """All that a row's templates may say."""
    found = suspect.groups
    shortage, cure = _gpu_memory(evidence, suspect)
    last_error = re.search(r"Last error:\s*\n([^\n]+)", suspect.error.text)
    words = {
        "who": _who(evidence, suspect),
        "run": evidence.run_id,
        "gist": suspect.error.gist if suspect.error.name else suspect.error.message,
        "words": suspect.error.gist if suspect.error.name else suspect.error.message,
        "where": suspect.error.where,
        "memory": _memory(evidence),
        "free": "" if evidence.free_disk is None else f", {gib(evidence.free_disk)} are free now",
        "shortage": shortage,
        "smaller": cure,
        "seconds": f"{int(found['milliseconds']) / 1000:,.0f} s" if "milliseconds" in found else "",
        "bytes_words": f", {gib(int(found['bytes'][:25]))} were asked for" if "bytes" in found else "",
        "extension_words": f" ({found['extension']})" if "extension" in found else "",
        "last_error": f" ({last_error[1].strip()})" if last_error else "",
        "signal": _signal_name(int(found["number"][:3])) if "number" in found else "",
        "address": "its address",
        "logout": _logout_hint(evidence) if evidence.login.kill_user_processes else _resume(evidence),
    }
    if "operation" in found and "milliseconds" in found:
        words["operation_words"] = f" in {found['operation']} for {words['seconds']}"
    return words | found


def _who(evidence: Evidence, suspect: _Suspect) -> str:
    return suspect.origin + (_at(evidence) if suspect.rank is not None else "")


def _gpu_memory(evidence: Evidence, suspect: _Suspect) -> tuple[str, str]:
    """What was asked for and held, and what needs less; both empty for another death."""
    if suspect.row is None or suspect.row.code != "cuda-out-of-memory":
        return "", ""
    failure = suspect.failure
    held = (failure.vram_allocated, failure.vram_reserved) if failure else (None, None)
    seen = read_shortage(suspect.error.text, allocated=held[0], reserved=held[1])
    figures = (
        ("{} asked for", seen.requested),
        ("{} allocated", seen.allocated),
        ("{} reserved", seen.reserved),
        ("{} used by another process", seen.others),
        ("of {}", seen.total),
    )
    said = ", ".join(words.format(gib(size)) for words, size in figures if size is not None).replace(", of ", " of ")
    card = f" on its card {seen.card}" if seen.card is not None else ""
    return card + (f": {said}" if said else ""), _cure(evidence, fragmented=seen.fragmented, shared=bool(seen.others))


def _cure(evidence: Evidence, *, fragmented: bool, shared: bool) -> str:
    parts = []
    if shared:
        parts.append("another process holds memory of this card: `t5panel doctor` names it")
    if evidence.batch is None:
        parts.append("halve `train.per_device_train_batch_size`, double `train.gradient_accumulation_steps`")
    elif less := smaller(evidence.batch):
        parts.append(f"`{as_flags(evidence.batch, less)}` needs less for the same {less.effective:,} rows per step")
    else:
        parts.append("the batch is 1 and activations are recomputed: shorten `--set data.max_source_length=…`")
    if fragmented:
        parts.append("PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment avoids the fragmentation")
    return "; ".join(parts)


def _by_signal(evidence: Evidence, name: str, number: int, *, code: str = "") -> Diagnosis:
    """Somebody or something ended a process: the kernel only where there is evidence for it."""
    rank = int(name[5:]) if name.startswith("rank ") and name[5:].isdigit() else None
    subject = name + (_at(evidence) if name != "the preparation" else "")
    what = _signal_name(-number)
    if number != -signal.SIGKILL:
        crashed = number in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGABRT, -signal.SIGFPE)
        how = "crashed with" if crashed else "was ended by"
        outside = "" if crashed else " from outside"
        memory = _memory(evidence) if number == -signal.SIGBUS else ""
        sentence = f"{subject} {how} {what}{outside}{memory}"
        return Diagnosis(code or ("crashed" if crashed else "killed"), _line(sentence), _resume(evidence), rank)
    if kill := _kernel_kill(evidence):
        sentence = f"{subject} was killed by SIGKILL, {kill}{_memory(evidence)}"
        return Diagnosis("host-out-of-memory", _line(sentence), _memory_hint(evidence), rank)
    if _is_tight(evidence):
        sentence = f"{subject} was killed by SIGKILL, most likely for want of host memory{_memory(evidence)}"
        return Diagnosis("host-memory-pressure", _line(sentence), _memory_hint(evidence), rank)
    sentence = f"{subject} was killed by SIGKILL, by whom is unknown{_memory(evidence)}"
    return Diagnosis(code or "killed", _line(sentence), _resume(evidence), rank)


def _kernel_kill(evidence: Evidence) -> str:
    """What the kernel says about having killed for want of memory; empty without evidence."""
    for line in evidence.kernel:
        if found := _KERNEL_KILL.search(line):
            size = gib(int(found["kilobytes"][:18]) * 1024)
            return f"the kernel ran out of host memory and killed process {found['pid']} ({found['name']}, {size})"
    before, after = evidence.host.kills_before, evidence.host.kills_after
    for name, then, now in (("cgroup", before.cgroup, after.cgroup), ("machine", before.machine, after.machine)):
        if then is not None and now is not None and now > then:
            return f"the kernel ran out of host memory (it counted {now - then} such kills in the {name})"
    if any(_KERNEL_OUT_OF_MEMORY.search(line) for line in evidence.kernel):
        return "the kernel ran out of host memory"
    return ""


def _is_tight(evidence: Evidence) -> bool:
    host = evidence.host
    full = host.full is not None and host.full >= TIGHT_PRESSURE
    return full or (host.limit > 0 and host.used >= TIGHT_SHARE * host.limit)


def _memory(evidence: Evidence) -> str:
    """`: memory was at 11.8 of 12.0 GiB`, with the pressure when there was some."""
    host = evidence.host
    if host.limit <= 0:
        return ""
    pressure = f", pressure {host.full:.0f} %" if host.full else ""
    return f": memory was at {host.used / 2**30:.1f} of {host.limit / 2**30:.1f} GiB{pressure}"


def _memory_hint(evidence: Evidence) -> str:
    return (
        f"{_resume(evidence)}; fewer ranks (`--set num_gpus=…`) or "
        "`--set train.dataloader_num_workers=0` need less host memory"
    )


def _resume(evidence: Evidence) -> str:
    return f"`t5panel resume {evidence.run_id}` goes on from its newest complete checkpoint"


def _logout_hint(evidence: Evidence) -> str:
    return (
        "`loginctl enable-linger` and a start under `systemd-run --user --scope`, or KillUserProcesses=no in "
        f"logind.conf, keep a run alive; `t5panel resume {evidence.run_id}` goes on"
    )


def _at(evidence: Evidence) -> str:
    return f" at step {evidence.step:,}" if evidence.step is not None else ""


def _doing(evidence: Evidence) -> str:
    """`running at step 40`: the run's last message, which continues "the run was"."""
    return evidence.doing or ("running" + _at(evidence))


def how_it_ended(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    return f"returned {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _line(text: str) -> str:
    """A text as one line of bounded length."""
    one = re.sub(r"\s+([,;:.])(?=\s|$)", r"\1", " ".join(text.split()))
    return one if len(one) <= LONGEST_SENTENCE else one[: LONGEST_SENTENCE - 1].rstrip() + "…"
