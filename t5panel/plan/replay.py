"""What the caching allocator makes of a step: blocks handed out and segments reserved, by playing the step's events.

Tens of milliseconds: once for a plan, where `peak.peak_of` serves every keystroke.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from t5panel.plan.allocator import MIB, Allocator, Block
from t5panel.plan.kernels import adafactor_moments
from t5panel.plan.pass_events import PassEvent, pass_of
from t5panel.plan.peak import state_sizes
from t5panel.plan.step import TrainingStep, parameters_of

STEPS = 3
"""The optimizer's states exist from the second step on; the third one adds nothing new."""
FIRST_BUCKET, BUCKET = MIB, 25 * MIB
"""DDP's buckets fill up in the reverse order of the weights. Source: torch.nn.parallel.DistributedDataParallel."""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes of a card's allocator at the highest moment of a steady step."""

    requested: int
    allocated: int
    reserved: int


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
    width = step.width
    for count in elements:
        card.take(width * count)
    buckets = _take_buckets(card, step, elements)
    events = pass_of(step)
    workspaces: dict[int, tuple[Block, int]] = {}
    for number in range(STEPS):
        if number == 1 and step.wrapper == "ddp-view":
            fresh = _take_buckets(card, step, elements)  # DDP lays its buckets out anew after the first pass
            for bucket in buckets:
                card.give(bucket)
            buckets = fresh
        if number == STEPS - 1:
            card.reset_peaks()
        gradients: dict[str, tuple[Block, int]] = {}
        for _ in range(min(2, step.accumulation)):
            inputs = [card.take(size) for size in step.input_sizes]
            _play(card, events, gradients, workspaces, given=step.wrapper == "ddp-view")
            for tensor in inputs:
                card.give(tensor)
        _update(card, step, elements, first=number == 0)
        for gradient in gradients.values():
            card.give(gradient)
    return Held(card.peak, card.allocator.peak, card.allocator.reserved)


def _play(
    card: Card,
    events: Iterable[PassEvent],
    gradients: dict[str, tuple[Block, int]],
    workspaces: dict[int, tuple[Block, int]],
    *,
    given: bool,
) -> None:
    """One forward and backward pass. A gradient stays, unless it is copied to a bucket or added to one of before."""
    living: dict[int, tuple[Block, int]] = {}
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
    workspaces |= living  # nothing else outlives a pass


def _take_buckets(card: Card, step: TrainingStep, elements: list[int]) -> list[tuple[Block, int]]:
    if step.wrapper not in ("ddp", "ddp-view"):
        return []
    taken, filled, limit = [], 0, FIRST_BUCKET
    for count in reversed(elements):
        filled += step.width * count
        if filled >= limit:
            taken.append(card.take(filled))
            filled, limit = 0, BUCKET
    if filled:
        taken.append(card.take(filled))
    return taken


def _update(card: Card, step: TrainingStep, elements: list[int], *, first: bool) -> None:
    """The optimizer's step: its states at the first one, and what it takes for a moment at each."""
    width, parameters = step.width, parameters_of(step.shape)
    if first:
        for parameter in parameters:
            for size in state_sizes(parameter, step.optimizer, width):
                card.take(size)
    if step.optimizer == "adamw_foreach":
        for moment in [card.take(width * count) for count in elements]:
            card.give(moment)
    elif step.optimizer == "adafactor":
        lengths = [parameter.lengths for parameter in parameters]
        for sizes in adafactor_moments(lengths, half=width == 2, processors=step.processors):
            for moment in [card.take(size) for size in sizes if size]:
                card.give(moment)
