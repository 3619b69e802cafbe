"""What a step under ZeRO holds on rank 0's card: the engine's events played through the caching allocator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from t5panel.contract.shapes import Shape
from t5panel.plan.pass_events import pass_of
from t5panel.plan.peak import Peak, Walk, walk_of
from t5panel.plan.replay import STEPS, Card, Held
from t5panel.plan.step import TrainingStep, embeddings_before, optimizer_groups, parameters_of
from t5panel.plan.table import NoTableError
from t5panel.plan.zero import Event, Pass, TapeEvent, Zero, candidates, engine_events
from t5panel.plan.zero.card import BF16, EMPTY_CACHE, Part
from t5panel.plan.zero.closed_form import SHARES

UPDATES: Mapping[str, Literal["fused", "foreach", "loop"]] = {
    "adamw_fused": "fused",
    "adamw_foreach": "foreach",
    "adamw_loop": "loop",
}
PARTS = (*get_args(Part), "activations", "logits", "workspace")
LOGITS = 10
"""Bytes of one in the forward pass: in bfloat16, in float32, and their logarithms."""


@lru_cache(maxsize=256)
def played_under_zero(step: TrainingStep) -> tuple[Held, Peak]:
    """The peaks of a steady step, and its requested one by part.

    A stack of one block counts as two: never too little.

    Raises: NoTableError when nothing is known of the versions, of this kind of step, or of its optimizer under ZeRO.
    """
    step, zero = _modelled(step)
    tape = list(tape_of(step))
    events = engine_events(
        zero,
        _sizes(step.shape),
        [tape],
        groups=optimizer_groups(step),
        modules=modules_of(step.shape),
        steps=STEPS,
    )
    gradients = frozenset(event[2] for event in tape if event[0] == "grad")
    ledger = _Ledger(gradients, BF16 * step.batch * step.target * step.shape.vocab_size)
    return _play(Card(expandable=step.expandable_segments), events, ledger), ledger.peak


def held_under_zero(step: TrainingStep) -> Held:
    """The peaks of a steady step.

    Raises: NoTableError as `played_under_zero`.
    """
    return played_under_zero(step)[0]


def zero_peak(step: TrainingStep) -> int:
    """The requested peak in closed form, in a fifth of a millisecond.

    Raises: NoTableError as `held_under_zero`.
    """
    step, zero = _modelled(step)
    return max(candidates(zero, _sizes(step.shape), _pass(step, zero)).values())


def _modelled(step: TrainingStep) -> tuple[TrainingStep, Zero]:
    """The step with stacks of two blocks at least, and the engine's settings with what the step decides of them."""
    zero = step.zero
    if zero is None or step.precision != "bf16" or step.optimizer not in UPDATES:
        raise NoTableError.of("ZeRO", "its memory is known for bf16 and AdamW only", "set train.bf16 and an AdamW")
    if step.has_single_block:
        step = step.with_single_blocks_as(2)
    zero = replace(
        zero,
        micro_steps=min(2, step.accumulation),
        update=UPDATES[step.optimizer],
        fp32_on_card=step.loss == "summed",
        embeddings_before=embeddings_before(step),
    )
    return step, zero


@lru_cache(maxsize=64)
def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(parameter.elements for parameter in parameters_of(shape))


def tape_of(step: TrainingStep) -> Iterator[TapeEvent]:
    """A pass with its batch, weights by their numbers."""
    number = {parameter.name: place for place, parameter in enumerate(parameters_of(step.shape))}
    inputs = {f"input {place}": size for place, size in enumerate(step.input_sizes)}
    for key, size in inputs.items():
        yield ("+", key, size)
    for event in pass_of(step):
        if event[0] == "grad":
            yield ("grad", number[event[1]], event[2])
        else:
            yield event if step.lingers or event[0] != "left" else ("-", event[1])
    for key in inputs:
        yield ("-", key)


@lru_cache(maxsize=64)
def modules_of(shape: Shape) -> Mapping[str, tuple[int, ...]]:
    """The weights that each module reads; a feed-forward one looks at its `wo` before it calls it."""
    found: dict[str, tuple[int, ...]] = {}
    for number, parameter in enumerate(parameters_of(shape)):
        module = parameter.name.removesuffix(".weight")
        found[module] = (number,)
        if module.endswith(".wo"):
            found[module.removesuffix(".wo")] = (number,)
    embedding = ["shared", "encoder.embed_tokens", "decoder.embed_tokens", *(["lm_head"] if shape.tied else [])]
    return found | dict.fromkeys(embedding, (0,))


@dataclass
class _Ledger:
    """What is on the card for what, now and at the highest moment."""

    gradients: frozenset[object]
    """Keys on the tape."""
    logits: int
    """Bytes in bfloat16; what the loss makes of them has as many or twice as many."""
    held: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    highest: dict[str, int] = field(default_factory=dict)

    def part_of(self, key: Any, size: int) -> str:  # noqa: ANN401 - keys of events
        """The part that a storage belongs to."""
        if key[0] == "engine":
            part: str = key[1]
            return part
        if key[0] == "tape":
            return "workspace"
        if key[1] in self.gradients:
            return "gradients"
        return "logits" if size in (self.logits, 2 * self.logits) else "activations"

    @property
    def peak(self) -> Peak:
        """The highest moment by part."""
        return Peak(**self.highest, place="step")


def _play(card: Card, events: Iterable[Event], ledger: _Ledger) -> Held:
    living = {}
    highest: int | None = None  # until the last step begins
    last = f"end {STEPS - 2}"
    start = start_reserved = 0
    for kind, key, size, stream in events:
        if kind == 1:
            part = ledger.part_of(key, size)
            living[key] = card.take(size, stream), part, size
            ledger.held[part] += size
            if highest is not None and card.requested > highest:
                highest, ledger.highest = card.requested, ledger.held.copy()
        elif kind == -1:
            taken, part, bytes_ = living.pop(key)
            card.give(taken)
            ledger.held[part] -= bytes_
        elif key == EMPTY_CACHE:
            start_reserved = max(start_reserved, card.allocator.reserved)
            card.allocator.empty_cache()
        elif key == "init":
            start, start_reserved = card.allocator.peak, max(start_reserved, card.allocator.reserved)
        elif key == last:
            card.reset_peaks()
            highest, ledger.highest = card.requested, ledger.held.copy()
    return Held(card.peak, card.allocator.peak, card.allocator.reserved, start, start_reserved)


def _pass(step: TrainingStep, zero: Zero) -> Pass:
    """A pass from the sums of its sections. What it holds when a gradient is ready counts as its section's highest."""
    inputs = sum(step.input_sizes)
    walk = walk_of(step, given=not zero.keeps_gradients or zero.micro_steps > 1)
    at_the_end = zero.stage < 3 and (zero.keeps_gradients or zero.reduce_bucket_size >= step.shape.parameters)
    # The last norm's backward pass belongs to the loss's section: three float32 copies of the decoder's output.
    more = inputs + 12 * step.batch * step.target * step.shape.d_model
    first = walk.backward[0][1] + (0 if step.shape.tied else BF16 * step.shape.d_model * step.shape.vocab_size)
    tail = max(walk.tail, first) + more
    return Pass(
        forward=walk.forward + inputs,
        hidden=max(walk.hidden, walk.forward - LOGITS * step.batch * step.target * step.shape.vocab_size) + inputs,
        head=walk.head + inputs,
        tail=tail,
        fading=() if at_the_end else _fading(step, walk, first, more),
        kept=tail,
        work=step.workspaces,
    )


def _fading(step: TrainingStep, walk: Walk, first: int, more: int) -> tuple[int, ...]:
    """By shares of the gradients in their order: the output layer's, the decoder's, the encoder's, the embedding's."""
    shape = step.shape
    attention, wide = 4 * shape.d_kv * shape.num_heads, (3 if shape.gated else 2) * shape.d_ff
    blocks = {"d": shape.d_model * (2 * attention + wide), "e": shape.d_model * (attention + wide)}
    middles = {"d": shape.num_decoder_layers - 3, "e": shape.num_layers - 3}
    scale, done = SHARES / shape.parameters, 0.0
    fading = [float(first), *[0.0] * (SHARES - 1)]
    if not shape.tied:
        done = scale * shape.d_model * shape.vocab_size
    for name, begin, end in walk.backward:
        stack = name[1]
        length = scale * blocks[stack] * (middles[stack] if name.endswith("middle") else 1)
        slope = (end - begin) / length
        for place in range(int(done), min(SHARES, int(done + length) + 1)):
            edge = min(length, place + 1 - done) if slope > 0 else max(0.0, place - done)
            fading[place] = max(fading[place], begin + slope * edge)
        done += length
    return tuple(int(size) + more if size else 0 for size in fading)
