"""The solver: every batch, accumulation, checkpointing and ZeRO stage that fits the cards, the fastest first."""

from __future__ import annotations

import json
import shlex
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from t5panel.contract.deepspeed_keys import is_offloaded
from t5panel.contract.shapes import Shape
from t5panel.plan.forecast import NOTHING_KNOWN, Experience, forecast
from t5panel.plan.host import host_memory
from t5panel.plan.machine import GIB, CardFacts
from t5panel.plan.memory import CardMemory, Verdict, training_step
from t5panel.plan.need import need_of
from t5panel.plan.peak import peak_of
from t5panel.plan.table import NoTableError
from t5panel.plan.zero_replay import zero_peak

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

OVERHEAD = {
    "plain": (1.15, 1.35),
    "zero-0": (1.25, 1.55),
    "zero-1": (1.25, 2.00),
    "zero-2": (1.25, 2.00),
    "zero-3": (1.25, 1.70),
}
"""What a card needs over a step's requested peak to hold it without luck: the middle of what was seen, and at most.

Source: replays of 1,363 steps of seven shapes on 1 to 8 cards: up to 1.32, 1.51, 1.89, 1.96, 1.64.
"""
WORTH_SAYING = 1.05
"""A run that fits is told of a faster one from this much on: estimates are no finer."""
AS_FAST = 0.98
"""Of the fastest: then the option that changes less is taken."""
REPLAYS = 3
"""Of what may fit or not, a tenth of a second each."""
BATCH, ACCUMULATION = "train.per_device_train_batch_size", "train.gradient_accumulation_steps"
CHECKPOINTING, STAGE = "train.gradient_checkpointing", "deepspeed.zero_optimization.stage"
OFFLOADS = ("offload_optimizer", "offload_param")


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, on which cards, and what is known of both."""

    spec: RunSpec
    """With `device` decided."""
    shape: Shape
    cards: tuple[CardFacts, ...]
    """The cards that the run takes."""
    memory: tuple[CardMemory, ...]
    """What it would take on each as it is planned; nothing where that is not known."""
    ram: int
    """Bytes of host RAM that it may use."""
    versions: Mapping[str, str]
    known: Experience = NOTHING_KNOWN

    @property
    def fullest(self) -> CardMemory:
        """The card with the least left."""
        return min(self.memory, key=lambda card: card.capacity - card.context_most)

    @property
    def room(self) -> int:
        """Bytes of it for torch's allocator."""
        return self.fullest.capacity - self.fullest.context_most


@dataclass(frozen=True, slots=True)
class Option:
    """One way to train the job that fits by the closed forms."""

    spec: RunSpec
    rate: float | None
    """Samples per second, the middle of the estimate; None where nothing is known of the speed."""
    sure: bool
    """Whether it fits with all the room that an allocator was seen to want; else a replay has to tell."""
    most: int
    """Bytes that surely hold it on a card, the context not among them."""
    host: Verdict


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Settings that would serve better, and why."""

    settings: Mapping[str, Any]
    """Dotted keys that change."""
    title: str
    """`batch 20 × 6, without checkpointing`."""
    verdict: Verdict
    reason: str
    is_faster: bool
    """What is planned fits too, but is slower."""

    @property
    def arguments(self) -> str:
        """As a command line takes it: `--set key=value …`."""
        return " ".join(f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in self.settings.items())


def solve(job: Job, target: int | None = None) -> tuple[Option, ...]:
    """All that fits or is likely to, fastest first; without a known speed by larger batch, without checkpointing first.

    `target`: rows per optimizer step, those of the spec when it is None. Where the ranks cannot share it evenly it
    becomes the nearest multiple of their number: see `Option.spec.effective_batch`.

    Raises: ValueError for a target below 1.
    """
    wanted = job.spec.effective_batch if target is None else target
    if wanted < 1:
        raise ValueError(f"an effective batch of {wanted} rows")
    if not job.memory:
        return ()
    rows = max(1, round(wanted / job.spec.num_gpus))
    options = (option for variant in _variants(job.spec) for option in _options(job, variant, rows))
    return tuple(sorted(options, key=_rank))


def suggest(job: Job, options: tuple[Option, ...]) -> tuple[Suggestion, ...]:
    """The fastest that fits when what is planned does not surely fit; else a faster one, if there is any.

    `options` are those of `solve`. At most one; nothing where nothing is known of the memory. What may fit or not is
    tried in a replay of a tenth of a second, and only when the plan does not fit.
    """
    if not job.memory:
        return ()
    host = host_memory(job.spec, job.shape, job.ram).verdict
    fits = host != "no" and all(card.verdict == "fits" for card in job.memory)
    rate = forecast(job.spec, job.shape, job.cards, job.known).middle
    if fits and rate is None:
        return ()
    least = WORTH_SAYING * rate if fits and rate else 0.0
    better = [option for option in _others(job, options, host) if (option.rate or 0.0) >= least]
    sure = _simplest(job, [option for option in better if option.sure])
    if not fits and (found := _replayed(job, better, sure)):
        return (_suggestion(job, *found, None),)
    if sure is None:
        return ()
    return (_suggestion(job, sure, sure.most, rate if fits else None),)


def _others(job: Job, options: tuple[Option, ...], host: Verdict) -> list[Option]:
    """What would change something, and asks no more of the host."""
    order = ("fits", "tight", "no")
    return [
        option for option in options if changes(job.spec, option.spec) and order.index(option.host) <= order.index(host)
    ]


def _simplest(job: Job, options: list[Option]) -> Option | None:
    """Of those as fast as the first the one that changes least."""
    if not options or options[0].rate is None:
        return next(iter(options), None)
    fast = [option for option in options if (option.rate or 0.0) >= AS_FAST * options[0].rate]
    return min(fast, key=lambda option: len(changes(job.spec, option.spec)))


def _replayed(job: Job, options: list[Option], sure: Option | None) -> tuple[Option, int] | None:
    """The first that fits of the doubtful ones before the sure one, and the bytes that hold it.

    What failed tells what need not be tried.
    """
    before = options if sure is None else [option for option in options if _rank(option) < _rank(sure)]
    doubtful = [option for option in before if not option.sure]
    for _ in range(REPLAYS):
        if not doubtful:
            break
        option = doubtful[0]
        need = need_of(training_step(option.spec, job.shape, job.versions, job.cards))
        if all(replace(card, need=need).verdict == "fits" for card in job.memory):
            return option, need.high
        overhead = need.high / _requested(job, option.spec)
        tried = _kind(option.spec)
        doubtful = [
            each
            for each in doubtful[1:]
            if _kind(each.spec) != tried or overhead * _requested(job, each.spec) <= job.room
        ]
    return None


def _kind(spec: RunSpec) -> tuple[bool, int]:
    return spec.train.gradient_checkpointing, spec.zero_stage


def changes(old: RunSpec, new: RunSpec) -> dict[str, Any]:
    """The settings of `new` by dotted key that differ from those of `old`."""
    train, trained = new.train, old.train
    found: dict[str, Any] = {}
    if train.per_device_train_batch_size != trained.per_device_train_batch_size:
        found[BATCH] = train.per_device_train_batch_size
    if train.gradient_accumulation_steps != trained.gradient_accumulation_steps:
        found[ACCUMULATION] = train.gradient_accumulation_steps
    if train.gradient_checkpointing != trained.gradient_checkpointing:
        found[CHECKPOINTING] = train.gradient_checkpointing
    if new.zero_stage != old.zero_stage:
        found[STAGE] = new.zero_stage
    before, after = old.zero_optimization, new.zero_optimization
    for name in OFFLOADS:
        if after.get(name) != before.get(name):
            found[f"deepspeed.zero_optimization.{name}"] = after[name]
    return found


def _variants(spec: RunSpec) -> Iterator[RunSpec]:
    """The spec with and without checkpointing, in every ZeRO stage; without offload too where it has one."""
    zero = spec.zero_optimization
    sharded = spec.method == "deepspeed" and spec.train.bf16 and spec.train.optim != "adafactor"
    stages = range(4) if sharded else (spec.zero_stage,)
    offloaded = {name: zero[name] for name in OFFLOADS if is_offloaded(zero, name)}
    for checkpointing, stage, offload in product((False, True), stages, (True, False) if offloaded else (True,)):
        if offloaded and stage != spec.zero_stage and offload:
            continue
        train = spec.train.model_copy(update={"gradient_checkpointing": checkpointing})
        changed = {} if offload else {name: {"device": "none"} for name in offloaded}
        if stage != spec.zero_stage or changed:
            merged = {**zero, "stage": stage, **changed}
            config = {**(spec.deepspeed or {}), "zero_optimization": merged}
            yield spec.model_copy(update={"train": train, "deepspeed": config})
        else:
            yield spec.model_copy(update={"train": train})


def _options(job: Job, variant: RunSpec, rows: int) -> Iterator[Option]:
    """The batches of a variant that fit: those that divide the rows of a card."""
    host = host_memory(variant, job.shape, job.ram).verdict
    if host == "no":
        return
    likely_overhead, most_overhead = OVERHEAD[_kind_of_overhead(variant)]

    @cache
    def requested(batch: int) -> int:
        return _requested(job, _with_batch(variant, batch, rows))

    batches = _divisors(rows)
    try:
        likely = _held(batches, job.room / likely_overhead, requested)
        sure = _held(batches, job.room / most_overhead, requested)
    except NoTableError:
        return
    for batch in likely:
        spec = _with_batch(variant, batch, rows)
        rate, most = forecast(spec, job.shape, job.cards, job.known).middle, most_overhead * requested(batch)
        yield Option(spec, rate, batch in sure, int(most), host)


def _requested(job: Job, spec: RunSpec) -> int:
    """Bytes that a step asks for at its peak, in closed form."""
    step = training_step(spec, job.shape, job.versions, job.cards)
    return zero_peak(step) if step.zero else peak_of(step).requested


def _kind_of_overhead(spec: RunSpec) -> str:
    return f"zero-{spec.zero_stage}" if spec.method == "deepspeed" else "plain"


def _held(batches: list[int], room: float, requested: Callable[[int], int]) -> list[int]:
    """Of rising batches those that `room` holds: a larger one never needs less.

    The largest has no accumulation, so no gradients live through its forward pass: it is asked on its own.
    """
    *rest, largest = batches
    held = rest[: bisect_right(rest, room, key=requested)]
    return [*held, largest] if requested(largest) <= room else held


def _divisors(rows: int) -> list[int]:
    low = [number for number in range(1, int(rows**0.5) + 1) if rows % number == 0]
    return sorted({*low, *(rows // number for number in low)})


def _with_batch(spec: RunSpec, batch: int, rows: int) -> RunSpec:
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": rows // batch}
    return spec.model_copy(update={"train": spec.train.model_copy(update=sizes)})


def _rank(option: Option) -> tuple[float, bool, int, int]:
    train = option.spec.train
    return (
        -(option.rate or 0.0),
        train.gradient_checkpointing,
        -train.per_device_train_batch_size,
        option.spec.zero_stage,
    )


def _suggestion(job: Job, option: Option, most: int, before: float | None) -> Suggestion:
    """`most`: bytes that hold it, the context not among them; `before`: the present rate where the reason is speed."""
    facts = [f"at most {(most + job.fullest.context_most) / GIB:.1f} of {job.fullest.capacity / GIB:.1f} GiB"]
    if option.rate is None:
        reason = "the largest batch that fits, as the speed is not known"
    else:
        facts.insert(0, f"{option.rate:.1f} samples/s")
        faster = f"{option.rate / before:.2f} × as fast" if before else "the fastest that fits"
        reason = f"{faster} by the estimate"
    why = f"{reason}: {', '.join(facts)}"
    title = title_of(job.spec, option.spec)
    return Suggestion(changes(job.spec, option.spec), title, option.host, why, is_faster=before is not None)


def title_of(old: RunSpec, new: RunSpec) -> str:
    """The new settings by their batch and accumulation, and by what else is not as in the old."""
    train = new.train
    found = [f"batch {train.per_device_train_batch_size} × {train.gradient_accumulation_steps}"]
    if train.gradient_checkpointing != old.train.gradient_checkpointing:
        found.append("with checkpointing" if train.gradient_checkpointing else "without checkpointing")
    if new.zero_stage != old.zero_stage:
        found.append(f"ZeRO-{new.zero_stage}")
    if any(key.rpartition(".")[2] in OFFLOADS for key in changes(old, new)):
        found.append("without offload")
    return ", ".join(found)
