"""The real launchers with fake ranks: whoever is killed, nothing of the run stays alive."""

from __future__ import annotations

import os
import signal
from typing import Literal

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import RankId, State
from t5panel.monitor.proc import is_alive, marked
from t5panel.monitor.runs import read_state
from t5panel.session import spawn_supervisor
from tests.house.household import House, ended, eventually

RANKS = 3
Preset = Literal["manual", "trainer", "deepspeed"]


def launched(house: House, preset: Preset) -> RunDir:
    """A run whose launcher is the preset's own and whose ranks are guarded fakes, all of them alive."""
    run = house.fake_run("waits", *["guarded"] * RANKS)
    house.launched_by(run, preset, "tests.house.fake_rank")
    spawn_supervisor(run)
    eventually(lambda: len(list(run.logs.glob("alive-*"))) == RANKS, seconds=60)
    return run


def ranks_of(run: RunDir) -> list[RankId]:
    """The ranks as they registered themselves."""
    return [msgspec.json.decode(path.read_bytes(), type=RankId) for path in run.ranks.glob("[0-9]")]


def state_of(run: RunDir) -> State:
    """The supervisor's last state."""
    return msgspec.json.decode(run.state.read_bytes(), type=State)


@pytest.mark.parametrize("preset", ["manual", "trainer", "deepspeed"])
def test_after_the_supervisor_is_killed_ranks_die_within_three_seconds_and_launchers_follow(
    house: House, preset: Preset
) -> None:
    run = launched(house, preset)
    ranks = ranks_of(run)

    os.kill(state_of(run).supervisor.pid, signal.SIGKILL)

    assert eventually(lambda: not any(is_alive(rank.pid, rank.start_time) for rank in ranks)) < 3
    eventually(lambda: marked(run) == ())
    assert read_state(run).phase == "failed"


@pytest.mark.parametrize("preset", ["trainer", "deepspeed"])
def test_after_the_launcher_is_killed_its_ranks_are_swept_and_the_run_has_failed(house: House, preset: Preset) -> None:
    run = launched(house, preset)
    launcher = state_of(run).launcher
    assert launcher is not None

    os.kill(launcher.pid, signal.SIGKILL)

    assert ended(run).phase == "failed"
    assert marked(run) == ()
