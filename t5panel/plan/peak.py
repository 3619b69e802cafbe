"""The requested peak of a training step in a tenth of a millisecond: sums of a table's sections, no order of events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from t5panel.contract.memory_table import Polynomial
from t5panel.contract.shapes import Shape
from t5panel.plan.kernels import Processors, adafactor_turns, highest
from t5panel.plan.step import OptimizerName, Parameter, TrainingStep, lengths_of, parameters_of, sections_in_order
from t5panel.plan.table import sections_of

FUSED_COUNTER = 4
BITSANDBYTES_FROM = 4096
"""Elements; smaller tensors keep their moments in float32."""
Terms = tuple[tuple[int, float], ...]
LOGITS = ("Vbt", "Vc")
"""Monomials of the logits and of what the loss makes of them."""


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
    """Weights, optimizer and buckets without ZeRO."""
    gradients = step.width * step.shape.parameters
    return States(
        weights=gradients,
        optimizer=_optimizer_bytes(step.shape, step.optimizer, step.width),
        buckets=gradients if step.wrapper in ("ddp", "ddp-view") else 0,
        kept_gradients=gradients if step.accumulation > 1 and step.wrapper != "ddp-view" else 0,
        moment=_moment(step),
    )


def state_sizes(parameter: Parameter, optimizer: OptimizerName, width: int) -> list[int]:
    """Bytes of each tensor that an optimizer keeps of a weight.

    AdamW keeps two moments as wide as the weight, and fused a counter; Adafactor a row and a column of each matrix in
    float32; 8-bit Adam two bytes and two scales for every 256 elements, from 4,096 elements on (bitsandbytes).
    """
    if optimizer == "adafactor":
        return [4 * length for length in parameter.lengths]
    if optimizer == "adamw_8bit":
        count = parameter.elements
        return [count, count, count // 64, count // 64] if count >= BITSANDBYTES_FROM else [4 * count, 4 * count]
    counter = [FUSED_COUNTER] if optimizer == "adamw_fused" else []
    return [*counter, width * parameter.elements, width * parameter.elements]


@lru_cache(maxsize=256)
def _optimizer_bytes(shape: Shape, optimizer: OptimizerName, width: int) -> int:
    return sum(sum(state_sizes(parameter, optimizer, width)) for parameter in parameters_of(shape))


def _moment(step: TrainingStep) -> int:
    """What the optimizer's step takes for a moment: copies of all gradients, or some of one weight's."""
    if step.optimizer == "adafactor":
        return _adafactor_moment(step.shape, step.width == 2, step.processors)
    if step.optimizer == "adamw_loop":
        return 2 * step.width * max(parameter.elements for parameter in parameters_of(step.shape))
    return step.width * step.shape.parameters if step.optimizer == "adamw_foreach" else 0


@lru_cache(maxsize=256)
def _adafactor_moment(shape: Shape, half: bool, processors: Processors) -> int:
    lengths = [parameter.lengths for parameter in parameters_of(shape)]
    return highest(adafactor_turns(lengths, half=half, processors=processors))


def peak_of(step: TrainingStep) -> Peak:
    """The requested peak of a step without ZeRO.

    Raises: NoTableError when nothing is known of the versions or of this kind of step.
    """
    if step.has_single_block:
        return _extrapolated(step)
    states = states_of(step)
    in_buckets = step.wrapper == "ddp-view"
    kept = states.kept_gradients
    walk = walk_of(step, given=in_buckets or kept > 0)
    held = sum(step.input_sizes)
    gradients = kept + walk.gradients
    above = kept + walk.above + held
    after = (0 if in_buckets else step.width * step.shape.parameters) + held
    if step.settles and states.buckets > states.optimizer + max(above, after + states.moment):
        return _laid_out_anew(step, states)
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
        workspace=step.workspaces,
        place=place,
    )


def _laid_out_anew(step: TrainingStep, states: States) -> Peak:
    """DDP's buckets and those before them, while there are no states of the optimizer yet."""
    return Peak(states.weights, 0, 0, 0, 0, 2 * states.buckets, step.workspaces, "buckets")


def _extrapolated(step: TrainingStep) -> Peak:
    """A stack of one block: what two blocks need less what the third adds."""
    two, three = (peak_of(step.with_single_blocks_as(count)) for count in (2, 3))
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
    hidden: int
    """Highest moment of it before the last block, which the logits follow."""
    head: int
    """Highest moment of the loss and its gradient."""
    tail: int
    """Highest moment after it."""
    backward: tuple[tuple[str, int, int], ...]
    """Each section after it, with the highest moments of the first and of the last block that it stands for."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """A section's sums, as numbers of its kind's polynomials; `logits` are those of the change and of each peak."""

    name: str
    times: int
    """How many blocks it stands for."""
    change: int
    gradients: int
    peaks: tuple[int, ...]
    logits: Terms
    peak_logits: tuple[Terms, ...]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A kind's sections for one shape: its lengths are folded into the coefficients, rows and tokens are left.

    Sections share most of their polynomials, so each stands once.
    """

    monomials: tuple[str, ...]
    polynomials: tuple[Terms, ...]
    sections: tuple[_Sums, ...]
    """In the order of a pass."""


@lru_cache(maxsize=256)
def _prepared(transformers: str, kind: str, shape: Shape, given: bool) -> _Prepared:
    sections = sections_of(transformers, kind)
    lengths = lengths_of(shape)
    monomials: dict[str, int] = {}
    polynomials: dict[Terms, int] = {}

    def terms(polynomial: Polynomial, only: tuple[str, ...] = ()) -> Terms:
        folded: dict[int, float] = {}
        for monomial, coefficient in polynomial:
            if only and monomial not in only:
                continue
            left = "".join(letter for letter in monomial if letter not in lengths)
            index = monomials.setdefault(left, len(monomials))
            folded[index] = folded.get(index, 0.0) + coefficient * prod(
                [lengths[letter] for letter in monomial if letter in lengths]
            )
        return tuple(sorted(folded.items()))

    def number(polynomial: Terms) -> int:
        return polynomials.setdefault(polynomial, len(polynomials))

    def prepared(name: str, times: int) -> _Sums:
        each = sections[name].given if given else sections[name].kept
        peaks = {terms(peak): terms(peak, LOGITS) for peak in each.peaks}
        highest = [peak for peak in peaks if not any(_is_below(peak, other) for other in peaks)]
        return _Sums(
            name,
            times,
            number(terms(each.change)),
            number(terms(each.gradients)),
            tuple(map(number, highest)),
            terms(each.change, LOGITS),
            tuple(peaks[peak] for peak in highest),
        )

    found = tuple(prepared(name, len(blocks)) for name, blocks in sections_in_order(shape))
    return _Prepared(tuple(monomials), tuple(polynomials), found)


def _is_below(terms: Terms, other: Terms) -> bool:
    """Whether a polynomial is another one than this, and never above it, whatever the rows and tokens."""
    mine, its = dict(terms), dict(other)
    return terms != other and all(mine.get(index, 0.0) <= its.get(index, 0.0) for index in {*mine, *its})


def walk_of(step: TrainingStep, *, given: bool) -> Walk:
    """Follow a pass through its sections. `given`: its gradients go elsewhere as soon as they are complete."""
    return _walk(step.transformers, step.kind, step.shape, given, tuple(step.values.items()))


@lru_cache(maxsize=512)
def _walk(transformers: str, kind: str, shape: Shape, given: bool, sizes: tuple[tuple[str, int], ...]) -> Walk:
    prepared, letters = _prepared(transformers, kind, shape, given), dict(sizes)
    values = [prod([letters[letter] for letter in monomial]) for monomial in prepared.monomials]
    bytes_of = [sum([coefficient * values[index] for index, coefficient in terms]) for terms in prepared.polynomials]
    live = 0.0
    highest = _Moment(0.0, 0, 1, ())
    tops = {"F": 0.0, "l": 0.0, "B": 0.0, "hidden": 0.0}
    backward: list[tuple[str, int, int]] = []
    for number, section in enumerate(prepared.sections):
        name, times = section.name, section.times
        change = bytes_of[section.change]
        repeated = max(0.0, change * (times - 1))
        peaks = [bytes_of[peak] for peak in section.peaks]
        once = live + max(peaks)
        if name[0] == "B":
            backward.append((name, int(once), int(once + change * (times - 1))))
        top = once + repeated
        phase = "F" if name == "begin" else name[0]
        tops[phase] = max(tops[phase], top)
        if phase == "F" and name != "Fd.last":
            tops["hidden"] = tops["F"]
        if top > highest.above:
            highest = _Moment(top, number, times if repeated else 1, section.peak_logits[peaks.index(max(peaks))])
        live += times * change
    last = prepared.sections[highest.number]
    passed = [*((section, section.times) for section in prepared.sections[: highest.number]), (last, highest.times - 1)]
    gradients = 0.0
    if not given:
        gradients = sum(times * bytes_of[section.gradients] for section, times in passed)
    logits = sum(times * _value(section.logits, values) for section, times in passed)
    return Walk(
        above=int(highest.above),
        gradients=int(gradients),
        logits=int(logits + _value(highest.logits, values)),
        place=last.name,
        forward=int(tops["F"]),
        hidden=int(tops["hidden"]),
        head=int(tops["l"]),
        tail=int(tops["B"]),
        backward=tuple(backward),
    )


@dataclass(frozen=True, slots=True)
class _Moment:
    """The highest moment so far: its bytes, its section's number, how many blocks it stands for, its logits."""

    above: float
    number: int
    times: int
    logits: Terms


def _value(terms: Terms, values: list[int]) -> float:
    return sum([coefficient * values[index] for index, coefficient in terms])
