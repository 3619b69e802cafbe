"""Real runs on three CPU ranks, started and watched exactly as the panel does it."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Evaluation, Metric, Step
from t5panel.monitor.history import History, Snapshot
from t5panel.monitor.proc import marked
from t5panel.monitor.sockets import listeners_of
from t5panel.monitor.watch import watch
from t5panel.session import Wish, prospect, request_stop, start

TINY: Mapping[str, Any] = {
    "device": "cpu",
    "model.name_or_path": "builtin:tiny",
    "data.max_source_length": 32,
    "data.max_target_length": 32,
    "data.max_predict_samples": 4,
    "train.per_device_train_batch_size": 4,
    "train.per_device_eval_batch_size": 64,
    "train.gradient_accumulation_steps": 2,
    "train.learning_rate": 5e-3,
    "train.warmup_steps": 0.1,
    "train.optim": "adamw_torch",
    "train.bf16": False,
    "train.gradient_checkpointing": False,
    "train.dropout_rate": 0.0,
    "train.generation_max_length": 12,
}
"""A run small enough for a test, with everything on that can differ between methods."""
PATIENCE_SECONDS = 300


def reversed_words(
    count: int, *, seed: int, alphabet: str = "abcdef", shortest: int = 4, longest: int = 6
) -> list[str]:
    """Different random words."""
    generator = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(generator.choice(alphabet) for _ in range(generator.randint(shortest, longest)))] = None
    return list(words)


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """A JSONL file of prompt/response pairs."""
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in pairs), encoding="utf-8")
    return path


def start_run(folder: Path, preset: str, data: Path, settings: Mapping[str, Any]) -> RunDir:
    """A started run of a preset on the CPU."""
    overrides = {**TINY, "data.train": str(data), **settings}
    return start(prospect(Wish(preset, overrides, folder)))


def finish(run: RunDir) -> Snapshot:
    """The last snapshot of a run that must end by itself, in the phase it ended with."""
    *_, last = watch(run, period=0.2)
    return last


def stop_after(run: RunDir, step: int) -> None:
    """Ask a run to stop as soon as it has logged a step; by then its sockets are open, none of them to the network."""
    history, deadline = History(run), time.monotonic() + PATIENCE_SECONDS
    while (last := history.refresh().last) is None or last.step < step:
        assert time.monotonic() < deadline, "the run did not come to the step"
        time.sleep(0.02)
    assert [str(listener) for listener in listeners_of(marked(run)) if not listener.local] == []
    assert request_stop(run, now=False)


def branch(run: RunDir, folder: Path, step: int) -> RunDir:
    """A copy of an ended run as if it had crashed after its checkpoint of a step."""
    shutil.copytree(run.path, folder)
    copy = RunDir(folder)
    copy.run_json.write_text(copy.run_json.read_text().replace(str(run.path), str(folder)))
    for checkpoint in copy.checkpoints.glob("checkpoint-*"):
        if int(checkpoint.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(checkpoint)
    return copy


def finished_run(folder: Path, preset: str, data: Path, settings: Mapping[str, Any]) -> RunDir:
    """A run that finished; the test fails with its logs when it did not."""
    run = start_run(folder, preset, data, settings)
    assert_finished(finish(run))
    return run


def assert_finished(last: Snapshot) -> None:
    """Fail with the run's own words when it did not finish."""
    if last.state.phase != "finished":
        logs = "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in last.run.logs.iterdir()
        )
        pytest.fail(f"{last.state.phase}: {last.state.message}\n{logs}")


def metrics(run: RunDir) -> list[Metric]:
    """Every record of rank 0."""
    decoder = msgspec.json.Decoder(Metric)
    return [decoder.decode(line) for line in run.metrics.read_bytes().splitlines()]


def steps(run: RunDir) -> list[Step]:
    """The logged optimizer steps of a run, in the order they were written."""
    return [metric for metric in metrics(run) if isinstance(metric, Step)]


def losses(run: RunDir) -> list[float]:
    """The loss of every logged step; the test fails at one that is not finite."""
    found = [step.loss for step in steps(run)]
    assert all(loss is not None for loss in found)
    return [loss for loss in found if loss is not None]


def last_evaluation(run: RunDir) -> Evaluation:
    """The newest evaluation of a run."""
    return [metric for metric in metrics(run) if isinstance(metric, Evaluation)][-1]
