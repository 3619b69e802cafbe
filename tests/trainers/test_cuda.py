"""The same methods on real cards: bfloat16, fused AdamW, NVML readings, released memory. Needs CUDA."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest

from t5panel.contract.environments import read_environment
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
    "llamafactory": ("llamafactory", {}),
    **{f"deepspeed-zero-{n}": ("deepspeed", {"deepspeed.zero_optimization.stage": n}) for n in range(4)},
}

READINGS_PER_SECOND = 20
"""So many times the supervisor's: what one reading costs is small against the spread of a step."""
SAMPLER = f"""
import time
from t5panel.monitor.hardware import Nvml
nvml = Nvml()
while True:
    nvml.cards()
    time.sleep(1 / {READINGS_PER_SECOND})
"""
"""What the supervisor does each second, as far as the cards are concerned."""
MOST_SHARE = 0.005
"""Of a step: what a reading each second may cost."""


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
    if preset == "llamafactory" and (missing := read_environment("llamafactory").problem):
        pytest.skip(missing)  # its setup needs the network, which not every machine with a card has
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


def test_a_reading_is_shorter_than_what_it_may_cost_even_if_all_stood_still() -> None:
    nvml, seconds = Nvml(), []
    for _ in range(200):
        begin = time.perf_counter()
        nvml.cards()
        seconds.append(time.perf_counter() - begin)

    assert median(seconds) <= MOST_SHARE


def test_a_second_between_readings_costs_a_training_step_nothing() -> None:
    from t5panel.contract.shapes import SHAPES
    from t5panel.trainers.model import config_of

    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.device("cuda"):
        model = transformers.AutoModelForSeq2SeqLM.from_config(config_of(SHAPES["t5-base"]))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(3, 1000, (16, 512), device="cuda")

    def step() -> float:
        begin = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids[:, :128].contiguous()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        return time.perf_counter() - begin

    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(10):
        step()
    for _ in range(4):
        for watched in (False, True):
            sampler = subprocess.Popen([sys.executable, "-c", SAMPLER]) if watched else None
            seconds[watched] += [step() for _ in range(30)]
            if sampler is not None:
                sampler.kill()
                sampler.wait()

    slowed = median(seconds[True]) / median(seconds[False]) - 1

    assert slowed / READINGS_PER_SECOND <= MOST_SHARE
