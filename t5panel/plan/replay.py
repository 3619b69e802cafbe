"""What the caching allocator makes of a step: blocks handed out and segments reserved, by playing the step's events.

Tens of milliseconds: once for a plan, where `peak.peak_of` serves every keystroke.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, repeat

from t5panel.plan.allocator import MIB, Allocator, Block
from t5panel.plan.kernel_events import PassEvent
from t5panel.plan.kernels import adafactor_turns
from t5panel.plan.pass_events import pass_of
from t5panel.plan.peak import state_sizes
from t5panel.plan.step import Parameter, TrainingStep, embeddings_before, optimizer_groups, parameters_of

STEPS = 3
"""The optimizer's states exist from the second step on; the third one adds nothing new."""
FIRST_BUCKET, BUCKET = MIB, 25 * MIB
"""Of DDP's buckets after the first pass. Source: torch.nn.parallel.DistributedDataParallel, and a run's events."""
BROADCAST = 250 * MIB
"""Of the copies in which DDP sends the weights round. Source: broadcast_bucket_size there."""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of a card's allocator at the highest moment of a steady step."""

    requested: int
    allocated: int
    reserved: int
    start: int = 0
    """Blocks at the highest moment before the first step, where a start-up was played."""
    start_reserved: int = 0
    """Segments at that time; what is empty of them has gone back to the driver since."""


class Card:
    """An allocator that also counts what was asked for."""

    def __init__(self, *, expandable: bool = False) -> None:
        self.allocator = Allocator(expandable=expandable)
        self.requested = 0
        self.peak = 0

    def take(self, size: int, stream: int = 0) -> tuple[Block, int]:
        """Allocate; what `give` wants back."""
        self.requested += size
        self.peak = max(self.peak, self.requested)
        return self.allocator.malloc(size, stream), size

    def give(self, taken: tuple[Block, int]) -> None:
        """Free."""
        block, size = taken
        self.requested -= size
        self.allocator.free(block)

    def reset_peaks(self) -> None:
        """Look for peaks from now on."""
        self.peak = self.requested
        self.allocator.reset_peak()


@lru_cache(maxsize=256)
def held_by(step: TrainingStep) -> Held:
    """Play the start and the first steps of a training without ZeRO.

    Raises: NoTableError when nothing is known of the versions or of this kind of step.
    """
    card = Card(expandable=step.expandable_segments)
    elements = [parameter.elements for parameter in parameters_of(step.shape)]
    _take_weights(card, step)
    if step.loop == "trainer":
        card.allocator.empty_cache()
    bucket = _take_first_bucket(card, step, elements)
    events = pass_of(step)
    workspaces: dict[int, tuple[Block, int]] = {}
    left: list[tuple[Block, int]] = []
    in_buckets = step.wrapper == "ddp-view"
    names = [parameter.name for parameter in parameters_of(step.shape)]
    if step.settles:
        row = replace(step, batch=1)
        left = _pass(card, row, pass_of(row), {}, workspaces, [], given=True)
        _give_all(card, left)
        _take_buckets(card, step, events)
        _give_all(card, bucket)
    for number in range(STEPS):
        if number == 1 and bucket:
            _give_all(card, bucket)
            _take_buckets(card, step, events)
        if number == STEPS - 1 and not step.settles:
            card.reset_peaks()
        gradients: dict[str, tuple[Block, int]] = {}
        for _ in range(min(2, step.accumulation)):
            left = _pass(card, step, events, gradients, workspaces, left, given=in_buckets)
        _update(card, step, first=number == 0)
        _give_all(card, [gradients[name] for name in names if name in gradients])
    return Held(card.peak, card.allocator.peak, card.allocator.reserved)


def _pass(
    card: Card,
    step: TrainingStep,
    events: Iterable[PassEvent],
    gradients: dict[str, tuple[Block, int]],
    workspaces: dict[int, tuple[Block, int]],
    before: list[tuple[Block, int]],
    *,
    given: bool,
) -> list[tuple[Block, int]]:
    """One forward and backward pass with its batch; what its graph leaves behind, if the loop keeps its loss.

    What one of before left goes at its loss. A gradient stays, unless it is added to one of before, or to its place
    in a bucket.
    """
    inputs = [card.take(size) for size in step.input_sizes]
    living: dict[int, tuple[Block, int]] = {}
    left = []
    for event in events:
        kind = event[0]
        if kind == "+":
            _, key, size = event
            if key not in workspaces:
                living[key] = card.take(size)
        elif kind == "-":
            card.give(living.pop(event[1]))
        elif kind == "grad":
            _, name, key = event
            gradient = living.pop(key)
            if given or name in gradients:
                card.give(gradient)
            else:
                gradients[name] = gradient
        elif kind == "left":
            left.append(living.pop(event[1]))
        else:
            _give_all(card, before)
    workspaces |= living  # nothing else outlives a pass
    _give_all(card, inputs)
    if not step.lingers:
        _give_all(card, left)
    return left


def _give_all(card: Card, taken: list[tuple[Block, int]]) -> None:
    while taken:
        card.give(taken.pop(0))


def _take_weights(card: Card, step: TrainingStep) -> None:
    """One after the other. A fresh model has an embedding for each use at first, which go when they are tied.

    A fresh one with a head of its own gets it afterwards, scaled: only the loops that we measure make such.
    """
    copies = []
    embedding, width = step.width * step.shape.vocab_size * step.shape.d_model, step.width
    before = embeddings_before(step)
    for number, parameter in enumerate(parameters_of(step.shape)):
        if number in before:
            copies.append(card.take(embedding))
        if parameter.name == "lm_head.weight" and before:
            copies.append(card.take(embedding))
            _give_all(card, copies)
            copies.append(card.take(embedding))
        card.take(width * parameter.elements)
    if before and step.shape.tied:
        copies.append(card.take(embedding))
    _give_all(card, copies)


def _take_first_bucket(card: Card, step: TrainingStep, elements: list[int]) -> list[tuple[Block, int]]:
    """DDP sends the weights round in flat copies, two at a time (one alone as it is), and begins with one bucket."""
    if step.wrapper not in ("ddp", "ddp-view"):
        return []
    flying: list[tuple[Block, int]] = []
    for sizes in _filled((step.width * count for count in elements), BROADCAST, BROADCAST):
        if len(sizes) > 1:
            flying.append(card.take(sum(sizes)))
        if len(flying) == 2:
            card.give(flying.pop(0))
    _give_all(card, flying)
    return [card.take(step.width * sum(elements))]


def _take_buckets(card: Card, step: TrainingStep, events: Iterable[PassEvent]) -> None:
    """The buckets from the second pass on, in the order in which the first one's gradients were complete."""
    sizes = {parameter.name: step.width * parameter.elements for parameter in parameters_of(step.shape)}
    for bucket in _filled((sizes[event[1]] for event in events if event[0] == "grad"), FIRST_BUCKET, BUCKET):
        card.take(sum(bucket))


def _filled(sizes: Iterable[int], first: int, limit: int) -> Iterator[list[int]]:
    """Sizes in their order, together as many as it takes to reach a limit."""
    filled: list[int] = []
    limits = chain([first], repeat(limit))
    wanted = next(limits)
    for size in sizes:
        filled.append(size)
        if sum(filled) >= wanted:
            yield filled
            filled, wanted = [], next(limits)
    if filled:
        yield filled


def _update(card: Card, step: TrainingStep, *, first: bool) -> None:
    """The optimizer's step, group by group: its states at the first one, and what it takes for a moment at each."""
    parameters = parameters_of(step.shape)
    for group in optimizer_groups(step):
        members = [parameters[number] for number in group]
        if step.optimizer == "adafactor":
            _adafactor(card, step, members, first=first)
            continue
        if first:
            for parameter in members:
                _take_states(card, step, parameter)
        sizes = [step.width * parameter.elements for parameter in members]
        if step.optimizer == "adamw_foreach":
            _pass_by(card, sizes)
        elif step.optimizer == "adamw_loop":
            for size in sizes:
                _pass_by(card, [size, size])


def _adafactor(card: Card, step: TrainingStep, members: list[Parameter], *, first: bool) -> None:
    """Weight by weight: the states of one are made when its turn comes."""
    lengths = [parameter.lengths for parameter in members]
    living = {}
    for kind, name, number in adafactor_turns(lengths, half=step.width == 2, processors=step.processors):
        if kind == "+":
            living[name] = card.take(number)
        elif kind == "-":
            card.give(living.pop(name))
        elif first:
            _take_states(card, step, members[number])


def _take_states(card: Card, step: TrainingStep, parameter: Parameter) -> None:
    for size in state_sizes(parameter, step.optimizer, step.width):
        card.take(size)


def _pass_by(card: Card, sizes: Iterable[int]) -> None:
    """Storages that live together for a moment."""
    for moment in [card.take(size) for size in sizes]:
        card.give(moment)
