"""Every method must train like a loop that one can check by eye: one process, no launcher, no accumulation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Sample, Start
from t5panel.monitor.runs import read_info, read_result
from t5panel.session import resume
from t5panel.trainers.guard import read_spec
from tests.trainers.reference import reference_losses, write_model
from tests.trainers.runs import (
    assert_finished,
    finish,
    finished_run,
    losses,
    metrics,
    start_run,
    steps,
    stop_after,
)

STEPS = 30
SETTINGS: dict[str, Any] = {
    "train.max_steps": STEPS,
    "train.max_grad_norm": 0.5,  # bites in most steps, so a scaled gradient would show
    "train.weight_decay": 0.01,
}
FEWER_RANKS = {"num_gpus": 2, "train.gradient_accumulation_steps": 3}
"""As many rows in a step as on three ranks, and a third of a start saved where a third rank would show nothing new."""
ON_THE_HOST = {"deepspeed.zero_optimization.offload_optimizer.device": "cpu"}
"""With ZeRO-1: the optimizer's state of what the others keep on the card."""
ZERO = [
    (
        "deepspeed",
        {
            "deepspeed.zero_optimization.stage": stage,
            **(ON_THE_HOST if stage == 1 else {}),
            **({} if stage == 2 else FEWER_RANKS),
        },
    )
    for stage in range(4)
]
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "manual": ("manual", {}),
    "deepspeed-zero-0": ZERO[0],
    "trainer": ("trainer", {}),
    "deepspeed-zero-1": ZERO[1],
    "deepspeed-zero-2": ZERO[2],
    "deepspeed-zero-3": ZERO[3],
}
"""In pairs that run together; of each, the first is one of the STOPPED."""

STOPPED: dict[str, dict[str, Any]] = {
    "manual": FEWER_RANKS,
    "trainer": FEWER_RANKS,
    "deepspeed-zero-2": {"train.per_device_train_batch_size": 2, "train.gradient_accumulation_steps": 4},
}
"""These are stopped on their way and go on with other settings that leave every step its rows."""
WHOLE = "deepspeed-zero-0"
STOP_AT = 10
MIB = 2**20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that is fine-tuned."""
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def settings(model: Path) -> dict[str, Any]:
    """What all runs have in common."""
    return {**SETTINGS, "model.name_or_path": str(model)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, word_pairs: Path, settings: dict[str, Any]) -> dict[str, RunDir]:
    """One finished run of each method, all from the same settings."""
    folder = tmp_path_factory.mktemp("curves")
    found: dict[str, RunDir] = {}
    for pair in batched(METHODS.items()):  # two at a time: half of a start is waiting
        started = {
            name: start_run(folder / name, preset, word_pairs, {**settings, **extra}) for name, (preset, extra) in pair
        }
        for name, run in started.items():
            if name in STOPPED:
                stop_after(run, STOP_AT)
                assert finish(run).state.phase == "stopped"
                resume(run, STOPPED[name])
            assert_finished(finish(run))
        found |= started
    return found


def batched(items: Iterable[tuple[str, Any]]) -> list[list[tuple[str, Any]]]:
    """Two and two."""
    all_items = list(items)
    return [all_items[begin : begin + 2] for begin in range(0, len(all_items), 2)]


@pytest.fixture(scope="module")
def reference(runs: dict[str, RunDir]) -> list[float]:
    """The plain loop's curve on the rows that the runs were given."""
    return reference_losses(runs["manual"], STEPS)


@pytest.mark.parametrize("method", METHODS)
def test_loss_curve_is_the_reference_loops(
    method: str, runs: dict[str, RunDir], reference: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    curve = losses(runs[method])
    difference = max(abs(mine - theirs) for mine, theirs in zip(curve, reference, strict=True))

    with capsys.disabled():
        print(f"\n{method}: at most {difference:.1e} off over {STEPS} steps")  # noqa: T201 - a figure for README
    assert difference <= 5e-5
    assert curve[-1] < curve[0] / 2


@pytest.mark.parametrize("method", STOPPED)
def test_a_run_resumed_on_fewer_ranks_or_with_another_batch_sees_the_same_rows_in_every_step(
    method: str, runs: dict[str, RunDir]
) -> None:
    changed, whole = runs[method], runs[WHOLE]
    starts = [metric for metric in metrics(changed) if isinstance(metric, Start)]
    [change], result = read_info(changed).changes, read_result(changed)

    assert STOP_AT <= starts[1].step == change.step < STEPS
    assert change.after == STOPPED[method]
    assert [start.world_size for start in starts] == [3, read_spec(changed).num_gpus]
    assert [(s.step, s.samples, s.target_tokens) for s in steps(changed)] == [
        (s.step, s.samples, s.target_tokens) for s in steps(whole)
    ]
    assert result is not None
    assert result.loss_first == losses(changed)[0]


@pytest.mark.parametrize("method", METHODS)
def test_every_step_reports_the_gradient_norm_of_the_mean_loss(method: str, runs: dict[str, RunDir]) -> None:
    norms = [step.grad_norm for step in steps(runs[method])]
    plain = [step.grad_norm for step in steps(runs[WHOLE])]

    assert all(
        n is not None and p is not None and math.isclose(n, p, rel_tol=1e-3) for n, p in zip(norms, plain, strict=True)
    )


@pytest.mark.parametrize("method", METHODS)
def test_learning_rate_starts_at_zero_and_peaks_after_warm_up(method: str, runs: dict[str, RunDir]) -> None:
    rates = [step.learning_rate for step in steps(runs[method])]

    assert rates[0] == 0.0
    assert max(rates) == rates[3] == 5e-3
    assert rates == [step.learning_rate for step in steps(runs[WHOLE])]


@pytest.mark.parametrize("method", ["manual", "trainer"])
def test_records_say_how_long_a_step_waits_for_the_gradients_of_other_ranks(
    method: str, runs: dict[str, RunDir]
) -> None:
    made = steps(runs[method])
    waits, longest = [step.communication_seconds for step in made[4:]], max(step.step_seconds for step in made)

    assert all(wait is not None and 0 <= wait < longest for wait in waits)  # the step that was timed is an earlier one
    assert any(waits)
    assert all(step.communication_seconds is None for step in steps(runs[WHOLE]))


def test_a_million_rows_take_no_more_memory_per_rank_than_three_thousand(
    runs: dict[str, RunDir], settings: dict[str, Any], tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "million.parquet", 1_000_000)

    million = finished_run(tmp_path / "million", "manual", data, {**settings, **FEWER_RANKS})

    assert abs(peak_anonymous_memory(million) - peak_anonymous_memory(runs["manual"])) <= 30 * MIB


def write_rows(path: Path, count: int) -> Path:
    """A parquet file of short rows."""
    table = pa.table(
        {
            "prompt": [f"question {number % 1000}" for number in range(count)],
            "response": [f"answer {number * 7919 % 1009}" for number in range(count)],
        }
    )
    pq.write_table(table, path)
    return path


def peak_anonymous_memory(run: RunDir) -> int:
    """Largest RssAnon of any rank that the supervisor saw, in bytes."""
    decoder = msgspec.json.Decoder(Sample)
    samples = [decoder.decode(line) for line in run.samples.read_bytes().splitlines()]
    return max(rank.anon for sample in samples for rank in sample.ranks)
