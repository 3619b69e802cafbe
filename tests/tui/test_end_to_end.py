"""A real run from the panel in a real terminal, by keys alone: set up, left, found, stopped, resumed, compared."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from t5panel.contract.layout import RunDir, all_runs
from t5panel.contract.reading import records_in
from t5panel.contract.records import Metric, Start, Step
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_info, read_result, read_state
from t5panel.session import request_stop

from .recorded import finished

M = TypeVar("M", Start, Step)

SETTINGS = {
    "num_gpus": 2,
    "train.max_steps": 5000,
    "data.max_predict_samples": 0,
    "data.max_eval_samples": 2,
}


class Tmux:
    """A tmux server of our own with one window of 120x30."""

    def __init__(self, socket: Path) -> None:
        self._base = ("tmux", "-S", str(socket), "-f", "/dev/null")

    def open(self, *command: str) -> None:
        """Run a command in the window."""
        wish = [f"{name}={os.environ[name]}" for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")]
        self._call("new-session", "-d", "-x", "120", "-y", "30", "env", "-u", "COLUMNS", "-u", "LINES", *wish, *command)

    def press(self, *keys: str) -> None:
        """Type keys."""
        self._call("send-keys", *keys)

    def wait_for(self, text: str, seconds: float) -> str:
        """The screen as soon as it shows a text."""
        return self.wait_until(lambda screen: text in screen, seconds, repr(text))

    def wait_until(self, true: Callable[[str], bool], seconds: float, what: str = "such screen") -> str:
        """The screen as soon as something is true of it."""
        deadline = time.monotonic() + seconds
        while not true(screen := self._call("capture-pane", "-p")):
            assert time.monotonic() < deadline, f"no {what} within {seconds:.0f} s on:\n{screen}"
            time.sleep(0.2)
        return screen

    def settle(self) -> None:
        """The setup takes no start just after its form."""
        time.sleep(1.5)

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


@pytest.mark.timeout(600)
def test_by_keys_alone_a_run_is_set_up_left_found_stopped_resumed_and_compared(tmux: Tmux, home: Path) -> None:
    finished(home, "20260101-120000-manual")
    panel = (sys.executable, "-m", "t5panel")
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    tmux.open(*panel, "--preset", "manual", *settings)
    tmux.wait_for("2 × 16 × 2 = 64", 30)

    tmux.press("Home")
    tmux.wait_for("8 × 16 × 2 = 256", 20)
    tmux.press("e", "4", "Down", "2")
    tmux.wait_for("4 × 2 × 2 = 16", 20)
    tmux.press("Escape")
    tmux.settle()
    tmux.press("Enter")
    tmux.wait_for("◌ starting", 150)
    first = loss_on(tmux.wait_for("━━ training", 180))
    tmux.press("q")
    tmux.wait_closed()
    run = newest(home)
    alive_without_a_panel = read_state(run).alive

    tmux.open(*panel)
    tmux.wait_for("● running", 30)
    later = loss_on(tmux.wait_until(lambda screen: loss_on(screen) < first - 0.5, 90))
    tmux.press("s")
    tmux.wait_for("Stop this run?", 10)
    tmux.press("Enter")
    tmux.wait_for("■ stopped", 60)
    stopped = read_result(run)
    tmux.press("r")
    tmux.wait_for("● running", 180)
    tmux.press("3")
    tmux.wait_for("✓ finished", 20)
    tmux.press("Space", "Space", "c")
    figures = tmux.wait_for("train.per_device_train_batch_size", 30)
    tmux.press("Escape")
    tmux.wait_for("2 marked", 10)
    tmux.press("Home", "Enter")
    tmux.wait_for("━━ training", 20)
    tmux.press("K")
    tmux.wait_for("Kill this run now?", 10)
    tmux.press("Enter")
    tmux.wait_for("■ stopped", 60)
    tmux.press("q")
    tmux.wait_closed()

    info = read_info(run)
    assert (info.spec["method"], info.plan["effective_batch"]) == ("deepspeed", 16)
    assert alive_without_a_panel
    assert later < first
    assert stopped is not None
    assert stopped.checkpoint is not None
    assert [one.step for one in metrics_of(run, Start)] == [0, stopped.step]
    assert {"1 " + run.run_id, "2 20260101-120000-manual"} <= {
        words.strip() for words in re.split("  +", figures.replace("\u00a0", " ").replace("\n", "  "))
    }
    assert not marked(run)


def loss_on(screen: str) -> float:
    """The loss that the run screen tells; infinity before there is one."""
    found = re.search(r"loss (\d+\.\d+)", screen)
    return float(found[1]) if found else math.inf


def newest(home: Path) -> RunDir:
    """The newest run."""
    return next(all_runs(home))


def metrics_of(run: RunDir, kind: type[M]) -> list[M]:
    """The records of one kind that rank 0 wrote."""
    return [one for one in records_in(run.metrics, msgspec.json.Decoder(Metric)) if isinstance(one, kind)]


def _wait_until_ended(run: RunDir) -> None:
    deadline = time.monotonic() + 20
    while read_state(run).alive and time.monotonic() < deadline:
        time.sleep(0.1)
