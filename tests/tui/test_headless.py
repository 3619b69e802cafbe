"""The headless twin: every event that matters is told once, at once, with its time."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Event
from t5panel.headless import PlainTeller, follow
from t5panel.monitor.history import History
from t5panel.plan.machine import GIB
from t5panel.render.run import run_row, snapshot_json, summary_lines

from .recorded import CREATED, DISK, OOM, OPENING, SPIKE, STALL, diagnosed, ended, finished, living, paused, tell

PERIOD_SECONDS = 0.02
OVER = Event(CREATED + 100, "stall", "the ranks make steps again")


@contextmanager
def going_on(run: RunDir, *chapters: tuple[Event, ...]) -> Iterator[None]:
    """While it is watched, the run notes these events, one group after another, and then finishes."""

    def write() -> None:
        for events in chapters:
            time.sleep(15 * PERIOD_SECONDS)
            tell(run, *events)
        time.sleep(15 * PERIOD_SECONDS)
        ended(run, "finished", "finished at step 80")

    writer = threading.Thread(target=write)
    writer.start()
    yield
    writer.join()


def test_every_event_that_matters_is_a_line_of_its_own_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = living(home)
    turns = (
        Event(CREATED + 101, "out-of-memory", "CUDA out of memory on rank 1", "warning"),
        Event(CREATED + 102, "recovered", "started again with batch 1 × 4", "warning"),
        Event(CREATED + 103, "spawned", "pid 7"),
        Event(CREATED + 104, "paused", "paused until 22:00"),
        Event(CREATED + 105, "continued", "the daily window opened"),
    )

    with going_on(run, (STALL,), (OVER, *turns)):
        follow(run, period=PERIOD_SECONDS)

    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("2026-01-01")]
    assert told == [
        "2026-01-01 12:01:35 ✗ stall: no step for 61 s after step 50, usually one takes 0.8 s",
        "2026-01-01 12:01:40 ✓ stall: the ranks make steps again",
        "2026-01-01 12:01:41 ! out-of-memory: CUDA out of memory on rank 1",
        "2026-01-01 12:01:42 ! recovered: started again with batch 1 × 4",
        "2026-01-01 12:01:44 · paused until 22:00",
        "2026-01-01 12:01:45 · continued: the daily window opened",
    ]


def test_who_comes_later_is_told_what_stands_and_nothing_that_is_over(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = Event(CREATED + 1, "prepared", "2,996 rows, 14 prompts truncated", "warning")
    run = tell(living(home), prepared, STALL, DISK, OVER, *(Event(CREATED, "noise", "pid 7"),) * 300)

    with going_on(run):
        follow(run, period=PERIOD_SECONDS)

    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("2026-01-01")]
    assert told == ["2026-01-01 12:00:20 ! disk: the next checkpoint will not fit: 0.4 GiB free, it takes 1.1 GiB"]


def test_on_a_terminal_events_stand_above_the_bar(home: Path) -> None:
    run = living(home)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)

    with going_on(run, (SPIKE,)):
        follow(run, console=console, period=PERIOD_SECONDS)

    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert shown.count("! loss-spike: the loss jumped from 3.121 to 7.904 at step 50") == 1
    assert shown.index("loss-spike") < shown.rindex("step 50/80")


def test_a_pause_says_when_it_goes_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = paused(home)

    with going_on(run):
        follow(run, period=PERIOD_SECONDS)

    assert capsys.readouterr().err.startswith("paused until 22:00 · step 50/80 · loss 3.1067\n")
    assert snapshot_json(History(paused(home, "20260102-130000-manual")).refresh())["until"] == OPENING


def test_a_failed_run_ends_with_its_cause_its_traceback_and_where_to_read_on(home: Path) -> None:
    snapshot = History(diagnosed(home)).refresh()

    lines = list(summary_lines(snapshot))

    assert lines[0] == f"failed: {OOM.sentence}"
    assert lines[1] == f"→ {OOM.hint}"
    assert lines[2:4] == ["rank 1         Traceback (most recent call last):", "    …"]
    assert lines[11].startswith("    torch.OutOfMemoryError: CUDA out of memory.")
    assert lines[12] == f"logs           {snapshot.run.rank_log(1)}"
    assert "recovered      batch 4 × 1 → 2 × 2 after an out-of-memory, from step 20 on" in lines
    assert lines[-1] == f"run directory  {snapshot.run.path}"


def test_json_tells_alerts_diagnosis_and_recoveries(home: Path) -> None:
    value = snapshot_json(History(tell(diagnosed(home), SPIKE, STALL)).refresh())
    calm = snapshot_json(History(finished(home)).refresh())

    assert value["alerts"][0] == {
        "name": "stall",
        "severity": "error",
        "message": "no step for 61 s after step 50, usually one takes 0.8 s",
        "time": CREATED + 95,
    }
    assert [alert["name"] for alert in value["alerts"]] == ["stall", "loss-spike"]
    assert value["diagnosis"] == msgspec.to_builtins(OOM)
    assert value["recoveries"][0]["step"] == 20
    assert value["recoveries"][0]["after"]["train.per_device_train_batch_size"] == 2
    assert (calm["alerts"], calm["until"], calm["diagnosis"], calm["recoveries"]) == ([], None, None, ())


def test_the_list_of_runs_says_until_when_and_why(home: Path) -> None:
    waiting = run_row(History(paused(home), lambda: OPENING - 3 * 3600 - 300).refresh())
    failed = run_row(History(diagnosed(home)).refresh())

    assert waiting[3:] == ("paused", "step 50/80 · paused until 22:00 (in 3 h 05 min)")
    assert failed[3:] == ("failed", f"step 50/80 · {OOM.sentence}")


def test_a_terminal_shows_every_card_and_rank_beside_the_progress(home: Path) -> None:
    run = living(home, cards=3)
    output = io.StringIO()

    with going_on(run):
        follow(run, console=Console(file=output, force_terminal=True, width=100, height=30), period=PERIOD_SECONDS)

    sample = History(run).refresh().sample
    assert sample is not None
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    for card in sample.cards:
        vitals = f"{card.utilization} %  {card.power:.0f} W  {card.temperature} °C"
        assert re.search(rf"card {card.index} .*{card.used / GIB:.1f}/{card.total / GIB:.1f} GiB *{vitals}", shown)
    for rank in sample.ranks:
        assert re.search(rf"rank {rank.rank} .*{rank.rss / 2**20:,.0f} MiB", shown)
    assert re.search(rf"host .*{sample.ram_used / GIB:.1f}/{sample.ram_limit / GIB:.1f} GiB", shown)
    assert "loss" in shown
    assert re.search(r"speed .*27\.3 samples/s · 1,306 tokens/s · 6\.7 Wh", shown)
    assert re.search(r"time .*compute 99% · data 1% · communication not recorded", shown)
    assert "loss 3.1950 · chrF 5.2 · step 40" in shown
    assert "checkpoint of step 40" in shown


def test_without_a_terminal_progress_is_told_at_most_every_ten_seconds_and_events_at_once(home: Path) -> None:
    snapshot, teller = History(living(home)).refresh(), PlainTeller()
    other = replace(snapshot, state=replace(snapshot.state, phase="evaluating"))

    told = {
        second: teller.lines(other if second % 2 else snapshot, [STALL] if second == 13 else [], float(second))
        for second in range(31)
    }

    assert [second for second, lines in told.items() if lines] == [0, 10, 13, 20, 30]
    assert told[13] == ["2026-01-01 12:01:35 ✗ stall: no step for 61 s after step 50, usually one takes 0.8 s"]
    assert told[10][0].startswith("step 50/80 · loss 3.1067 · lr 1.71e-03 · 27.3 samples/s · 1,306 tokens/s · RAM 408")


def test_without_a_terminal_a_pause_is_told_soon_and_then_seldom(home: Path) -> None:
    snapshot, waiting, teller = History(living(home)).refresh(), History(paused(home, "p")).refresh(), PlainTeller()

    told = [second for second in range(1300) if teller.lines(waiting if second else snapshot, [], float(second))]

    assert told == [0, 10, 610, 1210]
