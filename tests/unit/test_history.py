"""What a run directory says, line by line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import CommandInfo, Record, RunInfo, Start, Step, encode_line
from t5panel.monitor.history import History, Snapshot
from t5panel.monitor.steps import Rows

START = Start(
    time=0, step=0, max_steps=100, world_size=3, parameters=9, train_rows=500, eval_rows=50, effective_batch=24
)
INFO = RunInfo("r", "manual", 0.0, {}, CommandInfo((), {}), CommandInfo((), {}), (), "python", {}, {})


def step(number: int, loss: float | None = 1.0) -> Step:
    """A logged step of half a second."""
    return Step(
        time=float(number),
        step=number,
        epoch=0.0,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=None,
        samples=24 * number,
        target_tokens=7,
        step_seconds=0.5,
        data_wait_seconds=0.0,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run directory that holds nothing but its description."""
    run = RunDir(tmp_path)
    run.run_json.write_bytes(msgspec.json.encode(INFO))
    return run


def append(run: RunDir, *records: Record) -> None:
    """Write metrics as rank 0 does."""
    with run.metrics.open("ab") as file:
        file.writelines(map(encode_line, records))


def rows(snapshot: Snapshot) -> Rows:
    """Every step as it was written."""
    return snapshot.steps.rows(0, math.inf)


def test_a_run_without_metrics_has_no_steps(run: RunDir) -> None:
    snapshot = History(run).refresh()

    assert (snapshot.last, snapshot.max_steps, snapshot.samples_per_second, len(snapshot.steps)) == (
        None,
        None,
        None,
        0,
    )


def test_steps_come_as_series_and_rates(run: RunDir) -> None:
    append(run, START, step(1, 5.0), step(2, 4.0))

    snapshot = History(run).refresh()

    assert list(rows(snapshot).steps) == [1, 2]
    assert list(rows(snapshot).of("loss")) == [5.0, 4.0]
    assert snapshot.samples_per_second == 48.0
    assert snapshot.seconds_left == 49.0


def test_a_loss_that_was_not_finite_is_written_as_null_and_read_as_nan(run: RunDir) -> None:
    append(run, START, step(1, float("nan")), step(2, float("inf")))

    snapshot = History(run).refresh()

    assert b'"loss":null' in run.metrics.read_bytes()
    assert list(map(math.isnan, rows(snapshot).of("loss"))) == [True, True]


def test_a_bad_line_costs_only_itself(run: RunDir) -> None:
    append(run, START, step(1))
    with run.metrics.open("ab") as file:
        file.write(b'{"kind":"step","time":3.0,"st\n\xff\xfe\n{"kind":"unheard-of"}\n')
    append(run, step(2))

    snapshot = History(run).refresh()

    assert list(rows(snapshot).steps) == [1, 2]
    assert snapshot.rejected_lines == 3


def test_fields_of_a_later_version_are_skipped(run: RunDir) -> None:
    append(run, START)
    with run.metrics.open("ab") as file:
        file.write(encode_line(step(1)).replace(b"}\n", b',"perplexity":2.0}\n'))

    assert History(run).refresh().last == step(1)


def test_steps_after_a_resumed_checkpoint_are_void(run: RunDir) -> None:
    append(run, START, step(1), step(2), step(3))
    history = History(run)
    history.refresh()
    append(run, msgspec.structs.replace(START, step=1), step(2, 0.5))

    snapshot = history.refresh()

    assert list(rows(snapshot).steps) == [1, 2]
    assert list(rows(snapshot).of("loss")) == [1.0, 0.5]
    assert snapshot.last == step(2, 0.5)


def test_a_run_whose_metrics_fill_many_blocks_is_read_whole(run: RunDir) -> None:
    append(run, START, *map(step, range(1, 15_001)))

    snapshot = History(run).refresh()

    assert len(snapshot.steps) == 15_000


def test_a_snapshot_can_be_compared_and_changed_only_by_copying(run: RunDir) -> None:
    snapshot = History(run).refresh()

    with pytest.raises(AttributeError):
        snapshot.taken = 0.0  # type: ignore[misc]

    assert replace(snapshot, taken=0.0).taken == 0.0
