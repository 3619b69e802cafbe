"""A run that was stopped and resumed equals the run that was left alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Start
from t5panel.monitor.history import History
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_result
from t5panel.session import request_stop, resume
from tests.trainers.runs import assert_finished, finish, losses, metrics, start_run, steps

SETTINGS: dict[str, Any] = {
    "train.max_steps": 24,
    "train.dropout_rate": 0.1,  # the random state must come back too
    "train.eval_steps": 9,
    "train.max_grad_norm": 0.5,
    "train.gradient_checkpointing": True,
}
METHODS: dict[str, tuple[str, dict[str, Any], float]] = {
    "manual": ("manual", {}, 0.0),
    "trainer": ("trainer", {}, 0.0),
    "deepspeed": ("deepspeed", {}, 1e-6),
}
"""Preset, settings, and how much the losses may differ."""
PATIENCE_SECONDS = 120


def stop_after(run: RunDir, step: int) -> None:
    """Ask a run to stop as soon as it has logged a step."""
    history, deadline = History(run), time.monotonic() + PATIENCE_SECONDS
    while (last := history.refresh().last) is None or last.step < step:
        assert time.monotonic() < deadline, "the run did not come to the step"
        time.sleep(0.02)
    assert request_stop(run, now=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one(method: str, tmp_path: Path, word_pairs: Path) -> None:
    preset, extra, tolerance = METHODS[method]
    uninterrupted = start_run(tmp_path / "whole", preset, word_pairs, {**SETTINGS, **extra})
    run = start_run(tmp_path / "parts", preset, word_pairs, {**SETTINGS, **extra})
    stop_after(run, 5)
    stopped = finish(run)
    assert_finished(finish(uninterrupted))
    result = read_result(run)

    assert stopped.state.phase == "stopped"
    assert stopped.state.state is not None
    assert stopped.state.state.exit_code == 130
    assert result is not None
    assert result.status == "stopped"
    assert 5 <= result.step < 24
    assert result.checkpoint == f"checkpoints/checkpoint-{result.step}"
    assert marked(run) == ()

    resume(run)
    assert_finished(finish(run))

    starts = [metric for metric in metrics(run) if isinstance(metric, Start)]
    assert [start.step for start in starts] == [0, result.step]
    assert [step.step for step in steps(run)] == list(range(1, 25))
    assert [step.samples for step in steps(run)] == [step.samples for step in steps(uninterrupted)]
    assert [step.learning_rate for step in steps(run)] == [step.learning_rate for step in steps(uninterrupted)]
    pairs = zip(losses(run), losses(uninterrupted), strict=True)
    assert max(abs(mine - whole) for mine, whole in pairs) <= tolerance
