"""All that a supervisor writes to its run: the state, the events, the readings; and the hook that is told of events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from t5panel.contract.layout import RunDir, append_line, write_atomic
from t5panel.contract.records import Event, Record, Severity, State, encode_line
from t5panel.launch.helpers import Helpers

HOOK_SECONDS = 30.0
HOOK_EVENTS = ("paused", "continued", "finished", "stopped")
"""Told to the hook though they are no warnings."""
HOOK_EVERY_SECONDS = 60.0
"""Between two hooks of the same event: a value that swings around its limit shall not flood anybody."""


class Journal:
    """The one writer of state.json, events.jsonl and samples.jsonl. A full disk must not end a training."""

    def __init__(self, run: RunDir, hook: Sequence[str], helpers: Helpers) -> None:
        self._run, self._hook, self._helpers = run, tuple(hook), helpers
        self._told: dict[str, float] = {}

    def event(self, name: str, message: str, severity: Severity = "info") -> None:
        """Write an event, and tell the hook of it when it is worth a call."""
        self.append(self._run.events, Event(time.time(), name, message, severity))
        if self._hook and (severity != "info" or name in HOOK_EVENTS):
            self._tell(name, message, severity)

    def state(self, state: State, *, durable: bool = False) -> None:
        """Replace state.json."""
        with contextlib.suppress(OSError):
            write_atomic(self._run.state, msgspec.json.encode(state), durable=durable)

    @staticmethod
    def append(path: Path, record: Record) -> None:
        """Append one record."""
        with contextlib.suppress(OSError):
            append_line(path, encode_line(record))

    def _tell(self, name: str, message: str, severity: Severity) -> None:
        now = time.monotonic()
        if now - self._told.get(name, -HOOK_EVERY_SECONDS) < HOOK_EVERY_SECONDS:
            return
        self._told[name] = now
        told = {
            "T5PANEL_EVENT_NAME": name,
            "T5PANEL_EVENT_MESSAGE": message,
            "T5PANEL_EVENT_SEVERITY": severity,
            "T5PANEL_EVENT_RUN": str(self._run.path),
        }
        problem = self._helpers.start(self._hook, self._run.logs / "hook.log", seconds=HOOK_SECONDS, env=told)
        if problem:
            self.append(self._run.events, Event(time.time(), "hook", problem, "warning"))
