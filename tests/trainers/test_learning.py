"""Each method learns what can be learnt, and nothing that cannot: an answer that leaks into the input would show."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Start
from t5panel.contract.spec import ModelSpec
from t5panel.session import resume
from t5panel.trainers.data import Row, collate, open_split, rows_of_step
from t5panel.trainers.guard import read_spec
from t5panel.trainers.loss import summed_loss, target_tokens
from t5panel.trainers.model import build_model
from t5panel.trainers.store import prepared_of
from t5panel.trainers.text import encode, run_tokenizer
from tests.trainers.reference import reference_losses, write_model
from tests.trainers.runs import (
    assert_finished,
    finish,
    finished_run,
    last_evaluation,
    losses,
    metrics,
    reversed_words,
    start_run,
    steps,
    stop_after,
    write_pairs,
)

LETTERS, LENGTH = "wxyz", 6
ENTROPY_FLOOR = LENGTH * math.log(len(LETTERS)) / (LENGTH + 1)
"""Least mean loss per target token on random answers: log 4 for each letter, 0 for the end token."""
UNSEEN_WORDS = 120
STEPS, COMPARED = 240, 50
SETTINGS: dict[str, Any] = {
    "num_gpus": 2,  # that three train as one does is shown elsewhere
    "train.max_steps": STEPS,
    "train.per_device_train_batch_size": 48,
    "train.gradient_accumulation_steps": 1,
    "train.learning_rate": 8e-3,
    "train.logging_steps": 40,
    "data.max_eval_samples": 240,
}


@pytest.fixture(scope="module")
def words() -> list[str]:
    """Different words; the first ones are never trained on."""
    return reversed_words(3500, seed=3, alphabet="abcdefgh", shortest=4, longest=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> tuple[Path, Path]:
    """Training rows: words to reverse and, a tenth, answers that nothing predicts; held out: only such answers."""
    folder = tmp_path_factory.mktemp("learning")
    learnable = [(word, word[::-1]) for word in words[UNSEEN_WORDS:]]
    chance = _unpredictable(640, seed=4)
    mixed = learnable + chance[:400]
    random.Random(5).shuffle(mixed)
    return write_pairs(folder / "train.jsonl", mixed), write_pairs(folder / "held_out.jsonl", chance[400:])


@pytest.fixture(scope="module")
def factory_run(tmp_path_factory: pytest.TempPathFactory, data: tuple[Path, Path], llamafactory: str) -> RunDir:
    """LLaMA-Factory's run: on three ranks under deepspeed, stopped on its way, and on under its own launcher."""
    folder, (train, held_out) = tmp_path_factory.mktemp("factory"), data
    settings = {
        **SETTINGS,
        "data.validation": str(held_out),
        "model.name_or_path": str(write_model(folder / "model")),
        "num_gpus": 3,
        "launcher": "deepspeed",
        "train.per_device_train_batch_size": 32,
        "train.warmup_steps": 0.3,  # at its peak rate, rounding grows tenfold in four steps
        "train.logging_steps": 1,
    }
    run = start_run(folder / "run", llamafactory, train, settings)
    stop_after(run, COMPARED)
    assert finish(run).state.phase == "stopped"
    resume(run, {"launcher": "llamafactory-cli"})
    assert_finished(finish(run))
    return run


@pytest.fixture(scope="module", params=("manual", "trainer", "deepspeed", "llamafactory"))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: tuple[Path, Path]) -> RunDir:
    """A finished run of each method."""
    if request.param == "llamafactory":
        made: RunDir = request.getfixturevalue("factory_run")
        return made
    train, held_out = data
    settings = {**SETTINGS, "data.validation": str(held_out)}
    return finished_run(tmp_path_factory.mktemp("learned") / request.param, request.param, train, settings)


def test_held_out_loss_of_unpredictable_answers_stays_at_its_entropy_floor(run: RunDir) -> None:
    loss = last_evaluation(run).eval_loss

    assert loss is not None
    assert ENTROPY_FLOOR * 0.99 <= loss <= ENTROPY_FLOOR * 1.25


def test_unseen_words_are_reversed_by_the_checkpoint_as_transformers_loads_it(run: RunDir, words: list[str]) -> None:
    checkpoint = run.checkpoints / f"checkpoint-{STEPS}"
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    unseen = words[:UNSEEN_WORDS]

    batch = tokenizer(unseen, return_tensors="pt", padding=True)
    with torch.no_grad():
        answers = tokenizer.batch_decode(model.generate(**batch, max_new_tokens=10), skip_special_tokens=True)

    right = sum(answer == word[::-1] for answer, word in zip(answers, unseen, strict=True))
    assert right / len(unseen) >= 0.95


def test_fine_tuning_starts_where_the_checkpoint_ended(run: RunDir, words: list[str]) -> None:
    checkpoint = ModelSpec(name_or_path=str(run.checkpoints / f"checkpoint-{STEPS}"))
    tokenizer, unseen = run_tokenizer(run), words[:UNSEEN_WORDS]
    prompts, _ = encode(tokenizer, unseen, 16)
    answers, _ = encode(tokenizer, [word[::-1] for word in unseen], 16)
    batch = collate([Row(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)])

    model = build_model(read_spec(run).model_copy(update={"model": checkpoint}), torch.device("cpu"))
    with torch.no_grad():
        loss = summed_loss(model, batch) / target_tokens(batch)

    assert loss < 0.1


def test_llamafactorys_curve_is_that_of_the_reference_loop(
    factory_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    curve, reference = losses(factory_run)[:COMPARED], reference_losses(factory_run, COMPARED)
    difference = max(abs(mine - theirs) for mine, theirs in zip(curve, reference, strict=True))

    with capsys.disabled():
        print(f"\nllamafactory: at most {difference:.1e} off over {COMPARED} steps")  # noqa: T201 - a figure for README
    assert difference <= 1e-3


def test_llamafactory_goes_on_after_a_stop_with_the_next_rows_and_another_launcher(factory_run: RunDir) -> None:
    starts, made = [metric for metric in metrics(factory_run) if isinstance(metric, Start)], steps(factory_run)
    split = open_split(Path(prepared_of(factory_run).train), None, 0)
    batch, seed = read_spec(factory_run).effective_batch, read_spec(factory_run).train.seed
    after = starts[1].step
    rows = rows_of_step(split, step=after, effective_batch=batch, seed=seed)

    assert COMPARED <= after < STEPS
    assert [start.world_size for start in starts] == [3, 3]
    assert [step.step for step in made] == list(range(1, STEPS + 1))
    assert made[after].target_tokens == sum(len(split.train[int(row)].target) for row in rows)
    assert abs(losses(factory_run)[after] - losses(factory_run)[after - 1]) < 0.2


def test_sample_predictions_and_corpus_scores_are_recorded(run: RunDir) -> None:
    evaluation = last_evaluation(run)

    assert len(evaluation.samples) == 4
    assert all(set(sample.reference) <= set(LETTERS) and sample.prediction for sample in evaluation.samples)
    assert evaluation.chrf is not None
    assert evaluation.bleu is not None
    assert len(run.predictions.read_text().splitlines()) == 4


def _unpredictable(count: int, *, seed: int) -> list[tuple[str, str]]:
    generator = random.Random(seed)
    return [(f"guess {number}", "".join(generator.choice(LETTERS) for _ in range(LENGTH))) for number in range(count)]
