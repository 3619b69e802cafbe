"""A run that was stopped and resumed equals the run that was left alone, in the precision of the shipped presets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Start, Step
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_result
from t5panel.session import resume
from tests.trainers.runs import (
    assert_finished,
    branch,
    finish,
    losses,
    metrics,
    start_run,
    steps,
    stop_after,
)

STEPS, FORK = 16, 4
SETTINGS: dict[str, Any] = {
    "train.max_steps": STEPS,
    "train.dropout_rate": 0.1,  # the random state must come back too
    "train.eval_steps": 7,
    "train.save_steps": FORK,
    "train.save_total_limit": 9,
    "train.max_grad_norm": 0.5,
    "train.bf16": True,
    "train.gradient_checkpointing": True,
    "train.optim": "adamw_torch_fused",
    "data.max_eval_samples": 24,
}
TOLERANCE = {"manual": 0.0, "trainer": 0.0, "deepspeed": 1e-6}
"""How much the losses may differ, by preset."""
STOP_AT = 10


@pytest.fixture(scope="module", params=TOLERANCE)
def preset(request: pytest.FixtureRequest) -> str:
    """Each method."""
    return str(request.param)


@pytest.fixture(scope="module")
def stopped(preset: str, tmp_path_factory: pytest.TempPathFactory, word_pairs: Path) -> RunDir:
    """A run that was stopped at a step k behind its checkpoint of step 4: uninterrupted up to there."""
    run = start_run(tmp_path_factory.mktemp("resume") / preset, preset, word_pairs, SETTINGS)
    stop_after(run, STOP_AT)
    assert finish(run).state.phase == "stopped"
    return run


def test_a_stop_ends_at_one_step_with_a_checkpoint_and_no_process_left(stopped: RunDir) -> None:
    last = finish(stopped)
    result = read_result(stopped)

    assert last.state.state is not None
    assert last.state.state.exit_code == 130
    assert result is not None
    assert result.status == "stopped"
    assert STOP_AT <= result.step < STEPS
    assert result.checkpoint == f"checkpoints/checkpoint-{result.step}"
    assert marked(stopped) == ()


def test_every_method_learns_in_bfloat16_with_checkpointing(stopped: RunDir) -> None:
    curve = losses(stopped)

    assert curve[-1] < curve[0] - 0.5


@pytest.fixture(scope="module")
def resumed(stopped: RunDir, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The same run as if it had crashed behind step 4, resumed from there to its end."""
    run = branch(stopped, tmp_path_factory.mktemp("resumed") / "run", FORK)
    resume(run)
    assert_finished(finish(run))
    return run


def test_a_resumed_run_equals_the_uninterrupted_one(stopped: RunDir, resumed: RunDir, preset: str) -> None:
    whole, again = steps(stopped), since_last_start(resumed)
    both = list(zip(whole[FORK:], again, strict=False))

    assert [metric.step for metric in metrics(resumed) if isinstance(metric, Start)] == [0, FORK]
    assert [step.step for step in again] == list(range(FORK + 1, STEPS + 1))
    assert len(both) >= STOP_AT - FORK
    assert all((old.samples, old.learning_rate) == (new.samples, new.learning_rate) for old, new in both)
    assert max(difference(old, new) for old, new in both) <= TOLERANCE[preset]


def test_a_stopped_run_goes_on_from_its_stop(stopped: RunDir, resumed: RunDir, preset: str, tmp_path: Path) -> None:
    if preset != "trainer":
        pytest.skip("one method's stop is enough: it saves as every save does")
    run = branch(stopped, tmp_path / "run", STEPS)
    resume(run)
    assert_finished(finish(run))

    again = since_last_start(run)
    uninterrupted = since_last_start(resumed)[-len(again) :]

    assert [step.step for step in steps(run)] == list(range(1, STEPS + 1))
    assert [step.step for step in again] == [step.step for step in uninterrupted]
    assert [step.loss for step in again] == [step.loss for step in uninterrupted]


def since_last_start(run: RunDir) -> list[Step]:
    """The steps of a run's last start."""
    found = metrics(run)
    last = max(index for index, metric in enumerate(found) if isinstance(metric, Start))
    return [metric for metric in found[last:] if isinstance(metric, Step)]


def difference(one: Step, other: Step) -> float:
    """Of two losses; infinite where one is missing."""
    return math.inf if one.loss is None or other.loss is None else abs(one.loss - other.loss)
