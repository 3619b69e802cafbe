"""Who said what before a run ended, the likeliest culprit first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from t5panel.contract.records import Failure
from t5panel.monitor import signatures
from t5panel.monitor.clues import Evidence, Log
from t5panel.monitor.signatures import Signature, Weight
from t5panel.monitor.tracebacks import Error, errors_in, of_failure, warnings_in, without_warnings

_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s*: (\d+) \(local_rank.*?exitcode\s*: (-?\d+)", re.DOTALL
)
"""Source: torch.distributed.elastic.multiprocessing.errors."""
_DEEPSPEED_EXIT = re.compile(r"exits with return code = (-?\d+)")
"""Of the process that deepspeed's agent saw fail first; the command before it is another one's.

Source: deepspeed.launcher.launch, sigkill_handler."""
_ONE_PROCESS_EXIT = re.compile(
    r"CalledProcessError: Command .*(?:died with <Signals\.\w+: (\d+)>|returned non-zero exit status (\d+))\.\s*$",
    re.MULTILINE,
)
"""Of the only rank, which accelerate starts without torchrun. Source: accelerate.commands.launch, simple_launcher."""


@dataclass(frozen=True, slots=True)
class Suspect:
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
        """How likely it is the cause itself; what no row knows is taken for one."""
        return self.row.weight if self.row else "cause"


def suspects_of(evidence: Evidence) -> list[Suspect]:
    """Every error that was left, the likeliest first: by time as ranks wrote it, else as their launcher saw it."""
    root, _ = root_cause(evidence)
    told = {failure.rank: failure for failure in evidence.failures}
    logs = {rank_of(log): log for log in evidence.ranks}
    found: list[Suspect] = []
    for rank in dict.fromkeys((*told, *logs)):
        log = logs.get(rank, Log(f"rank-{rank}"))
        failure = None if rank is None else told.get(rank)
        found += _in_log(log, rank, "a rank" if rank is None else f"rank {rank}", failure)
    # A clock that ranks share tells who was first; without it torchrun does, which looks ten times a second.
    found.sort(key=lambda one: (one.rank not in told, one.rank != root and not told, one.when))
    for log in own_logs(evidence):
        found += _in_log(log, None, "the preparation" if log is evidence.prepare else "the launcher")
    return found


def _in_log(log: Log, rank: int | None, origin: str, failure: Failure | None = None) -> Iterator[Suspect]:
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
        yield Suspect(rank, origin, when, _told(error, line), row, _groups(match), failure)
    yield from known


def _tells_more(found: tuple[Signature, re.Match[str]], known: list[Suspect]) -> bool:
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
) -> Suspect:
    found = signatures.find(error.text, f"{error.traceback}\n{warned}")
    if rank is None and error.rank is not None:
        rank, origin = error.rank, f"rank {error.rank}"
    row, groups = (found[0], _groups(found[1])) if found else (None, {})
    return Suspect(rank, origin, when, error, row, groups, failure)


def _groups(match: re.Match[str]) -> dict[str, str]:
    return {name: value for name, value in match.groupdict().items() if value}


def own_logs(evidence: Evidence) -> tuple[Log, ...]:
    """Logs of no rank: the launcher's, or the preparation's when it came to no launcher."""
    log = evidence.launcher if evidence.launcher is not None else evidence.prepare
    return (log,) if log is not None else ()


def rank_of(log: Log) -> int | None:
    """The rank that wrote a log, from its name."""
    number = log.name.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else None


def root_cause(evidence: Evidence) -> tuple[int | None, int]:
    """Rank and exit code of the rank that failed first, as it was seen or as the launcher tells; 0 when nobody knows.

    The rank is None when the launcher does not say which it was.
    """
    for rank, code in _rank_exits(evidence):
        if code != 0:
            return rank, code
    text = "\n".join(evidence.launcher.lines) if evidence.launcher else ""
    if found := _ROOT_CAUSE.search(text):
        return int(found[1]), int(found[2])
    if found := _ONE_PROCESS_EXIT.search(text):
        return 0, -int(found[1]) if found[1] else int(found[2])
    codes = _DEEPSPEED_EXIT.findall(text)
    return None, int(codes[0]) if codes else 0


def silent_exit(evidence: Evidence, suspects: list[Suspect]) -> tuple[int | None, int]:
    """Rank and exit code of one that left by itself without a word, which others may miss; None when there is none."""
    speaking = {one.rank for one in suspects}
    for rank, code in _rank_exits(evidence):
        if code > 0 and rank not in speaking:
            return rank, code
    root, code = root_cause(evidence)
    # An exception, as those who miss another end with, returns 1.
    found = _only_silent(evidence, suspects) if root is None and code > 1 else root
    return (found, code) if code > 0 and found not in speaking else (None, 0)


def first_exit(evidence: Evidence, suspects: list[Suspect]) -> tuple[str, int]:
    """Who ended by a signal before the others did, and its code; deepspeed does not say who."""
    rank, code = root_cause(evidence)
    if code >= 0:
        return "", 0
    if rank is None:
        rank = _only_silent(evidence, suspects)
    return ("a rank" if rank is None else f"rank {rank}"), code


def _only_silent(evidence: Evidence, suspects: list[Suspect]) -> int | None:
    """The one rank that says nothing while others do; None when there is none, or several."""
    speaking = {one.rank for one in suspects}
    silent = [rank for log in evidence.ranks if (rank := rank_of(log)) is not None and rank not in speaking]
    return silent[0] if len(silent) == 1 else None


def _rank_exits(evidence: Evidence) -> Iterator[tuple[int, int]]:
    """Rank and exit code of the ranks that were seen to end; nothing when a signal ended their launcher before."""
    if evidence.exit_code is not None and evidence.exit_code < 0:
        return
    for one in evidence.exits:
        number = one.name.removeprefix("rank ")
        if number.isascii() and number.isdigit():
            yield int(number), one.code
