"""What earlier runs on this machine have shown: read from their directories, kept in machine.json, its one owner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import msgspec

from t5panel.contract.layout import PRIVATE, RunDir, all_runs, machine_file, runs_home, write_atomic
from t5panel.contract.memory_table import minor
from t5panel.contract.records import Prepared, RunInfo
from t5panel.contract.shapes import Shape, is_builtin
from t5panel.errors import UsageError
from t5panel.monitor.runs import read_card_use, read_info, read_prepared, read_result
from t5panel.monitor.vram import beside_torch
from t5panel.plan.cards import peaks_of, slowest
from t5panel.plan.context import MeasuredContext, Site, has_communicator
from t5panel.plan.flops import Lengths
from t5panel.plan.forecast import Experience, Rows
from t5panel.plan.speed import Measured, workload_of

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

M = TypeVar("M", Measured, MeasuredContext)
LOOKED_AT = 10
"""Newest runs that are read for a plan; what older ones showed stands in the file."""
KEPT = 50
FEWEST_STEPS = 10
"""Of a run whose speed counts: the first ones warm up caches and kernels."""
FEWEST_SECONDS = 10.0
"""Of a run whose context counts: NVML is read once a second, and the highest reading must be of the highest moment."""


class MachineFacts(msgspec.Struct, frozen=True):
    """machine.json. Fields that a later version adds are lost when an earlier one writes it."""

    speeds: tuple[Measured, ...] = ()
    """Newest first, one of each run."""
    contexts: tuple[MeasuredContext, ...] = ()
    """Newest first, of each run one for each kind of card."""


def read_facts() -> MachineFacts:
    """What the file says; nothing when it is missing or broken, for it can be learnt again."""
    try:
        return msgspec.json.decode(machine_file().read_bytes(), type=MachineFacts)
    except (OSError, msgspec.DecodeError):
        return MachineFacts()


def experience(spec: RunSpec, *, samples: int | None = None, price: float | None = None) -> Experience:
    """What earlier runs say about the speed and the memory of a spec, beside what the user asks for."""
    runs = tuple(_newest_runs())
    facts = _learnt(read_facts(), runs)
    return Experience(_rows(spec, runs), facts.speeds, facts.contexts, samples, price)


def remember() -> None:
    """Keep what the newest runs showed, also when their directories will be gone; a full disk keeps nothing."""
    known = read_facts()
    facts = _learnt(known, tuple(_newest_runs()))
    if facts == known:
        return
    with contextlib.suppress(OSError):
        machine_file().parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        write_atomic(machine_file(), msgspec.json.format(msgspec.json.encode(facts), indent=1), durable=False)


def _newest_runs() -> Iterator[tuple[RunDir, RunInfo]]:
    for run in islice(all_runs(runs_home()), LOOKED_AT):
        with contextlib.suppress(UsageError):
            yield run, read_info(run)


def _learnt(known: MachineFacts, runs: tuple[tuple[RunDir, RunInfo], ...]) -> MachineFacts:
    """What was known and what these runs showed, newest first."""
    speeds = {speed.run_id: speed for speed in known.speeds}
    speeds |= {run.run_id: speed for run, info in runs if (speed := measured_speed(run, info)) is not None}
    contexts = {(each.run_id, each.site): each for each in known.contexts}
    contexts |= {(each.run_id, each.site): each for run, info in runs for each in measured_contexts(run, info)}
    return MachineFacts(_newest(speeds.values()), _newest(contexts.values()))


def _newest(found: Iterable[M]) -> tuple[M, ...]:
    return tuple(sorted(found, key=lambda each: each.time, reverse=True)[:KEPT])


def measured_speed(run: RunDir, info: RunInfo) -> Measured | None:
    """What an ended run on real cards reached; None for any other, or one that was too short."""
    result = read_result(run)
    if result is None or info.rehearsal or not info.cards or result.step < FEWEST_STEPS:
        return None
    lengths, shape, cards = _lengths(read_prepared(run)), info.plan.get("shape"), info.plan.get("cards")
    if lengths is None or not result.samples_per_second > 0:
        return None
    from pydantic import ValidationError

    from t5panel.contract.spec import RunSpec

    try:
        spec = RunSpec.model_validate(info.spec)
        names = msgspec.convert(cards, tuple[str, ...])
        work = workload_of(spec, msgspec.convert(shape, Shape), lengths)
    except (ValidationError, msgspec.ValidationError):  # of another version
        return None
    peaks = [limits for name in names if (limits := peaks_of(name)) is not None]
    if not peaks or len(peaks) != len(names):
        return None
    return Measured(info.run_id, info.created, slowest(peaks).name, work, result.samples_per_second)


def measured_contexts(run: RunDir, info: RunInfo) -> tuple[MeasuredContext, ...]:
    """What an ended run on real cards took beside torch's allocator, of like cards the most; mostly one, or none."""
    result = read_result(run)
    if result is None or info.rehearsal or not info.cards or result.seconds < FEWEST_SECONDS:
        return ()
    try:
        names = msgspec.convert(info.plan.get("cards"), tuple[str, ...])
        driver = msgspec.convert(info.plan.get("driver"), str)
    except msgspec.ValidationError:  # of another version
        return ()
    torch = info.versions.get("torch")
    if not driver or torch is None or len(names) != len(info.cards):
        return ()
    beside = beside_torch(info.cards, read_card_use(run), result.peak_vram_per_card)
    most: dict[str, int] = {}
    for index, name in zip(sorted(info.cards), names, strict=True):  # the plan names them in their order
        if index in beside:
            most[name] = max(beside[index], most.get(name, 0))
    distributed = has_communicator(info.spec.get("method"), len(info.cards))
    return tuple(
        MeasuredContext(info.run_id, info.created, Site(name, driver, minor(torch), distributed), size)
        for name, size in most.items()
    )


def _rows(spec: RunSpec, runs: tuple[tuple[RunDir, RunInfo], ...]) -> Rows | None:
    """The rows of the newest run that tokenised the same data in the same way."""
    wanted = _rows_key(spec.model_dump(mode="json"))
    for run, info in runs:
        if _rows_key(info.spec) == wanted:
            prepared = read_prepared(run)
            lengths = _lengths(prepared)
            if prepared is not None and lengths is not None:
                return Rows(info.run_id, prepared.rows, lengths)
    return None


def _lengths(prepared: Prepared | None) -> Lengths | None:
    if prepared is None or not prepared.source_tokens or not prepared.target_tokens:
        return None
    return Lengths(prepared.source_tokens, prepared.target_tokens)


def _rows_key(spec: dict[str, object]) -> tuple[object, ...]:
    """What decides how rows are tokenised; all built-in shapes share a tokenizer."""
    data, model = spec.get("data"), spec.get("model")
    if not isinstance(data, dict) or not isinstance(model, dict):
        return ()
    names = ("train", "prompt_column", "response_column", "max_source_length", "max_target_length")
    tokenizer = model.get("tokenizer") or model.get("name_or_path")
    return (*(data.get(name) for name in names), "builtin" if is_builtin(str(tokenizer)) else tokenizer)
