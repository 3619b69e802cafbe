"""One supervisor per run, and nothing of the run left alive after any end: real processes, real signals."""

from __future__ import annotations

import os
import signal
import time

import msgspec
import pytest

from t5panel.errors import PreflightError
from t5panel.monitor.proc import marked
from t5panel.session import request_stop, spawn_supervisor
from tests.house.household import House, ended, eventually, supervisor_pid

NASTY = ("own-session", "ignores-term", "daemon")


def test_a_result_decides_success_and_not_the_launchers_exit_code(house: House) -> None:
    run = house.fake_run("finishes")

    spawn_supervisor(run)

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("finished", 0)
    assert "the launcher returned 1" in state.message


def test_a_launcher_that_returns_zero_without_a_result_has_failed(house: House) -> None:
    run = house.fake_run("fails")

    spawn_supervisor(run)

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("failed", 1)


def test_a_stop_request_ends_a_run_with_its_ranks_own_result(house: House) -> None:
    run = house.started("waits", "honours-stop")

    assert request_stop(run, now=False)

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("stopped", 130)
    assert "checkpoint checkpoints/step-7" in state.message
    assert marked(run) == ()


def test_stop_now_kills_the_nastiest_ranks_within_three_seconds(house: House) -> None:
    run = house.started("waits", *NASTY)
    begin = time.monotonic()

    answer = house.panel("stop", run.run_id, "--now")

    assert answer.returncode == 0, answer.stderr
    assert time.monotonic() - begin < 3
    assert ended(run).phase == "stopped"
    assert marked(run) == ()


def test_sigterm_to_the_supervisor_is_a_stop_request(house: House) -> None:
    run = house.started("waits", "honours-stop")

    os.kill(supervisor_pid(run), signal.SIGTERM)

    assert ended(run).phase == "stopped"
    assert run.result.exists()


def test_a_second_sigterm_kills_at_once(house: House) -> None:
    run = house.started("waits", *NASTY)

    os.kill(supervisor_pid(run), signal.SIGTERM)
    eventually(run.request.exists)
    os.kill(supervisor_pid(run), signal.SIGTERM)

    assert ended(run, seconds=5).phase == "stopped"
    assert marked(run) == ()


def test_ranks_that_outlive_their_launcher_are_swept_and_the_run_has_failed(house: House) -> None:
    run = house.started("leaves", *NASTY)

    state = ended(run)

    assert state.phase == "failed"
    assert "the launcher returned 0" in state.message
    assert marked(run) == ()


def test_a_killed_launcher_takes_its_ranks_with_it(house: House) -> None:
    run = house.started("waits", *NASTY)
    launcher = msgspec.json.decode(run.state.read_bytes())["launcher"]["pid"]

    os.kill(launcher, signal.SIGKILL)

    state = ended(run)
    assert state.phase == "failed"
    assert "killed by SIGKILL" in state.message
    assert marked(run) == ()


def test_guarded_ranks_die_with_a_killed_supervisor_and_the_run_reads_failed(house: House) -> None:
    run = house.started("waits", "guarded", "guarded", "guarded")

    os.kill(supervisor_pid(run), signal.SIGKILL)

    assert eventually(lambda: marked(run) == ()) < 3
    state = ended(run)
    assert state.phase == "failed"
    assert "the supervisor died" in state.message


def test_a_second_supervisor_of_the_same_run_is_refused(house: House) -> None:
    run = house.started("waits", "honours-stop")
    first = supervisor_pid(run)

    with pytest.raises(PreflightError, match="already has a supervisor"):
        spawn_supervisor(run)

    assert supervisor_pid(run) == first
    request_stop(run, now=False)
    assert ended(run).phase == "stopped"
