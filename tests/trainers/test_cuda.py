"""The same methods on real cards: bfloat16, fused AdamW, NVML readings, released memory. Needs CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Sample
from t5panel.monitor.hardware import Nvml
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_result
from t5panel.session import resume
from tests.trainers.runs import assert_finished, finish, finished_run, losses, start_run, steps, stop_after

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not Nvml().cards(), reason="no CUDA card")]

MIB = 2**20
SETTINGS: dict[str, Any] = {
    "device": "cuda",
    "num_gpus": min(3, max(1, len(Nvml().cards()))),
    "model.name_or_path": "builtin:t5-small",
    "train.bf16": True,
    "train.gradient_checkpointing": True,
    "train.optim": "adamw_torch_fused",
    "train.learning_rate": 1e-3,
    "train.max_steps": 40,
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "manual": ("manual", {}),
    "trainer": ("trainer", {}),
    **{f"deepspeed-zero-{n}": ("deepspeed", {"deepspeed.zero_optimization.stage": n}) for n in range(4)},
}


@pytest.fixture(scope="module")
def vram_before() -> tuple[int, ...]:
    """Bytes in use on each card before anything of ours runs."""
    return tuple(card.used for card in Nvml().cards())


@pytest.fixture(scope="module", params=METHODS)
def run(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    word_pairs: Path,
    vram_before: tuple[int, ...],
) -> Iterator[RunDir]:
    """A finished run of each method on the cards."""
    assert vram_before
    preset, extra = METHODS[request.param]
    yield finished_run(tmp_path_factory.mktemp("cuda") / request.param, preset, word_pairs, {**SETTINGS, **extra})


def test_it_learns_in_bfloat16(run: RunDir) -> None:
    curve = losses(run)

    assert len(curve) == 40
    assert curve[-1] < curve[0] / 2


def test_card_memory_is_sampled_and_reported(run: RunDir) -> None:
    decoder = msgspec.json.Decoder(Sample)
    samples = [decoder.decode(line) for line in run.samples.read_bytes().splitlines()]
    result = read_result(run)

    assert result is not None
    assert len(result.peak_vram_per_card) == SETTINGS["num_gpus"]
    assert min(result.peak_vram_per_card) > 200 * MIB
    assert max(card.used for sample in samples for card in sample.cards) > 200 * MIB
    last = steps(run)[-1].vram_reserved
    assert last is not None
    assert last <= result.peak_vram_per_card[0]  # the evaluation after it may take more


def test_its_memory_is_released_and_no_process_is_left(run: RunDir, vram_before: tuple[int, ...]) -> None:
    now = tuple(card.used for card in Nvml().cards())

    assert marked(run) == ()
    assert all(after <= before + 64 * MIB for after, before in zip(now, vram_before, strict=True))


@pytest.mark.parametrize("preset", ["manual", "trainer", "deepspeed"])
def test_a_stopped_run_resumes_on_the_card(preset: str, tmp_path: Path, word_pairs: Path) -> None:
    run = start_run(tmp_path / "run", preset, word_pairs, {**SETTINGS, "train.max_steps": 150})
    stop_after(run, 5)
    assert finish(run).state.phase == "stopped"

    resume(run)
    assert_finished(finish(run))

    assert [step.step for step in steps(run)] == list(range(1, 151))
