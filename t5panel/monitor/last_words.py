"""Why a run ended, as its logs tell it: text in, one line out."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t5panel.monitor.tail import last_lines

READ_LINES = 200
_RANK_PREFIX = re.compile(r"^\[rank\d+\]:\s?")
"""torch's excepthook puts it before every line of a traceback once the process group exists."""
_CONSEQUENCES = ("Connection closed by peer", "Connection reset by peer", "roken pipe", "BrokenPipe")
_CONSEQUENCE_NAMES = ("DistBackendError", "ChildFailedError", "CalledProcessError")
_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?rank\s*: (\d+) \(local_rank.*?exitcode\s*: (-?\d+)", re.DOTALL
)
"""Source: torch.distributed.elastic.multiprocessing.errors."""


@dataclass(frozen=True, slots=True)
class Log:
    """The end of one log; `written` is when its last line came, in unix seconds."""

    name: str
    written: float
    lines: tuple[str, ...]


def read_log(path: Path) -> Log:
    """A log as it is now; empty when there is none."""
    try:
        written = path.stat().st_mtime
    except FileNotFoundError:
        written = 0.0
    return Log(path.stem, written, last_lines(path, READ_LINES))


def why(logs: Sequence[Log], launcher: Log | None = None) -> str:
    """The line that names the cause: of the rank that failed first, a consequence only when there is nothing better."""
    culprit, code = _root_cause(launcher)
    first = sorted(logs, key=lambda log: (log.name != culprit, log.written))
    errors = [error for log in (*first, *((launcher,) if launcher else ())) for error in _errors(log)]
    if real := next((error for error in errors if not _is_consequence(error)), None):
        return real
    if code < 0:
        return f"{culprit} {how_it_ended(code)}"
    if errors:
        return errors[0]
    words = [line for log in (*reversed(first), launcher) if log for line in log.lines if line.strip()]
    return _RANK_PREFIX.sub("", words[-1]) if words else "no output; see the logs folder"


def how_it_ended(code: int) -> str:
    """An exit code in words; negative ones are signals."""
    if code >= 0:
        return f"returned {code}"
    cause = "; the kernel kills so when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{cause}"


def _root_cause(launcher: Log | None) -> tuple[str, int]:
    """Log name and exit code of the rank that torchrun saw fail first."""
    found = _ROOT_CAUSE.search("\n".join(launcher.lines)) if launcher else None
    return (f"rank-{found[1]}", int(found[2])) if found else ("", 0)


def _errors(log: Log) -> list[str]:
    """Lines that name an exception, the last one first."""
    lines = (_RANK_PREFIX.sub("", line) for line in reversed(log.lines))
    return [line for line in lines if _names_exception(line)]


def _names_exception(line: str) -> bool:
    name = line.split(":", 1)[0]
    return bool(name) and " " not in name and name.endswith(("Error", "Exception", "Interrupt"))


def _is_consequence(error: str) -> bool:
    """True for what a rank says when another one is gone, and a launcher when a rank has failed."""
    return error.split(":", 1)[0].endswith(_CONSEQUENCE_NAMES) or any(words in error for words in _CONSEQUENCES)
