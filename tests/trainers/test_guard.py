"""Separate trainings must never pass as one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t5panel import session
from t5panel.trainers import guard
from tests.trainers.runs import finish, write_pairs


def test_ranks_of_the_wrong_world_end_at_once_and_the_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_pairs(tmp_path / "data.jsonl", [(f"prompt {n}", f"response {n}") for n in range(50)])
    settings = {"device": "cpu", "data.train": str(data), "model.name_or_path": "builtin:tiny"}
    with monkeypatch.context() as patch:
        patch.setattr(session, "spawn_supervisor", lambda _run: None)
        run = session.start(session.prospect(session.Wish("trainer", settings, tmp_path / "run")))
    described = run.run_json.read_text()
    run.run_json.write_text(described.replace("--nproc_per_node=3", "--nproc_per_node=2"))

    session.spawn_supervisor(run)
    last = finish(run)

    assert last.state.phase == "failed"
    assert "WorldSizeError: the launcher started a world of 2, the run needs 3" in last.state.message
    assert last.result is None


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_the_end_of_a_process_is_noticed_with_and_without_a_pidfd(
    has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        monkeypatch.setattr(guard, "_pidfd", lambda _pid: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        wait = guard.wait_for_end_of(process.pid)
        process.kill()
        process.wait()

        begin = time.monotonic()
        wait()

    assert time.monotonic() - begin < 2


def test_a_python_without_pidfd_open_asks_the_kernel_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    descriptor = guard._pidfd(os.getpid())

    assert descriptor is not None
    os.close(descriptor)


def test_an_unknown_process_has_ended() -> None:
    guard.wait_for_end_of(2**22 + 1)()
