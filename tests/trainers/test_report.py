"""What rank 0 writes down: losses that are no number, the first loss of a resumed run, records on a full disk."""

from __future__ import annotations

import errno
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import torch

from t5panel.contract.layout import RunDir, append_line
from t5panel.contract.records import Metric, Result, Start, Step, encode_line
from t5panel.contract.spec import RunSpec
from t5panel.trainers import report
from t5panel.trainers.data import Split
from t5panel.trainers.guard import Rank
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.report import Reporter, first_loss
from t5panel.trainers.trainer import training_arguments

SPEC = RunSpec.model_validate({"method": "manual", "launcher": "torchrun", "num_gpus": 1, "device": "cpu"})


def gather(value: Any) -> list[Any]:  # noqa: ANN401
    return [value]


def total(values: Sequence[float]) -> list[float]:
    return list(values)


def reporter_of(run: RunDir) -> Reporter:
    """The reporter of a run with one rank."""
    ranks = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"), sum=total, gather=gather)
    split = SimpleNamespace(train_rows=100, eval_rows=0)
    return Reporter(cast(Rank, SimpleNamespace(run=run, spec=SPEC)), cast(Ranks, ranks), cast(Split, split))


def train_step(reporter: Reporter, step: int, loss: float) -> None:
    reporter.meter.add_loss(torch.tensor(loss * 10))
    reporter.meter.add_step(tokens=10.0, waited=0.0)
    reporter.step(step, learning_rate=1e-3, grad_norm=loss)


def recorded(run: RunDir) -> list[Metric]:
    decoder = msgspec.json.Decoder(Metric)
    return [decoder.decode(line) for line in run.metrics.read_bytes().splitlines()]


def result(run: RunDir) -> Result:
    return msgspec.json.decode(run.result.read_bytes(), type=Result)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_null_in_its_very_step(loss: float, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    reporter = reporter_of(run)

    train_step(reporter, 1, 2.5)
    train_step(reporter, 2, loss)
    train_step(reporter, 3, 2.0)

    assert [(step.loss, step.grad_norm) for step in recorded(run) if isinstance(step, Step)] == [
        (2.5, 2.5),
        (None, None),
        (2.0, 2.0),
    ]


def test_the_trainer_does_not_replace_such_a_loss_by_the_mean_of_the_others(tmp_path: Path) -> None:
    assert training_arguments(SPEC, tmp_path, 10).logging_nan_inf_filter is False


def test_the_first_loss_of_a_resumed_run_is_that_of_its_first_step(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    begun = reporter_of(run)
    begun.started(step=0, max_steps=4, parameters=1)
    train_step(begun, 1, 6.0)
    train_step(begun, 2, 5.0)

    resumed = reporter_of(run)
    resumed.started(step=2, max_steps=4, parameters=1)
    train_step(resumed, 3, 4.0)
    resumed.ended(step=3, stopped=True)

    assert result(run).loss_first == 6.0
    assert result(run).loss_last == 4.0


def test_a_run_without_a_readable_record_has_no_first_loss(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"kind": "st\n')

    assert first_loss(tmp_path / "metrics.jsonl") is None


def test_records_that_find_no_room_are_written_later_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_path: Path, _line: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = RunDir(tmp_path)
    reporter = reporter_of(run)
    reporter.started(step=0, max_steps=4, parameters=1)
    with monkeypatch.context() as patch:
        patch.setattr(report, "append_line", full)
        train_step(reporter, 1, 6.0)
        train_step(reporter, 2, 5.0)
    train_step(reporter, 3, 4.0)

    assert [step.step for step in recorded(run) if isinstance(step, Step)] == [1, 2, 3]
    assert "No space left on device" in caplog.text


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    start = encode_line(Start(0.0, 0, 4, 1, 1, 100, 0, 8))
    run.metrics.write_bytes(start + start[:20])

    append_line(run.metrics, start)

    assert run.metrics.read_bytes() == start + start[:20] + b"\n" + start
