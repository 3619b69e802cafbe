"""The rules of ZeRO's memory say event for event what the real engine allocates and frees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

from t5panel.contract.memory_table import minor
from t5panel.contract.shapes import Shape
from t5panel.plan.step import TrainingStep
from t5panel.plan.zero import Event, TapeEvent, Zero, engine_events
from t5panel.plan.zero_replay import modules_of, tape_of
from tests.trainers.zero_engine import BATCH, LAYERS, SCALAR, SOURCE, STEPS, TARGET, VOCABULARY, Case, Watched

ROOT = Path(__file__).parents[2]
SMALL_BUCKET = {"reduce_bucket_size": 40_000}
"""In elements; the largest weight has 32,768 and the model about 200,000."""
CASES = {
    "0": Case({"stage": 0}, passes=2),
    "1": Case({"stage": 1, **SMALL_BUCKET}, passes=2),
    "2": Case({"stage": 2, **SMALL_BUCKET, "overlap_comm": True}, passes=2),
    "3": Case(
        {
            "stage": 3,
            **SMALL_BUCKET,
            "stage3_param_persistence_threshold": 100,
            "stage3_prefetch_bucket_size": 20_000,
            "stage3_max_live_parameters": 30_000,
            "stage3_max_reuse_distance": 30_000,
            "sub_group_size": 20_000,
        },
        passes=2,
        checkpointing=True,
    ),
}
UNLIKE = {"3": ("start",)}
"""Stage 3 starts through the host, which on a CPU is the device too."""
Change = tuple[str, Any]
"""("+", bytes) · ("-", bytes of all that die together) · ("mark", name)."""


@cache
def watch(name: str) -> Watched:
    """The real engine's events, from a process of its own."""
    case = CASES[name]
    settings = {
        "DS_ACCELERATOR": "cpu",
        "DS_SKIP_CUDA_CHECK": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(case.world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }
    argv = [sys.executable, "-m", "tests.trainers.zero_engine", msgspec.json.encode(case).decode()]
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return msgspec.json.decode(done.stdout[done.stdout.index(b'{"events"') :], type=Watched)


def tapes(events: Iterable[list[Any]]) -> list[list[TapeEvent]]:
    """What the model did in each pass."""
    mine: set[int] = set()
    found: list[list[TapeEvent]] = []
    inside = False
    for kind, *rest in events:
        if kind == "mark":
            inside = rest[0].startswith("pass")
            found += [[]] if inside else []
        elif kind == "+" and rest[2]:
            mine.add(rest[0])
            found[-1].append(("+", rest[0], rest[1]))
        elif inside and (kind in ("grad", "module") or (kind == "-" and rest[0] in mine)):
            found[-1].append((kind, *rest))
    return found


def happened(events: Iterable[list[Any]]) -> Iterator[Change]:
    """The real engine's births, deaths and phases."""
    sizes: dict[int, int] = {}
    for kind, *rest in events:
        if kind == "+":
            sizes[rest[0]] = rest[1]
            yield ("+", rest[1])
        elif kind == "-":
            yield ("-", sizes[rest[0]])
        elif kind == "mark":
            yield ("mark", rest[0])


def foretold(events: Iterable[Event]) -> Iterator[Change]:
    """The same of the rules."""
    names = {"forward": "pass", "step": "step"}
    sizes: dict[object, int] = {}
    for event in events:
        if event.kind == 0:
            phase, *number = str(event.key).split()
            if phase in names:
                yield ("mark", f"{names[phase]} {number[0]}")
            continue
        size = sizes.setdefault(event.key, event.size)
        if size > SCALAR:
            yield ("+" if event.kind == 1 else "-", size)


def phases(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """By phase; what dies together has no order."""
    found: dict[str, list[Change]] = {"start": []}
    place = "start"
    for dying, run in groupby(changes, key=lambda change: change[0] == "-"):
        together = list(run)
        if dying:
            found[place].append(("-", sorted(size for _, size in together)))
            continue
        for kind, value in together:
            if kind == "mark":
                place = value
                found.setdefault(place, [])
            else:
                found[place].append((kind, value))
    return found


def only_the_engines(events: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """The real engine's events without those of the model's own storages."""
    mine: set[int] = set()
    for event in events:
        if event[0] == "+" and event[3]:
            mine.add(event[1])
        elif event[0] in ("mark", "+") or (event[0] == "-" and event[1] not in mine):
            yield event


@pytest.mark.parametrize("stage", CASES)
def test_the_rules_say_what_the_engine_does(stage: str) -> None:
    case = CASES[stage]
    zero = Zero.from_config({"zero_optimization": case.zero}, case.world)
    real = watch(stage)

    events = engine_events(
        replace(zero, micro_steps=case.passes, fp32_on_card=True),
        real.sizes,
        tapes(real.events),
        groups=real.groups,
        modules=real.modules,
        steps=STEPS,
    )

    did, said = phases(happened(real.events)), phases(foretold(events))
    assert list(did) == list(said) == ["start", "pass 0", "step 0", "pass 1", "step 1", "pass 2", "step 2"]
    for phase in UNLIKE.get(stage, ()):
        del did[phase], said[phase]
    assert did == said


def test_a_table_knows_when_stage_3_brings_and_takes_weights() -> None:
    case, real = CASES["3"], watch("3")
    zero = Zero.from_config({"zero_optimization": case.zero}, case.world)
    step = TrainingStep(
        Shape(VOCABULARY, 64, 16, 128, LAYERS, LAYERS, 4, gated=False),
        BATCH,
        SOURCE,
        TARGET,
        precision="bf16",
        attention="eager",
        checkpointing=case.checkpointing,
        loss="model",
        zero=zero,
        transformers=minor(version("transformers")),
    )

    events = engine_events(
        replace(zero, micro_steps=case.passes, fp32_on_card=True),
        real.sizes,
        [list(tape_of(step))],
        groups=real.groups,
        modules=modules_of(step.shape),
        steps=STEPS,
    )

    did = phases(happened(only_the_engines(real.events)))
    said = phases(foretold(event for event in events if event.kind == 0 or "engine" in str(event.key)))
    del did["start"], said["start"]
    assert did == said
