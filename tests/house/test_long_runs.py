"""Runs that live for days: a daily window, a queue for the cards, recovery, hooks and alerts. Real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Event, State
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_info, read_state
from t5panel.session import request_stop, spawn_supervisor
from tests.house.household import House, ended, eventually, supervisor_pid

PATCHED = """
import sys
from pathlib import Path
import t5panel.launch.asking as asking
import t5panel.launch.supervisor as it
import t5panel.monitor.watchdogs as dogs
from tests.house.fake_window import FileWindow
it.TERM_SECONDS = it.FAREWELL_SECONDS = 1.0
{lines}
sys.exit(it.main(*sys.argv[1:]))
"""


def supervise(run: RunDir, *lines: str, options: Sequence[str] = ()) -> None:
    """Start a supervisor with some of its constants changed."""
    code = PATCHED.format(lines="\n".join(lines))
    subprocess.run([sys.executable, "-c", code, str(run.path), *options], check=True)
    eventually(run.state.exists)


def window_of(run: RunDir) -> tuple[str, Path]:
    """The line that gives a supervisor a window by file, and the file."""
    file = run.path / "open"
    return f"asking._window_of = lambda text: FileWindow(Path({str(file)!r}))", file


def events(run: RunDir, *names: str) -> list[str]:
    """The messages of the run's events with these names."""
    lines = (msgspec.json.decode(line, type=Event) for line in run.events.read_bytes().splitlines())
    return [event.message for event in lines if event.name in names]


def alive(run: RunDir, rank: int = 0) -> bool:
    """Whether a rank said that it lives since this was asked last."""
    path = run.logs / f"alive-{rank}"
    found = path.exists()
    path.unlink(missing_ok=True)
    return found


def test_outside_of_its_window_a_run_waits_and_starts_when_it_opens(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    line, window = window_of(run)

    supervise(run, line)
    eventually(lambda: read_state(run).phase == "paused")
    state = msgspec.json.decode(run.state.read_bytes(), type=State)

    assert read_state(run).message == "paused until 22:00"
    assert state.until is not None
    assert 3500 < state.until - state.heartbeat < 3700
    assert not run.prepare_log.exists()

    window.touch()
    eventually(lambda: alive(run))
    assert events(run, "paused", "continued") == ["paused until 22:00", "the daily window is open"]
    request_stop(run, now=False)
    assert ended(run).phase == "stopped"


def test_when_the_window_closes_the_ranks_save_and_leave_and_go_on_when_it_opens_again(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    line, window = window_of(run)
    window.touch()
    supervise(run, line)
    eventually(lambda: alive(run))

    window.unlink()
    eventually(lambda: read_state(run).phase == "paused")

    assert marked(run) == ()
    assert [text.split(", 1 rank gone")[0] for text in events(run, "window")] == [
        "the daily window is closed: stopped at step 7, checkpoint complete"
    ]
    assert not run.request.exists()

    window.touch()
    eventually(lambda: alive(run))
    request_stop(run, now=False)
    assert ended(run).message.startswith("stopped at step 7, checkpoint complete")


def test_a_paused_run_can_be_stopped_and_the_user_is_never_overruled_by_the_window(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    line, _ = window_of(run)
    supervise(run, line)
    eventually(lambda: read_state(run).phase == "paused")

    answer = house.click("stop", run.run_id)

    assert answer.stdout.startswith("stopped while paused until 22:00")
    assert ended(run).phase == "stopped"


def test_a_stop_that_comes_while_the_ranks_pause_ends_the_run(house: House) -> None:
    run = house.fake_run("waits", "saves-slowly")
    line, window = window_of(run)
    window.touch()
    supervise(run, line)
    eventually(lambda: alive(run))

    window.unlink()
    eventually(run.request.exists)
    request_stop(run, now=False)

    assert ended(run).message.startswith("stopped at step 7, checkpoint complete")


def test_a_paused_run_whose_supervisor_is_gone_is_no_failure_and_can_be_resumed(house: House) -> None:
    run = house.fake_run("waits", "honours-stop")
    line, window = window_of(run)
    supervise(run, line)
    eventually(lambda: read_state(run).phase == "paused")

    os.kill(supervisor_pid(run), signal.SIGKILL)
    eventually(lambda: not read_state(run).alive)

    assert read_state(run).phase == "stopped"
    assert "paused when its supervisor ended; resume it with" in house.click("runs").stdout
    window.touch()
    supervise(run, line)
    eventually(lambda: alive(run))
    request_stop(run, now=True)
    assert ended(run).phase == "stopped"


def test_two_starts_on_one_card_are_one_run_and_one_refusal(house: House) -> None:
    first, second = (house.fake_run("waits", "honours-stop", cards=(0,)) for _ in range(2))

    spawn_supervisor(first)
    eventually(lambda: alive(first))
    spawn_supervisor(second)

    state = ended(second)
    assert (state.phase, state.state and state.state.exit_code) == ("failed", 4)
    assert state.message == f"card 0 is used by run {first.run_id}; --queue waits for it"
    request_stop(first, now=False)
    assert ended(first).phase == "stopped"


def test_queued_runs_start_one_after_the_other_in_the_order_they_came(house: House) -> None:
    runs = [house.fake_run("waits", "honours-stop", cards=cards) for cards in ((0, 1), (1, 2), (0, 1, 2))]
    for run in runs:
        spawn_supervisor(run, queue=True)
        eventually(lambda run=run: read_state(run).phase == "paused" or alive(run))  # type: ignore[misc]

    assert read_state(runs[1]).message == f"queued: card 1 is used by run {runs[0].run_id}"
    assert read_state(runs[2]).message == f"queued: card 1 is used by run {runs[1].run_id}"

    for run, later in ((runs[0], runs[1]), (runs[1], runs[2])):
        request_stop(run, now=False)
        assert ended(run).phase == "stopped"
        eventually(lambda later=later: alive(later))  # type: ignore[misc]
    request_stop(runs[2], now=False)
    assert ended(runs[2]).phase == "stopped"


def test_a_queue_is_not_held_up_by_one_who_died_in_it(house: House) -> None:
    first, dead, third = (house.fake_run("waits", "honours-stop", cards=(0,)) for _ in range(3))
    spawn_supervisor(first)
    eventually(lambda: alive(first))
    for run in (dead, third):
        spawn_supervisor(run, queue=True)
        eventually(lambda run=run: read_state(run).phase == "paused")  # type: ignore[misc]

    os.kill(supervisor_pid(dead), signal.SIGKILL)
    request_stop(first, now=False)

    eventually(lambda: alive(third))
    request_stop(third, now=False)
    assert ended(third).phase == "stopped"


def test_after_an_out_of_memory_a_run_goes_on_with_half_the_batch_until_it_fits(house: House) -> None:
    settings = {"oom_recovery": True, "train.per_device_train_batch_size": 8, "train.gradient_accumulation_steps": 3}
    run = house.fake_run("waits", "fits-batch-2", settings=settings)

    spawn_supervisor(run)

    assert ended(run).phase == "finished"
    info = read_info(run)
    assert info.spec["train"]["per_device_train_batch_size"] == 2
    assert info.spec["train"]["gradient_accumulation_steps"] == 12
    assert [recovery.after["train.per_device_train_batch_size"] for recovery in info.recoveries] == [4, 2]
    assert [recovery.step for recovery in info.recoveries] == [7, 7]
    assert events(run, "recovered")[0] == (
        "started again from step 7 with gradient_accumulation_steps 3 → 6, per_device_train_batch_size 8 → 4: "
        "the same rows per optimizer step"
    )


def test_three_recoveries_are_enough_and_none_is_made_unasked(house: House) -> None:
    batch = {"train.per_device_train_batch_size": 64}
    hopeless = house.fake_run("waits", "fits-batch-2", settings={"oom_recovery": True, **batch})
    unasked = house.fake_run("waits", "fits-batch-2", settings={"oom_recovery": False, **batch})

    for run in (hopeless, unasked):
        spawn_supervisor(run)

    assert ended(hopeless).phase == ended(unasked).phase == "failed"
    assert [len(read_info(run).recoveries) for run in (hopeless, unasked)] == [3, 0]
    assert events(hopeless, "recovery") == ["not started again: 3 recoveries did not help"]
    assert (read_state(unasked).state or State).diagnosis.code == "cuda-out-of-memory"  # type: ignore[union-attr]


def test_the_hook_hears_of_warnings_and_endings_and_cannot_hold_up_a_run(house: House) -> None:
    script = house.home / "hook.py"
    script.write_text(
        "import json, os, time\n"
        "told = {key: value for key, value in os.environ.items() if key.startswith('T5PANEL_')}\n"
        f"open({str(house.home / 'told.jsonl')!r}, 'a').write(json.dumps(told) + '\\n')\n"
        "time.sleep(60)\n"
    )
    run = house.fake_run("waits", "loses-its-loss", settings={"on_event": [sys.executable, str(script)]})

    spawn_supervisor(run)
    eventually(lambda: run.events.exists() and bool(events(run, "not-finite")))
    request_stop(run, now=False)

    assert ended(run).phase == "stopped"
    told = eventually_told(house.home / "told.jsonl", 2)
    assert [(line["T5PANEL_EVENT_NAME"], line["T5PANEL_EVENT_SEVERITY"]) for line in told] == [
        ("not-finite", "error"),
        ("stopped", "info"),
    ]
    assert told[0]["T5PANEL_EVENT_MESSAGE"] == "the loss is not finite at step 7"
    assert told[0]["T5PANEL_EVENT_RUN"] == str(run.path)


def eventually_told(path: Path, count: int) -> list[dict[str, str]]:
    """What hooks wrote, once there is enough of it."""
    eventually(lambda: path.exists() and len(path.read_text().splitlines()) >= count)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_hook_that_does_not_exist_is_an_event_and_no_crash(house: House) -> None:
    run = house.fake_run("waits", "honours-stop", settings={"on_event": ["/nowhere/notify"]})
    spawn_supervisor(run)
    eventually(lambda: alive(run))

    request_stop(run, now=False)

    assert ended(run).phase == "stopped"
    assert events(run, "hook") == ["/nowhere/notify: No such file or directory"]
    assert run.supervisor_log.read_text() == ""


def test_a_stalled_run_is_told_with_the_stacks_of_its_ranks(house: House) -> None:
    run = house.fake_run("waits", "stalls")

    supervise(run, "dogs.STALL_SECONDS = 1.0")
    eventually(lambda: run.stacks(0).exists() and b"in behave" in run.stacks(0).read_bytes())

    assert events(run, "stall")[0].startswith("no step for ")
    request_stop(run, now=True)
    assert ended(run).phase == "stopped"
