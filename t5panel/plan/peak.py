"""The requested peak of a training step in a tenth of a millisecond: sums of a table's sections, no order of events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from t5panel.contract.memory_table import Polynomial, Sums
from t5panel.plan.step import TrainingStep, parameters_of
from t5panel.plan.table import sections_of

CUBLAS_WORKSPACE = 8_519_680
"""Bytes of one cuBLAS workspace on cards before Hopper (`:4096:2:16:8`). Source: torch's CUDA notes; measured."""
WORKSPACES = 2
"""One of the thread that runs forward, one of autograd's."""
FUSED_COUNTER = 4
Terms = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Peak:
    """Requested bytes of one card at the highest moment of a steady step, by part; parts sum to the whole."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buckets: int
    workspace: int
    place: str
    """Which stretch of the step it is: a section of the table, or `optimizer`."""

    @property
    def requested(self) -> int:
        """All parts."""
        return (
            self.weights
            + self.gradients
            + self.optimizer
            + self.activations
            + self.logits
            + self.buckets
            + self.workspace
        )


@dataclass(frozen=True, slots=True)
class States:
    """What a rank without ZeRO holds between steps, in bytes, and what the optimizer takes for a moment."""

    weights: int
    optimizer: int
    buckets: int
    kept_gradients: int
    """Gradients that live through the forward pass: those of the micro-batches before."""
    moment: int


def states_of(step: TrainingStep) -> States:
    """Weights, optimizer and buckets without ZeRO.

    AdamW keeps two moments as wide as the weights; Adafactor a row and a column of each matrix in float32; 8-bit Adam
    two bytes and two scales for every 256 elements of tensors from 4,096 elements on (bitsandbytes).
    """
    parameters, width = parameters_of(step.shape), step.width
    total = step.shape.parameters
    gradients = width * total
    moment = 0
    if step.optimizer == "adafactor":
        optimizer = sum(4 * (sum(p.lengths) if len(p.lengths) == 2 else p.elements) for p in parameters)
        moment = (8 if width == 4 else 16) * max(p.elements for p in parameters)
    elif step.optimizer == "adamw_8bit":
        large = sum(p.elements for p in parameters if p.elements >= 4096)
        optimizer = 2 * large + 8 * large // 256 + 8 * (total - large)
    else:
        optimizer = 2 * width * total
        if step.optimizer == "adamw_fused":
            optimizer += FUSED_COUNTER * len(parameters)
        if step.optimizer == "adamw_foreach":
            moment = width * total
    return States(
        weights=width * total,
        optimizer=optimizer,
        buckets=gradients if step.wrapper in ("ddp", "ddp-view") else 0,
        kept_gradients=gradients if step.wrapper in ("none", "ddp") and step.accumulation > 1 else 0,
        moment=moment,
    )


def input_bytes(step: TrainingStep) -> int:
    """The batch on the card: ids, mask and labels, and decoder inputs where our trainers make them; int64 each."""
    rows = 2 if step.loss == "summed" else 1
    return 8 * step.batch * (2 * step.source + rows * step.target)


def peak_of(step: TrainingStep) -> Peak:
    """The requested peak of a step without ZeRO.

    Raises: NoTableError when nothing is known of the versions or of this kind of step.
    """
    if 1 in (step.shape.num_layers, step.shape.num_decoder_layers):
        return _extrapolated(step)
    states = states_of(step)
    walk = walk_of(step, given=step.wrapper == "ddp-view" or states.kept_gradients > 0)
    held = input_bytes(step)
    gradients = states.kept_gradients + walk.gradients
    above = states.kept_gradients + walk.above + held
    after = (states.kept_gradients or (0 if step.wrapper == "ddp-view" else step.width * step.shape.parameters)) + held
    if after + states.moment > above:
        gradients, activations, logits, place = after - held, held + states.moment, 0, "optimizer"
    else:
        activations, logits, place = above - gradients - walk.logits, walk.logits, walk.place
    return Peak(
        weights=states.weights,
        gradients=gradients,
        optimizer=states.optimizer,
        activations=activations,
        logits=logits,
        buckets=states.buckets,
        workspace=WORKSPACES * CUBLAS_WORKSPACE,
        place=place,
    )


def _extrapolated(step: TrainingStep) -> Peak:
    """A stack of one block: what two blocks need less what the third adds."""
    from dataclasses import replace

    def with_layers(encoder: int, decoder: int) -> Peak:
        shape = replace(step.shape, num_layers=encoder, num_decoder_layers=decoder)
        return peak_of(replace(step, shape=shape))

    layers = [step.shape.num_layers, step.shape.num_decoder_layers]
    two = with_layers(*(max(2, count) for count in layers))
    three = with_layers(*(3 if count == 1 else count for count in layers))
    fields = ("weights", "gradients", "optimizer", "activations", "logits", "buckets", "workspace")
    values = {name: max(0, 2 * getattr(two, name) - getattr(three, name)) for name in fields}
    return Peak(**values, place=two.place)


@dataclass(frozen=True, slots=True)
class Walk:
    """The highest moment of a forward and backward pass above what lives between steps, in bytes."""

    above: int
    gradients: int
    logits: int
    place: str
    forward: int
    """Highest moment of the forward pass."""
    head: int
    """Highest moment of the loss and its gradient."""
    tail: int
    """Highest moment after it."""
    backward: tuple[tuple[str, int, int], ...]
    """Each section after it, with the highest moments of the first and of the last block that it stands for."""


@dataclass(frozen=True, slots=True)
class _Sums:
    change: Terms
    gradients: Terms
    peaks: tuple[Terms, ...]


@dataclass(frozen=True, slots=True)
class _Prepared:
    monomials: tuple[str, ...]
    logits: frozenset[int]
    sections: dict[str, _Sums]


@lru_cache(maxsize=256)
def _prepared(transformers: str, kind: str, given: bool) -> _Prepared:
    sections = sections_of(transformers, kind)
    sums = {name: section.given if given else section.kept for name, section in sections.items()}
    monomials = tuple(
        sorted({monomial for each in sums.values() for term in (each.change, *each.peaks) for monomial, _ in term})
    )
    number = {monomial: index for index, monomial in enumerate(monomials)}
    number.update({m: number.get(m, 0) for each in sums.values() for m, _ in each.gradients})

    def terms(polynomial: Polynomial) -> Terms:
        return tuple((number[monomial], coefficient) for monomial, coefficient in polynomial)

    def prepared(each: Sums) -> _Sums:
        return _Sums(terms(each.change), terms(each.gradients), tuple(map(terms, each.peaks)))

    logits = frozenset(index for monomial, index in number.items() if monomial in ("Vbt", "Vc"))
    return _Prepared(monomials, logits, {name: prepared(each) for name, each in sums.items()})


def walk_of(step: TrainingStep, *, given: bool) -> Walk:
    """Follow a pass through its sections. `given`: its gradients go elsewhere as soon as they are complete."""
    prepared = _prepared(step.transformers, step.kind, given)
    letters = step.values
    values = [prod([letters[letter] for letter in monomial]) for monomial in prepared.monomials]
    sections = prepared.sections
    live = gradients = logits = 0.0
    above, at = 0.0, ("begin", 0.0, 0.0)
    tops = {"F": 0.0, "loss": 0.0, "B": 0.0}
    backward: list[tuple[str, int, int]] = []

    def run(name: str, times: int = 1) -> None:
        nonlocal live, gradients, logits, above, at
        if times < 1:
            return
        section = sections[name]
        change = sum([coefficient * values[index] for index, coefficient in section.change])
        top = -1.0
        highest: Terms = ()
        for peak in section.peaks:
            value = sum([coefficient * values[index] for index, coefficient in peak])
            if value > top:
                top, highest = value, peak
        of_gradients = 0.0 if given else sum([coef * values[index] for index, coef in section.gradients])
        repeated = max(0.0, change * (times - 1))
        top += live
        if name[0] == "B":
            backward.append((name, int(top), int(top + change * (times - 1))))
        top += repeated
        phase = "loss" if name == "loss" else "B" if name[0] == "B" else "F"
        tops[phase] = max(tops[phase], top)
        if top > above:
            before = gradients + (of_gradients * (times - 1) if repeated else 0.0)
            here = sum([coef * values[index] for index, coef in highest if index in prepared.logits])
            above, at = top, (name, before, logits + here)
        live += times * change
        gradients += times * of_gradients
        logits += sum([coef * values[index] for index, coef in section.change if index in prepared.logits]) * times

    encoder, decoder = step.shape.num_layers, step.shape.num_decoder_layers
    run("begin")
    for stack, count in (("Fe", encoder), ("Fd", decoder)):
        run(f"{stack}.first")
        run(f"{stack}.second", min(1, count - 2))
        run(f"{stack}.middle", count - 3)
        run(f"{stack}.last")
    run("loss")
    for stack, count in (("Bd", decoder), ("Be", encoder)):
        run(f"{stack}.last")
        run(f"{stack}.middle", count - 3)
        run(f"{stack}.second", min(1, count - 2))
        run(f"{stack}.first")
    return Walk(
        above=int(above),
        gradients=int(at[1]),
        logits=int(at[2]),
        place=at[0],
        forward=int(tops["F"]),
        head=int(tops["loss"]),
        tail=int(tops["B"]),
        backward=tuple(backward),
    )
