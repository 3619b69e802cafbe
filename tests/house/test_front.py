"""The front may go at any moment: the run does not care. Only asking ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from t5panel.contract.layout import RunDir
from t5panel.monitor.runs import read_state
from t5panel.session import request_stop
from tests.house.household import House, ended, eventually


@contextmanager
def watching_front(house: House, run: RunDir) -> Iterator[subprocess.Popen[str]]:
    """A headless front that started the run and watches it."""
    command = [sys.executable, "-m", "t5panel", "resume", run.run_id]
    with subprocess.Popen(
        command, env={**os.environ, **house.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as front:
        eventually((run.logs / "alive-0").exists)
        yield front


def test_a_killed_front_leaves_its_run_alone(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    with watching_front(house, run) as front:
        front.kill()

    assert read_state(run).alive
    request_stop(run, now=False)
    assert ended(run).phase == "stopped"


@pytest.mark.skipif(
    shutil.which("tmux") is None and "CI" not in os.environ,  # there it fails rather than never runs
    reason="closing a real terminal needs tmux",
)
def test_a_closed_terminal_leaves_the_run_alone(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    tmux = ["tmux", "-S", str(house.home / "tmux.sock"), "-f", "/dev/null"]
    command = f"{sys.executable} -m t5panel resume {run.run_id}"
    subprocess.run([*tmux, "new-session", "-d", "-s", "ssh", command], env={**os.environ, **house.env}, check=True)
    eventually((run.logs / "alive-0").exists)

    subprocess.run([*tmux, "kill-session", "-t", "ssh"], check=True)

    assert read_state(run).alive
    request_stop(run, now=False)
    assert ended(run).phase == "stopped"


def test_ctrl_c_stops_the_run_with_a_checkpoint_and_returns_130(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    with watching_front(house, run) as front:
        front.send_signal(signal.SIGINT)
        stdout, stderr = front.communicate(timeout=20)

    assert front.returncode == 130
    assert "stopping with a checkpoint" in stderr
    assert stdout.startswith("stopped: stopped at step 7")


def test_a_second_ctrl_c_kills_the_run(house: House) -> None:
    run = house.fake_run("waits", "ignores-term")
    with watching_front(house, run) as front:
        front.send_signal(signal.SIGINT)
        eventually(run.request.exists)
        front.send_signal(signal.SIGINT)
        stdout, _ = front.communicate(timeout=20)

    assert front.returncode == 130
    assert stdout.startswith("stopped: killed by the user")


def test_ctrl_c_in_attach_leaves_the_run_alone(house: House) -> None:
    run = house.started("waits", "honours-stop")
    command = [sys.executable, "-m", "t5panel", "attach", run.run_id]
    with subprocess.Popen(command, env={**os.environ, **house.env}, stderr=subprocess.PIPE, text=True) as front:
        first = front.stderr.readline() if front.stderr else ""
        front.send_signal(signal.SIGINT)
        _, rest = front.communicate(timeout=20)

    assert first.startswith("starting: ")
    assert f"the run goes on: t5panel attach {run.run_id}" in rest
    assert (front.returncode, read_state(run).alive) == (0, True)
    request_stop(run, now=False)
    assert ended(run).phase == "stopped"
