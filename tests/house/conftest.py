"""A home of its own for every test."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from t5panel.monitor.proc import marked
from tests.house.household import House


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A home of its own; whatever a test leaves alive in it is killed."""
    env = {f"XDG_{kind.upper()}_HOME": str(tmp_path / kind) for kind in ("state", "cache", "config")}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    house = House(tmp_path, env)
    yield house
    for run in house.runs:
        for pid in marked(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
