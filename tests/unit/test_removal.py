"""Removing runs: only ended ones, and nothing but what is theirs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.layout import RunDir, all_runs
from t5panel.contract.records import Phase, ProcessId, State
from t5panel.errors import UsageError
from t5panel.launch.removal import remove_run
from t5panel.monitor.proc import boot_id, read_process


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of all runs."""
    home = tmp_path / "runs"
    home.mkdir()
    return home


def made(path: Path, phase: Phase = "finished") -> RunDir:
    """A run whose supervisor is this very process."""
    own = read_process(os.getpid())
    assert own is not None
    run = RunDir(path)
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "weights").write_bytes(b"x")
    run.run_json.write_text("{}")
    state = State(phase, run.run_id, boot_id(), 0.0, ProcessId(own.pid, own.start_time), None, ())
    run.state.write_bytes(msgspec.json.encode(state))
    return run


def test_an_ended_run_is_gone_and_the_others_stay(home: Path) -> None:
    run, other = made(home / "a"), made(home / "b")

    remove_run(run, home)

    assert list(home.iterdir()) == [other.path]


def test_a_living_run_stays(home: Path) -> None:
    run = made(home / "a", "running")

    with pytest.raises(UsageError, match="is still running"):
        remove_run(run, home)

    assert (run.checkpoints / "weights").exists()


def test_a_run_that_is_being_resumed_stays(home: Path) -> None:
    run = made(home / "a")

    with run.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="is being started"):
            remove_run(run, home)

    assert (run.checkpoints / "weights").exists()


def test_of_a_run_that_lives_elsewhere_only_its_links_are_removed(home: Path, tmp_path: Path) -> None:
    run, other = made(tmp_path / "elsewhere" / "a"), made(tmp_path / "elsewhere" / "b")
    for name, target in (("20260101-a", run), ("20260102-a", run), ("20260103-b", other)):
        (home / name).symlink_to(target.path)

    remove_run(run, home)

    assert (run.checkpoints / "weights").exists()
    assert [left.path for left in all_runs(home)] == [other.path]


def test_a_link_within_a_run_leads_to_nothing_that_is_removed(home: Path, tmp_path: Path) -> None:
    run, data = made(home / "a"), tmp_path / "data"
    data.mkdir()
    (data / "rows").write_text("precious")
    (run.path / "data").symlink_to(data)

    remove_run(run, home)

    assert not run.path.exists()
    assert (data / "rows").read_text() == "precious"
