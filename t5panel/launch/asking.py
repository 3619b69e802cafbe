"""What the user wants of a running run: by request.json, by a signal to its supervisor, by its daily window."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from t5panel.contract.layout import RunDir, write_atomic
from t5panel.contract.records import Request

if TYPE_CHECKING:
    from t5panel.contract.window import Window

Asked = Literal["stop", "kill", "pause"]


class Asking:
    """Reads requests and signals as one wish, and writes the window's own request."""

    def __init__(self, run: RunDir, schedule: str | None) -> None:
        """`schedule`: the daily window, as the spec has it."""
        self._run = run
        self.signals = 0
        """How many signals have asked for an end: one for a stop, more for a kill."""
        self.window = _window_of(schedule)

    def now(self) -> Asked | None:
        """What is wanted; a run whose folder was removed shall end too."""
        if self.signals > 1 or not self._run.run_json.exists():
            return "kill"
        asked = _read(self._run.request)
        if self.signals and asked in (None, "pause"):
            asked = "stop"
            self._write("stop")
        return asked

    def take(self) -> Asked | None:
        """The same, which counts no more: in one move, so that nothing is lost that a front writes just now."""
        taken = self._run.request.with_suffix(".taken")
        try:
            self._run.request.rename(taken)
        except OSError:
            return "stop" if self.signals else None
        asked = _read(taken)
        with contextlib.suppress(OSError):
            taken.unlink()
        return "stop" if self.signals else asked

    def pause_when_closed(self) -> None:
        """Ask the ranks to save and leave when the daily window has closed."""
        if self.window is None or self.window.is_open(time.time()) or self._run.request.exists():
            return
        self._write("pause")

    def _write(self, action: Asked) -> None:
        with contextlib.suppress(OSError):  # the next tick tries again
            write_atomic(self._run.request, msgspec.json.encode(Request(action, time.time())))


def _read(path: Path) -> Asked | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Request).action
    except OSError:
        return None
    except msgspec.DecodeError:
        return "stop"  # as the ranks take any request


def _window_of(text: str | None) -> Window | None:
    if text is None:
        return None
    from t5panel.contract.window import parse_window

    return parse_window(text)
