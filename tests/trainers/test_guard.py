"""Separate trainings must never pass as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch

from t5panel import session
from t5panel.contract.layout import RUN_DIR_VARIABLE, SUPERVISOR_VARIABLE, RunDir
from t5panel.contract.process import pidfd_of, start_time_of
from t5panel.contract.records import Failure, RankId
from t5panel.trainers import guard
from t5panel.trainers.witness import failure_of
from tests.trainers.runs import finish


def described_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run under torchrun that was not started, whose three ranks are light ones and whose data needs no preparing."""
    settings = {"device": "cpu", "model.name_or_path": "builtin:tiny"}
    with monkeypatch.context() as patch:
        patch.setattr(session, "spawn_supervisor", lambda _run, **_how: None)
        run = session.start(session.prospect(session.Wish("trainer", settings, folder)))
    info = msgspec.json.decode(run.run_json.read_bytes())
    argv = info["command"]["argv"]
    module = argv.index("t5panel.trainers.trainer")
    argv[module - 1 : module + 1] = [str(Path(__file__).with_name("light_rank.py"))]
    info["prepare"]["argv"] = [sys.executable, "-c", ""]
    run.run_json.write_bytes(msgspec.json.encode(info))
    return run


def failures(run: RunDir) -> list[Failure]:
    """What the ranks left; the launcher kills the others when the first one fails, so maybe not all did."""
    return [msgspec.json.decode(path.read_bytes(), type=Failure) for path in run.ranks.glob("failure-*.json")]


def enter_alone(run: RunDir, *, world: int) -> int:
    """The exit code of a light rank 0 that no launcher started."""
    env = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(world)}
    return subprocess.run([sys.executable, "-m", "tests.trainers.light_rank", str(run.path)], env=env).returncode  # noqa: PLW1510


def test_ranks_of_the_wrong_world_end_at_once_and_the_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = described_run(tmp_path / "run", monkeypatch)
    run.run_json.write_text(run.run_json.read_text().replace("--nproc_per_node=3", "--nproc_per_node=2"))

    session.spawn_supervisor(run)
    last = finish(run)

    assert last.state.phase == "failed"
    assert "the launcher started a world of 2, the run needs 3" in last.state.message
    assert last.result is None
    assert {left.kind for left in failures(run)} == {"t5panel.trainers.guard.WorldSizeError"}


def test_an_exception_that_ends_a_rank_is_left_in_the_run_directory_and_in_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = described_run(tmp_path / "run", monkeypatch)
    begin = time.time()

    code = enter_alone(run, world=3)

    [found] = failures(run)
    assert code == 1
    assert (found.rank, found.kind, found.step) == (0, "ValueError", 7)
    assert found.message == "rank 0 met a bad row: ?"
    assert begin <= found.time <= time.time()
    assert found.vram_allocated is None
    assert 'raise ValueError(f"rank {me.rank} met' in found.traceback
    assert "Traceback (most recent call last)" in run.rank_log(0).read_text()


def test_where_no_file_can_be_written_the_traceback_still_reaches_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = described_run(tmp_path / "run", monkeypatch)
    run.ranks.touch()

    code = enter_alone(run, world=1)

    assert code == 1
    assert "WorldSizeError: the launcher started a world of 1" in run.rank_log(0).read_text()
    assert "sys.excepthook" not in run.rank_log(0).read_text()


def test_a_failure_holds_the_end_of_a_long_traceback_and_the_card_memory_of_torch() -> None:
    def deep(n: int) -> None:
        raise_at_the_bottom() if n == 0 else deep(n - 1)

    def raise_at_the_bottom() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB" + "." * 40_000)

    with pytest.raises(torch.OutOfMemoryError) as caught:
        deep(200)
    found = failure_of(caught.value, rank=2, step=None)

    assert found.kind == "torch.OutOfMemoryError"
    assert found.message.startswith("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert len(found.message) == 4000
    assert len(found.traceback) == 20_000
    assert found.vram_reserved in (0, None)  # whether an earlier test has used the card


def started_by(supervisor: str, run: RunDir) -> subprocess.Popen[bytes]:
    """A process of a run in a session of its own, deaf to SIGTERM."""
    env = {**os.environ, RUN_DIR_VARIABLE: run.mark[RUN_DIR_VARIABLE], SUPERVISOR_VARIABLE: supervisor}
    deaf = ("env", "--ignore-signal=TERM", "sleep", "600")
    return subprocess.Popen(deaf, env=env, start_new_session=True)


def test_ranks_end_what_their_dead_supervisor_started_and_nothing_of_the_next_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.ranks.mkdir(parents=True)
    with started_by("17", run) as frozen, started_by("17", run) as daemon, started_by("18", run) as later:
        (run.ranks / "0").write_bytes(msgspec.json.encode(RankId(0, frozen.pid, start_time_of(frozen.pid) or 0)))
        frozen.send_signal(signal.SIGSTOP)

        guard.end_others(run, 17)

        assert (frozen.wait(5), daemon.wait(5)) == (-signal.SIGKILL, -signal.SIGKILL)
        assert later.poll() is None
        later.kill()


@pytest.mark.parametrize("has_pidfd", [True, False])
def test_the_end_of_a_process_is_noticed_with_and_without_a_pidfd(
    has_pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_pidfd:
        monkeypatch.setattr(guard, "pidfd_of", lambda _pid: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        wait = guard.wait_for_end_of(process.pid)
        process.kill()
        process.wait()

        begin = time.monotonic()
        wait()

    assert time.monotonic() - begin < 2


def test_a_python_without_pidfd_open_asks_the_kernel_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    descriptor = pidfd_of(os.getpid())

    assert descriptor is not None
    os.close(descriptor)


def test_an_unknown_process_has_ended() -> None:
    guard.wait_for_end_of(2**22 + 1)()
