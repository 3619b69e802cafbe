"""One supervisor per run, and nothing of the run left alive after any end: real processes, real signals."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Event, RankId, Sample, State, encode_line
from t5panel.errors import PreflightError
from t5panel.monitor.proc import describe, marked
from t5panel.monitor.runs import read_state
from t5panel.session import request_stop, spawn_supervisor
from tests.house.fake_rank import lender
from tests.house.household import House, ended, eventually, kill_with_warden, supervisor_pid

NASTY = ("own-session", "ignores-term", "daemon")


def supervise_with_short_patience(run: RunDir, *, ranks: int = 0, longest: float = 60.0) -> None:
    """Start a supervisor that waits one second where others wait longer, and see the ranks alive."""
    code = (
        "import sys, t5panel.launch.supervisor as it\n"
        "it.STOP_SECONDS = it.FAREWELL_SECONDS = it.TERM_SECONDS = 1.0\n"
        f"it.LONGEST_STOP_SECONDS = {longest}\n"
        "sys.exit(it.main(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True)
    eventually(lambda: run.state.exists() and len(list(run.logs.glob("alive-*"))) == ranks)


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
    assert re.fullmatch(r"stopped at step 7, checkpoint complete, 1 rank gone in \d\.\d s", state.message)
    assert marked(run) == ()


def test_a_port_that_another_process_keeps_is_named_in_the_stops_sentence(house: House) -> None:
    run = house.fake_run("waits", "lends-its-port")
    with socket.socket(socket.AF_UNIX) as borrower:
        borrower.bind(lender(run))
        borrower.listen()
        spawn_supervisor(run)
        connection, _ = borrower.accept()
        with connection:
            _, (descriptor,), _, _ = socket.recv_fds(connection, 16, 1)
    with socket.socket(fileno=descriptor) as borrowed:
        port = borrowed.getsockname()[1]
        eventually(lambda: len(read_ranks(run)) == 1)
        request_stop(run, now=False)
        state = ended(run)

    held = f"port {port} is not free: {describe(os.getpid())} holds it"
    assert (state.phase, state.message.rpartition(" s, ")[2]) == ("stopped", held)
    assert [event.message for event in events_of(run) if event.name == "port-held"] == [held]


def read_ranks(run: RunDir) -> tuple[RankId, ...]:
    """The ranks that the supervisor has seen."""
    return msgspec.json.decode(run.state.read_bytes(), type=State).ranks


def events_of(run: RunDir) -> list[Event]:
    """The run's journal."""
    return [msgspec.json.decode(line, type=Event) for line in run.events.read_bytes().splitlines()]


def test_stop_now_kills_the_nastiest_ranks_within_three_seconds(house: House) -> None:
    run = house.started("waits", *NASTY)

    answer = house.panel("stop", run.run_id, "--now", "--json")

    assert answer.returncode == 0, answer.stderr
    assert msgspec.json.decode(answer.stdout)["seconds"] < 3
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
    run = house.fake_run("leaves", *NASTY)

    supervise_with_short_patience(run, ranks=3)

    state = ended(run)

    assert state.phase == "failed"
    assert "the launcher returned 0" in state.message
    assert marked(run) == ()


def test_a_killed_launcher_takes_its_ranks_with_it(house: House) -> None:
    run = house.fake_run("waits", *NASTY)
    supervise_with_short_patience(run, ranks=3)
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


def test_a_stop_during_the_preparation_starts_no_rank(house: House) -> None:
    run = house.fake_run("waits", "honours-stop", prepare=(sys.executable, "-c", "import time; time.sleep(60)"))
    spawn_supervisor(run)

    request_stop(run, now=False)

    state = ended(run)
    assert (state.phase, state.message) == ("stopped", "stopped before the training began")
    assert not run.launcher_log.exists()
    assert marked(run) == ()


def test_a_stop_asked_for_before_the_first_tick_is_kept(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    run.request.write_text('{"action": "stop", "time": 0.0}')

    spawn_supervisor(run)

    assert ended(run).message == "stopped before the training began"


def test_a_request_that_cannot_be_read_is_a_stop(house: House) -> None:
    run = house.started("waits", "honours-stop")

    run.request.write_text("please")

    assert ended(run).phase == "stopped"


def test_faults_left_by_the_preparation_end_the_run_with_the_preflight_code(house: House) -> None:
    run = house.fake_run("waits", prepare=("sh", "-c", "echo '[]' > faults.json; exit 4"))

    spawn_supervisor(run)

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("failed", 4)


def test_a_preparation_killed_for_memory_is_named_so(house: House) -> None:
    run = house.fake_run("waits", prepare=("sh", "-c", "kill -9 $$"))

    spawn_supervisor(run)

    assert ended(run).message.startswith("the preparation was killed by SIGKILL, by whom is unknown: memory was at")


def test_a_program_that_does_not_exist_is_a_failed_run_and_no_crash(house: House) -> None:
    run = house.fake_run("waits", prepare=("/nowhere/python", "-c", "pass"))

    spawn_supervisor(run)

    assert ended(run).message == "cannot start /nowhere/python: No such file or directory"
    assert run.supervisor_log.read_text() == ""


def test_a_full_disk_does_not_end_a_run(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    run.samples.symlink_to("/dev/full")
    run.events.symlink_to("/dev/full")
    spawn_supervisor(run)
    eventually((run.logs / "alive-0").exists)

    request_stop(run, now=False)

    assert ended(run).phase == "stopped"
    assert run.supervisor_log.read_text() == ""


def test_removing_the_folder_of_a_run_ends_its_processes(house: House) -> None:
    run = house.started("waits", *NASTY)
    pid = supervisor_pid(run)

    shutil.rmtree(run.path)

    eventually(lambda: marked(run) == ())
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_folders_that_may_be_deleted_are_made_again(house: House) -> None:
    run = house.fake_run("finishes")
    shutil.rmtree(run.logs)
    shutil.rmtree(run.cache)

    spawn_supervisor(run)

    assert ended(run).phase == "finished"


def test_a_run_is_never_swept_for_another_one_of_the_same_name(house: House) -> None:
    mine = house.started("waits", "honours-stop", name="same")
    other = house.fake_run("finishes", name="elsewhere/same")

    spawn_supervisor(other)

    assert ended(other).phase == "finished"
    assert len(marked(mine)) == 2
    request_stop(mine, now=False)
    assert ended(mine).phase == "stopped"


def test_nothing_outlives_a_killed_supervisor_not_even_a_daemon_without_a_guard(house: House) -> None:
    run = house.started("waits", *NASTY)

    os.kill(supervisor_pid(run), signal.SIGKILL)

    assert eventually(lambda: marked(run) == ()) < 3
    assert read_state(run).phase == "failed"


def test_what_outlived_a_killed_supervisor_is_ended_by_stop(house: House) -> None:
    run = house.started("waits", "daemon")
    kill_with_warden(run)
    eventually(lambda: len(marked(run)) == 1)

    answer = house.panel("stop", run.run_id, "--json")

    assert answer.returncode == 0
    assert msgspec.json.decode(answer.stdout)["alive"] == []
    assert marked(run) == ()


def test_what_outlived_a_killed_supervisor_is_ended_before_a_resume(house: House) -> None:
    run = house.started("waits", "daemon")
    kill_with_warden(run)
    eventually(lambda: len(marked(run)) == 1)
    (left,) = marked(run)

    spawn_supervisor(run)

    eventually(lambda: left not in marked(run))
    request_stop(run, now=True)
    assert ended(run).phase == "stopped"


def test_readers_never_see_half_a_state(house: House) -> None:
    run = house.started("waits", "honours-stop")
    until = time.monotonic() + 2.2

    phases = {state.phase for state in iter(lambda: read_state(run) if time.monotonic() < until else None, None)}

    assert phases == {"starting"}
    request_stop(run, now=False)
    assert ended(run).phase == "stopped"
    assert [path.name for path in run.path.glob(".*")] == []


def test_what_the_supervisor_writes_holds_no_field_that_its_readers_do_not_know(house: House) -> None:
    run = house.started("waits", "guarded")
    eventually(lambda: run.samples.exists() and b'"rss"' in run.samples.read_bytes())
    request_stop(run, now=True)
    ended(run)

    samples = run.samples.read_bytes().splitlines(keepends=True)
    events = run.events.read_bytes().splitlines(keepends=True)

    assert [encode_line(msgspec.json.decode(line, type=Sample)) for line in samples] == samples
    assert [encode_line(msgspec.json.decode(line, type=Event)) for line in events] == events
    assert msgspec.json.encode(msgspec.json.decode(run.state.read_bytes(), type=State)) == run.state.read_bytes()


def test_ranks_that_do_not_stop_in_time_are_killed_and_the_run_says_so(house: House) -> None:
    run = house.fake_run("waits", *NASTY)
    supervise_with_short_patience(run, ranks=3)

    request_stop(run, now=False)

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("stopped", 130)
    assert "did not stop in time" in state.message
    assert marked(run) == ()


def test_a_checkpoint_that_takes_long_is_waited_for(house: House) -> None:
    run = house.fake_run("waits", "saves-slowly")
    supervise_with_short_patience(run, ranks=1)

    request_stop(run, now=False)
    eventually(lambda: read_state(run).message == "asked to stop: saving at step 7")

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("stopped", 130)
    assert state.message.startswith("stopped at step 7, checkpoint complete, 1 rank gone in ")


def test_a_checkpoint_that_never_ends_is_not_waited_for_without_end(house: House) -> None:
    run = house.fake_run("waits", "saves-forever")
    supervise_with_short_patience(run, ranks=1, longest=2.0)

    answer = house.click("stop", run.run_id)

    assert answer.stdout.startswith("did not stop in time and was killed without a checkpoint, 1 rank gone in ")


def test_ranks_that_fail_while_they_stop_have_failed_and_say_why(house: House) -> None:
    run = house.fake_run("waits", "fails-to-save")
    supervise_with_short_patience(run, ranks=1)

    request_stop(run, now=False)

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("failed", 1)
    assert state.message.startswith("asked to stop, but rank 0 could not write: the disk is full")


def test_a_launcher_that_lingers_after_the_result_is_ended_and_the_run_has_finished(house: House) -> None:
    run = house.fake_run("lingers")

    supervise_with_short_patience(run)

    state = ended(run)
    assert (state.phase, state.state and state.state.exit_code) == ("finished", 0)
    assert "the launcher was ended by SIGTERM" in state.message


def test_a_run_can_be_stopped_when_no_request_can_be_written(house: House) -> None:
    run = house.started("waits", *NASTY)
    run.request.mkdir()

    assert request_stop(run, now=True)

    assert ended(run, seconds=5).message.startswith("killed by the user")
    assert marked(run) == ()


def test_a_broken_run_is_not_resumed(house: House) -> None:
    run = house.fake_run("waits")
    run.run_json.write_text("{")

    answer = house.click("resume", run.run_id)

    assert answer.exit_code == 2
    assert "run.json: cannot be read" in answer.stderr
