"""A panel that is opened beside a living run and left again, and what that leaves behind."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.monitor.proc import marked
from tests.house.household import supervisor_pid

from .terminals import LEAVES_ALTERNATE_SCREEN, Terminal

PANEL_WORDS = b"from t5panel.cli import main"


@dataclass(frozen=True)
class Visit:
    """One panel, from its start to its end."""

    exit_code: int
    screen_left: bool
    settings_restored: bool
    """Whether the terminal treats its input as before."""
    seconds: float


@dataclass(frozen=True)
class Traces:
    """What panels could leave behind."""

    processes: frozenset[int]
    """Of the run: the same ones must live."""
    panels: tuple[int, ...]
    supervisor_files: int
    """Open in the supervisor."""
    files: frozenset[str]
    """In the run directory."""
    own_files: int
    """Open in this process."""


def visit(text: str) -> Visit:
    """Open a panel on the newest living run, wait for a text on its screen, leave with q."""
    begin = time.monotonic()
    terminal = Terminal()
    try:
        terminal.read_until(text)
        terminal.type(b"q")
        code = terminal.end()
        restored = terminal.settings() == terminal.before
    finally:
        terminal.close()
    left = LEAVES_ALTERNATE_SCREEN in terminal.output
    return Visit(code, left, restored, time.monotonic() - begin)


def traces_of(run: RunDir) -> Traces:
    """What there is now."""
    supervisor = supervisor_pid(run)
    return Traces(
        processes=frozenset(marked(run)),
        panels=tuple(pid for pid in _pids() if _is_panel_of_ours(pid)),
        supervisor_files=_open_files(supervisor),
        files=frozenset(
            str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.parent != run.checkpoints
        ),
        own_files=_open_files(os.getpid()),
    )


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _is_panel_of_ours(pid: int) -> bool:
    """Whether it shows the runs of this home: others on the machine may test too."""
    home = f"XDG_STATE_HOME={os.environ['XDG_STATE_HOME']}\0".encode()
    try:
        words, environment = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    except OSError:  # it has just ended, or is another user's
        return False
    return PANEL_WORDS in words and home in environment
