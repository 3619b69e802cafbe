"""What Python says when it fails: lines of a log in, errors out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from t5panel.contract.records import Failure

HEADER = "Traceback (most recent call last):"
MESSAGE_LINES = 40
"""Of one message: torch lists every unexpected key."""
LONGEST_LINE = 2000
"""Of a log; a progress bar or a dumped batch has no end, and patterns are tried at every character."""
_RANK_PREFIX = re.compile(r"^(?:\[\d+\] ?)?\[(?:rank|default)(\d+)\]:\s?")
"""torch's excepthook puts it before every line of a traceback once the process group exists."""
_LOG_PREFIX = re.compile(r"^(?:\[?[WEIF]\d{3,4} |\[\d{4}-\d\d-\d\d |={20}|-{20})")
_WARNING = re.compile(r"^\[?W\d{3,4} |^frame #\d+: ")
"""torch warns of failed sockets that it does without, and prints the C++ stack of every one."""
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
_IGNORED = ("Exception ignored in", "Error in atexit", "Exception in thread", "Exception ignored on")
_NAMED = re.compile(r"^([A-Za-z_][\w.]*)(?::\s?(.*))?$", re.DOTALL)
_ENDINGS = ("Error", "Exception", "Interrupt", "Exit", "Expired")
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)')
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python3|^<frozen ")


@dataclass(frozen=True, slots=True)
class Error:
    """One exception that ended a process, with those that led to it."""

    name: str
    """Of its class, as Python prints it: `torch.OutOfMemoryError`."""
    message: str
    where: str
    """`manual.py:61`, the innermost frame outside of libraries; empty when not known."""
    text: str
    """The messages of the whole chain, the first cause first."""
    traceback: str
    rank: int | None = None
    """From the prefix that torch writes."""

    @property
    def gist(self) -> str:
        """Name and first line of the message."""
        first = next((line.strip() for line in self.message.splitlines() if line.strip()), "")
        if "Original Traceback" in self.message:  # of a data loader's worker: its own error stands last
            first = self.message.strip().splitlines()[-1].strip()
        return f"{self.name}: {first}" if first else self.name


def plain(line: str) -> str:
    """A line without the prefix of its rank, cut to a length that can be searched."""
    return _RANK_PREFIX.sub("", line[:LONGEST_LINE])


def without_warnings(lines: Sequence[str]) -> str:
    """A log as one text, without torch's warnings and C++ stacks."""
    return "\n".join(line for line in map(plain, lines) if not _WARNING.match(line))


def warnings_in(lines: Sequence[str]) -> str:
    """What torch warned of in a log."""
    return "\n".join(line for line in map(plain, lines) if line.startswith("[W"))


def of_failure(failure: Failure) -> Error:
    """The exception that a rank's excepthook wrote down."""
    lines = failure.traceback.splitlines()
    message = "\n".join(plain(line) for line in failure.message.splitlines()[:MESSAGE_LINES])
    text = "\n".join((*(error.text for error in errors_in(lines)), f"{failure.kind}: {message}"))
    return Error(failure.kind, message, _where(lines), text, failure.traceback, failure.rank)


def errors_in(lines: Sequence[str]) -> tuple[Error, ...]:
    """Every exception of a log in its order; where no traceback is left, the lines that name one."""
    found: list[Error] = []
    for start in (number for number, line in enumerate(lines) if plain(line).startswith(HEADER)):
        before = next((plain(line) for line in reversed(lines[:start]) if plain(line).strip()), "")
        if before.startswith(_IGNORED):
            continue
        error = _read(lines, start)
        if found and before.startswith(_CHAINED):
            error = _chain(found.pop(), error)
        if error.name:
            found.append(error)
    return tuple(found) or tuple(_named_in(lines))


def _read(lines: Sequence[str], start: int) -> Error:
    """The exception whose traceback begins at a line."""
    body = [plain(line) for line in lines[start + 1 :]]
    frames = next((number for number, line in enumerate(body) if line and not line[0].isspace()), len(body))
    end = next((number for number in range(frames + 1, len(body)) if _ends(body[number])), len(body))
    message = body[frames : min(end, frames + MESSAGE_LINES)]
    named = _NAMED.match("\n".join(message))
    name, words = (named[1], named[2] or "") if named else ("", "\n".join(message))
    traceback = "\n".join((HEADER, *body[:frames], *message))
    # A data loader's worker sends its traceback within its message: source lines are nobody's words.
    text = "\n".join(line for line in message if not _WARNING.match(line) and not line.startswith("  "))
    return Error(name, words, _where(body[:frames]), text, traceback, _rank(lines[start]))


def _ends(line: str) -> bool:
    return not line.strip() or line.startswith((HEADER, *_CHAINED, *_IGNORED)) or bool(_LOG_PREFIX.match(line))


def _chain(cause: Error, error: Error) -> Error:
    return Error(
        error.name,
        error.message,
        error.where,
        f"{cause.text}\n{error.text}",
        f"{cause.traceback}\n\n{error.traceback}",
        error.rank if error.rank is not None else cause.rank,
    )


def _named_in(lines: Sequence[str]) -> Iterator[Error]:
    for line in lines:
        named = _NAMED.match(plain(line))
        if named and named[1].endswith(_ENDINGS) and named[2] is not None:
            yield Error(named[1], named[2], "", plain(line), plain(line), _rank(line))


def _rank(line: str) -> int | None:
    found = _RANK_PREFIX.match(line)
    return int(found[1]) if found else None


def _where(lines: Sequence[str]) -> str:
    """`file:line` of the innermost frame, of our own or the user's code when there is one."""
    frames = [found for line in lines if (found := _FRAME.match(line))]
    own = [frame for frame in frames if not _LIBRARY.search(frame[1])]
    if not frames:
        return ""
    last = (own or frames)[-1]
    return f"{last[1].rsplit('/', 1)[-1]}:{last[2]}"
