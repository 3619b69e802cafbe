"""A run's phase as it really is, whatever its files say."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.layout import RunDir, all_runs, write_atomic
from t5panel.contract.records import Phase, ProcessId, State
from t5panel.errors import UsageError
from t5panel.monitor.proc import boot_id, descendants, is_alive, read_process
from t5panel.monitor.runs import cut_off, read_info, read_state


def state_of(pid: int, start_time: int, *, boot: str, phase: Phase = "running") -> State:
    """A state as a supervisor with this pid would have left it."""
    return State(
        phase=phase,
        run_id="r",
        boot_id=boot,
        heartbeat=0.0,
        supervisor=ProcessId(pid, start_time),
        launcher=None,
        ranks=(),
        message="as written",
    )


def own_start_time() -> int:
    """When this process started, in clock ticks since boot."""
    process = read_process(os.getpid())
    assert process is not None
    return process.start_time


def write_state(run: RunDir, state: State) -> None:
    """Write a state file."""
    run.state.write_bytes(msgspec.json.encode(state))


def test_a_living_supervisor_is_believed(tmp_path: Path) -> None:
    write_state(RunDir(tmp_path), state_of(os.getpid(), own_start_time(), boot=boot_id()))

    state = read_state(RunDir(tmp_path))

    assert (state.phase, state.message, state.alive) == ("running", "as written", True)


def test_a_pid_that_now_belongs_to_another_process_is_no_living_supervisor(tmp_path: Path) -> None:
    write_state(RunDir(tmp_path), state_of(os.getpid(), own_start_time() - 1, boot=boot_id()))

    state = read_state(RunDir(tmp_path))

    assert (state.phase, state.alive) == ("failed", False)
    assert "the supervisor died" in state.message


def test_after_a_reboot_no_run_is_running(tmp_path: Path) -> None:
    write_state(RunDir(tmp_path), state_of(os.getpid(), own_start_time(), boot="another boot"))

    state = read_state(RunDir(tmp_path))

    assert (state.phase, state.alive) == ("failed", False)
    assert state.diagnosis is not None
    assert state.diagnosis.code == "machine-restarted"


def test_a_run_that_was_cut_off_tells_where_it_was_and_how_to_go_on() -> None:
    left = msgspec.structs.replace(state_of(1, 1, boot="a"), message="saving at step 40")

    rebooted, killed = cut_off("r1", left, boot="b"), cut_off("r1", left, boot="a")

    assert rebooted.message == (
        "the machine was restarted while the run was saving at step 40; "
        "`t5panel resume r1` goes on from its newest complete checkpoint"
    )
    assert killed.message.startswith(
        "the supervisor died while the run was saving at step 40: killed, by whom is unknown"
    )


def test_a_machine_whose_logind_ends_processes_is_told_of() -> None:
    found = cut_off("r1", state_of(1, 1, boot="a"), boot="a", kill_user_processes=True)

    assert "KillUserProcesses=no" in found.message


def test_a_paused_run_without_a_supervisor_has_lost_nothing() -> None:
    left = state_of(1, 1, boot="a", phase="paused")

    rebooted, ended = cut_off("r1", left, boot="b"), cut_off("r1", left, boot="a")

    assert (rebooted.phase, ended.phase) == ("stopped", "stopped")
    assert rebooted.message == "paused when the machine was restarted; resume it with t5panel resume r1"
    assert ended.message == "paused when its supervisor ended; resume it with t5panel resume r1"


def test_an_ended_run_keeps_its_phase_without_a_supervisor(tmp_path: Path) -> None:
    write_state(RunDir(tmp_path), state_of(1, 1, boot="another boot", phase="finished"))

    assert read_state(RunDir(tmp_path)).phase == "finished"


@pytest.mark.parametrize("content", [b"", b"{", b'{"phase": "dancing"}'])
def test_a_state_that_cannot_be_read_is_no_running_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)

    assert read_state(RunDir(tmp_path)).phase == "failed"


def test_a_broken_description_is_reported_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")

    with pytest.raises(UsageError, match=r"run\.json"):
        read_info(RunDir(tmp_path))


def test_processes_are_told_apart_by_their_start(tmp_path: Path) -> None:
    assert is_alive(os.getpid(), own_start_time())
    assert not is_alive(os.getpid(), own_start_time() + 1)
    assert read_process(2**22 + 1) is None


def test_a_process_is_not_its_own_descendant() -> None:
    assert os.getpid() in descendants(os.getppid())
    assert os.getpid() not in descendants(os.getpid())


def test_runs_are_listed_newest_first_without_drafts_and_strangers(tmp_path: Path) -> None:
    for name in ("20260101-a", "20260102-b", ".20260103-c.7.new", "20260104-empty"):
        (tmp_path / name).mkdir()
    for name in ("20260101-a", "20260102-b", ".20260103-c.7.new"):
        (tmp_path / name / "run.json").write_text("{}")

    assert [run.run_id for run in all_runs(tmp_path)] == ["20260102-b", "20260101-a"]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()

    with pytest.raises(OSError, match=r"state\.json"):
        write_atomic(tmp_path / "state.json", b"new")

    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_run_has_one_mark_whatever_path_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/run").symlink_to(tmp_path / "run")

    assert RunDir(tmp_path / "elsewhere/run").mark == RunDir(tmp_path / "run").mark
