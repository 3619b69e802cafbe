"""Every step of a run can be drawn at any scale and read as it was written."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5panel.contract.layout import RunDir
from t5panel.contract.records import CommandInfo, RunInfo, Start, Step, encode_line
from t5panel.monitor import pieces, steps
from t5panel.monitor.history import History
from t5panel.monitor.pyramid import BASE, FAN, extremes, level_of
from t5panel.monitor.steps import Column, StepLog, column_edges, filled, raw_columns, rows_of

INFO = RunInfo("r", "manual", 0.0, {}, CommandInfo((), {}), CommandInfo((), {}), (), "python", {}, {})


def step(number: int, loss: float | None) -> Step:
    """A step of 8 rows in half a second."""
    return Step(float(number), number, 0.0, loss, 1e-3, None, 8 * number, 7, 0.5, 0.0)


def start(number: int) -> Start:
    """The ranks begin at a step."""
    return Start(0.0, number, 10**6, world_size=1, parameters=1, train_rows=1, eval_rows=1, effective_batch=8)


def unread(_low: float, _high: float) -> Sequence[Step]:
    """For logs whose rows are all in memory."""
    raise AssertionError


def expected(records: Sequence[Step], low: float, high: float, count: int) -> list[Column]:
    """The columns of the loss, by looking at every value."""
    numbers = [one.step for one in records]
    losses = [math.nan if one.loss is None else one.loss for one in records]
    edges = column_edges(low, high, count)
    firsts = [first for first in numbers[::BASE] if edges[0] < first <= edges[-1]]
    if len(firsts) < count:
        return filled(raw_columns(numbers, losses, edges))
    size = BASE * FAN ** level_of(len(firsts) / count)
    groups = [(numbers[at], losses[at : at + size]) for at in range(0, len(numbers), size)]
    return filled(
        extremes([loss for first, group in groups if edge < first <= after for loss in group])
        for edge, after in pairwise(edges)
    )


def records_of(length: int, stride: int, seed: int) -> list[Step]:
    """Steps in their order, some left out, some without a finite loss."""
    chance = random.Random(seed)
    numbers = [at * stride + chance.randrange(stride) for at in range(1, length + 1)]
    return [step(number, None if chance.random() < 0.1 else float(chance.randint(-9, 9))) for number in numbers]


RECORDS = st.builds(records_of, st.integers(0, 900), st.integers(1, 7), st.integers(0, 99))


@settings(max_examples=60)
@given(RECORDS, st.floats(-100, 7000), st.floats(0.5, 7000), st.integers(2, 40))
def test_columns_of_any_window_are_those_of_the_values(
    records: list[Step], low: float, length: float, count: int
) -> None:
    log = StepLog(unread)
    log.extend(rows_of(records))

    assert log.columns("loss", low, low + length, count) == expected(records, low, low + length, count)


@settings(max_examples=60)
@given(RECORDS, st.integers(0, 7000))
def test_the_greatest_and_least_value_of_a_whole_run_are_never_lost(records: list[Step], more: int) -> None:
    log = StepLog(unread)
    log.extend(rows_of(records))

    found = log.columns("loss", 1, (log.last or 1) + more + 1, 10)

    losses = [one.loss for one in records if one.loss is not None]
    assert [low for _, low, _ in found if low == min(losses)][:1] == [min(losses)] if losses else found == []
    assert max((high for _, _, high in found), default=None) == max(losses, default=None)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is kept in memory, and places in the file are near."""
    monkeypatch.setattr(steps, "KEPT_ROWS", 2 * BASE)
    monkeypatch.setattr(pieces, "PIECE", 1000)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run directory that holds nothing but its description."""
    run = RunDir(tmp_path)
    run.run_json.write_bytes(msgspec.json.encode(INFO))
    return run


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("begin", [0, 3, 31, 32, 33, 500, 899, 900])
def test_steps_after_a_resumed_one_are_void_wherever_they_stand(run: RunDir, begin: int) -> None:
    old = [step(number, number % 17) for number in range(1, 901)]
    new = [step(number, number % 13) for number in range(begin + 1, begin + 301)]
    run.metrics.write_bytes(b"".join(map(encode_line, (start(0), *old))))
    history = History(run)
    history.refresh()
    with run.metrics.open("ab") as file:
        file.writelines(map(encode_line, (start(begin), *new)))

    log = history.refresh().steps

    standing = [*old[:begin], *new]
    assert len(log) == len(standing)
    for low, high in ((1, len(standing)), (begin - 20, begin + 20), (1, 40), (300.5, 620)):
        assert log.columns("loss", low, high, 12) == expected(standing, low, high, 12)
        rows = log.rows(low, high)
        assert [*zip(rows.steps, rows.of("loss"), strict=True)] == [
            (one.step, one.loss) for one in standing if low <= one.step <= high
        ]


@pytest.mark.usefixtures("few_rows")
def test_two_starts_read_at_once_void_what_each_made_void(run: RunDir) -> None:
    attempts = ((0, 500), (450, 700), (60, 90), (0, 40), (40, 400))
    lines = [(start(begin), *(step(at, float(end)) for at in range(begin + 1, end + 1))) for begin, end in attempts]
    run.metrics.write_bytes(b"".join(encode_line(record) for attempt in lines for record in attempt))

    log = History(run).refresh().steps

    standing = [step(at, 40.0 if at <= 40 else 400.0) for at in range(1, 401)]
    assert list(log.rows(0, math.inf).steps) == [one.step for one in standing]
    assert log.columns("loss", 1, 400, 5) == expected(standing, 1, 400, 5)


@pytest.mark.usefixtures("few_rows")
def test_the_row_up_to_any_step_is_read_as_it_was_written(run: RunDir) -> None:
    run.metrics.write_bytes(b"".join(encode_line(step(2 * at, float(at))) for at in range(1, 451)))
    log = History(run).refresh().steps

    found = [log.at(number) for number in range(2, 901, 31)]

    assert [one and (one[0], one[1]["loss"], one[1]["samples_per_second"]) for one in found] == [
        (number // 2 * 2, number // 2, 16.0) for number in range(2, 901, 31)
    ]
    assert all(one is not None and math.isnan(one[1]["grad_norm"]) for one in found)
    assert log.at(1) is None


@pytest.mark.usefixtures("few_rows")
def test_without_its_file_a_run_keeps_its_curve_and_loses_only_old_rows(run: RunDir) -> None:
    run.metrics.write_bytes(b"".join(encode_line(step(at, float(at))) for at in range(1, 901)))
    log = History(run).refresh().steps
    run.metrics.unlink()

    assert len(log.columns("loss", 1, 900, 12)) == 12
    assert log.columns("loss", 1, 30, 12) == []
    assert list(log.rows(890, 895).steps) == [890, 891, 892, 893, 894, 895]
    assert log.at(20) is None
