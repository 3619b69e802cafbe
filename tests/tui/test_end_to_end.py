"""One real run from the panel in a real terminal: started, left, found again, stopped with a checkpoint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from t5panel.contract.layout import RunDir, all_runs
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_result, read_state
from t5panel.session import request_stop

SETTINGS = {
    "num_gpus": 2,
    "train.max_steps": 2000,
    "train.gradient_accumulation_steps": 1,
    "train.per_device_train_batch_size": 1,
    "data.max_predict_samples": 0,
    "data.max_eval_samples": 2,
}


class Tmux:
    """A tmux server of our own with one window of 100x30."""

    def __init__(self, socket: Path) -> None:
        self._base = ("tmux", "-S", str(socket), "-f", "/dev/null")

    def open(self, *command: str) -> None:
        """Run a command in the window."""
        wish = [f"{name}={os.environ[name]}" for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")]
        self._call("new-session", "-d", "-x", "100", "-y", "30", "env", *wish, *command)

    def press(self, *keys: str) -> None:
        """Type keys."""
        self._call("send-keys", *keys)

    def wait_for(self, text: str, seconds: float) -> str:
        """The screen as soon as it shows a text."""
        deadline = time.monotonic() + seconds
        while text not in (screen := self._call("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"no {text!r} within {seconds:.0f} s on:\n{screen}"
            time.sleep(0.2)
        return screen

    def wait_closed(self) -> None:
        """Until the command has ended."""
        deadline = time.monotonic() + 20
        while subprocess.run((*self._base, "has-session"), capture_output=True, check=False).returncode == 0:
            assert time.monotonic() < deadline, "the panel did not end"
            time.sleep(0.1)

    def close(self) -> None:
        """End the server."""
        subprocess.run((*self._base, "kill-server"), capture_output=True, check=False)

    def _call(self, *arguments: str) -> str:
        return subprocess.run((*self._base, *arguments), capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tmux(tmp_path: Path, home: Path) -> Iterator[Tmux]:
    """A terminal; whatever runs when the test ends is killed."""
    if shutil.which("tmux") is None:
        give_up = pytest.fail if "CI" in os.environ else pytest.skip
        give_up("tmux is not installed")
    terminal = Tmux(tmp_path / "tmux")
    yield terminal
    terminal.close()
    for run in all_runs(home):
        request_stop(run, now=True)
        _wait_until_ended(run)


@pytest.mark.timeout(240)
def test_a_run_outlives_the_panel_and_is_found_and_stopped_by_the_next(tmux: Tmux, home: Path) -> None:
    panel = (sys.executable, "-m", "t5panel")
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    tmux.open(*panel, "--preset", "manual", *settings)
    tmux.wait_for("1 × 1 × 2 = 2", 30)

    tmux.press("Enter")
    tmux.wait_for("━━ training", 120)
    tmux.press("q")
    tmux.wait_closed()
    (run,) = all_runs(home)
    alive_without_a_panel = read_state(run).alive

    tmux.open(*panel)
    tmux.wait_for("● running", 30)
    tmux.press("s")
    tmux.wait_for("Stop this run?", 10)
    tmux.press("Enter")
    tmux.wait_for("■ stopped", 60)
    tmux.press("q")
    tmux.wait_closed()

    result = read_result(run)
    assert alive_without_a_panel
    assert result is not None
    assert result.checkpoint is not None
    assert not marked(run)


def _wait_until_ended(run: RunDir) -> None:
    deadline = time.monotonic() + 20
    while read_state(run).alive and time.monotonic() < deadline:
        time.sleep(0.1)
