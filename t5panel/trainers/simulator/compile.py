"""From a recorded step to the sections of a table: sizes become products of dimensions, blocks four templates."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np

from t5panel.contract.memory_table import (
    SYMBOLS,
    WORKSPACE,
    Birth,
    Death,
    Hook,
    Place,
    Polynomial,
    Ready,
    Section,
    Sums,
)
from t5panel.trainers.simulator import tape
from t5panel.trainers.simulator.step import Kind, Sizes, record
from t5panel.trainers.simulator.tape import Symbols, up

LAYERS = 6
MIDDLE = 3
"""A middle block with neighbours of its own kind. The second block is told apart: going back, what all blocks share of
the first one is used for the last time there."""
SIZES = Sizes(
    batch=5,
    source=131,
    target=68,
    heads=7,
    d_kv=11,
    d_model=101,
    d_ff=211,
    vocabulary=1009,
    encoder_layers=LAYERS,
    decoder_layers=LAYERS,
    chunk=85,
)
"""No two lengths, rounded ones among them, nor products of those that views merge, are equal."""
_VALUES = {
    "b": SIZES.batch,
    "s": SIZES.source,
    "t": SIZES.target,
    "h": SIZES.heads,
    "k": SIZES.d_kv,
    "d": SIZES.d_model,
    "f": SIZES.d_ff,
    "V": SIZES.vocabulary,
    "p": 136,
    "q": 72,
    "P": 144,
    "Q": 80,
    "S": 160,
    "T": 96,
    "u": 192,
    "v": 128,
    "c": SIZES.chunk,
}
_MERGED = ("hk", "bs", "bt", "bh")
LETTERS = {value: letter for letter, value in _VALUES.items()} | {
    prod(_VALUES[letter] for letter in merged): merged for merged in _MERGED
}
LETTERS |= {SIZES.source - 1: "s", SIZES.target - 1: "t"}  # shifted by one token
SAMPLES = 400
Told = tape.Birth | tape.Death | tape.Ready | tape.Hook


class Origin(NamedTuple):
    """The section a storage was born in: its stack (or the section itself), and the block's number."""

    stack: str
    layer: int


class Made(NamedTuple):
    """A birth whose storage has a word for a label."""

    coefficient: float
    monomial: str
    word: str


class Freed(NamedTuple):
    """A death of storages by their words."""

    stack: str
    place: Place
    words: tuple[str, ...]


class Complete(NamedTuple):
    """A gradient is complete in a storage known by its word."""

    stack: str
    place: Place
    word: str
    parameter: str


Encoded = Made | Freed | Complete | Hook


class Part(NamedTuple):
    """A section before its words are numbered."""

    events: tuple[Encoded, ...]
    kept: Sums
    given: Sums


def compile_kind(kind: Kind) -> Mapping[str, Part]:
    """Sections of a kind by name.

    Raises: ValueError when a step does not have the structure that the templates assume.
    """
    recorded = record(kind, SIZES, Symbols(LETTERS))
    parts = _parts(recorded.events)
    words = _words(parts)
    origins = {
        event.key: origin for origin, events in parts.items() for event in events if isinstance(event, tape.Birth)
    }
    found = {}
    for origin, events in parts.items():
        name = section_name(origin)
        if name is not None:
            encoded = tuple(_encoded(origin, events, words, origins))
            found[name] = Part(encoded, _sums(encoded, given=False), _sums(encoded, given=True))
    return found


def section_name(origin: Origin) -> str | None:
    """`Fe.first`; None for a block whose template another one is."""
    if origin.stack in ("begin", "loss"):
        return origin.stack
    end = {0: "first", 1: "second", MIDDLE: "middle", LAYERS - 1: "last"}.get(origin.layer)
    return f"{origin.stack}.{end}" if end else None


def _parts(events: Iterable[tape.Event]) -> dict[Origin, list[Told]]:
    parts: dict[Origin, list[Told]] = {}
    here: list[Told] = []
    for event in events:
        if isinstance(event, tape.Cut):
            stack, layer = (event.name, 0) if event.name in ("begin", "loss") else (event.name[:2], int(event.name[2:]))
            here = parts.setdefault(Origin(stack, layer), [])
        else:
            here.append(event)
    return parts


def _words(parts: Mapping[Origin, Iterable[Told]]) -> dict[int, str]:
    """A word for every storage: how it was made and its size, counted from the end of its section.

    From the end, because the first block makes more at its beginning than the others do.
    """
    words = {}
    for events in parts.values():
        counts: Counter[str] = Counter()
        for event in reversed(list(events)):
            if isinstance(event, tape.Birth):
                made = f"{event.operation} {event.coefficient:g}{event.monomial}"
                words[event.key] = f"{made} {counts[made]}"
                counts[made] += 1
    return words


def _encoded(
    origin: Origin,
    events: Iterable[Told],
    words: Mapping[int, str],
    origins: Mapping[int, Origin],
) -> Iterator[Encoded]:
    """A section's events, deaths of one place gathered; what is freed of every middle block is told once."""
    events = list(events)
    loops = _loops(origin, events, words, origins)
    told: set[str] = set()
    place: tuple[str, Place] | None = None
    dead: list[str] = []
    for event in events:
        if not isinstance(event, tape.Death):
            if dead and place:
                yield Freed(*place, tuple(dead))
            place, dead = None, []
            if isinstance(event, tape.Birth):
                yield Made(event.coefficient, event.monomial, words[event.key])
            elif isinstance(event, tape.Hook):
                yield _heard(event, origin)
            else:
                there = origins[event.key]
                parameter = _within_block(event.parameter, origin)
                yield Complete(there.stack, _place(origin, there), words[event.key], parameter)
            continue
        there, word = origins[event.key], words[event.key]
        looped = _is_middle(there) and word in loops.get(there.stack, ())
        if looped and there.stack in told:
            continue
        target: tuple[str, Place] = (there.stack, "middles" if looped else _place(origin, there))
        if target != place and dead and place:
            yield Freed(*place, tuple(dead))
            dead = []
        place = target
        if looped:
            told.add(there.stack)
            dead += loops[there.stack]
        else:
            dead.append(word)
    if dead and place:
        yield Freed(*place, tuple(dead))


def _is_middle(origin: Origin) -> bool:
    return origin.stack not in ("begin", "loss") and 0 < origin.layer < LAYERS - 1


def _loops(
    origin: Origin,
    events: Iterable[Told],
    words: Mapping[int, str],
    origins: Mapping[int, Origin],
) -> dict[str, list[str]]:
    """What a section frees of every middle block, by stack: seen at those that are no neighbours of its own block."""
    freed: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        if isinstance(event, tape.Death) and _place(origin, origins[event.key]) == "middles":
            freed[origins[event.key].stack][origins[event.key].layer].append(words[event.key])
    for stack, layers in freed.items():
        if len({tuple(sorted(of_layer)) for of_layer in layers.values()}) > 1:
            raise ValueError(f"{origin} frees other storages of one middle block of {stack} than of the next")
    return {stack: next(iter(layers.values())) for stack, layers in freed.items()}


def _place(here: Origin, there: Origin) -> Place:
    """Where a storage's block stands, seen from the block that frees it."""
    if there.stack in ("begin", "loss"):
        return "here"
    if here.stack not in ("begin", "loss") and here.stack[1] == there.stack[1]:
        near: dict[int, Place] = {0: "here", -1: "before", 1: "after"}
        if there.layer - here.layer in near:
            return near[there.layer - here.layer]
    ends: dict[int, Place] = {0: "first", LAYERS - 1: "last"}
    return ends.get(there.layer, "middles")


def _heard(hook: tape.Hook, here: Origin) -> Hook:
    """A module's hook; the module's block as seen from here."""
    stack, _, rest = hook.module.partition(".block.")
    if not rest:
        return Hook(hook.name, "", "here", hook.module)
    number, _, module = rest.partition(".")
    place = _place(here, Origin(f"{here.stack[0]}{stack[0]}", int(number)))
    if place == "middles":
        raise ValueError(f"{here} fires a hook of {hook.module}, which is no neighbour")
    return Hook(hook.name, stack[0], place, module)


def _within_block(parameter: str, origin: Origin) -> str:
    """A weight's name without its block's, or its full name when it belongs to none."""
    prefix = f"{'encoder' if origin.stack[1:] == 'e' else 'decoder'}.block.{origin.layer}."
    return parameter.removeprefix(prefix)


def section_of(part: Part, labels: dict[str, int]) -> Section:
    """A section whose words are numbers, new words numbered as they come."""

    def number(word: str) -> int:
        return labels.setdefault(word, len(labels))

    events = tuple(
        Birth(event.coefficient, event.monomial, number(event.word))
        if isinstance(event, Made)
        else Death(event.stack, event.place, tuple(map(number, event.words)))
        if isinstance(event, Freed)
        else event
        if isinstance(event, Hook)
        else Ready(event.stack, event.place, number(event.word), event.parameter)
        for event in part.events
    )
    return Section(events, part.kept, part.given)


def _sums(events: Iterable[Encoded], *, given: bool) -> Sums:
    """The change of a section and those of its prefixes that can be its peak for some realistic sizes."""
    now: dict[str, float] = defaultdict(float)
    gradients: dict[str, float] = defaultdict(float)
    prefixes: list[Mapping[str, float]] = [{}]
    for event in events:
        if isinstance(event, Made):
            if event.monomial != WORKSPACE:
                now[event.monomial] += event.coefficient
                prefixes.append(dict(now))
        elif isinstance(event, Complete):
            coefficient, monomial = _term_of(event.word)
            gradients[monomial] += coefficient
            if given:
                now[monomial] -= coefficient
        elif isinstance(event, Freed):
            factor = {"e": "x", "d": "y"}[event.stack[1]] if event.place == "middles" else ""
            for word in event.words:
                coefficient, monomial = _term_of(word)
                now["".join(sorted(monomial + factor))] -= coefficient
    return Sums(_polynomial(now), _polynomial(gradients), tuple(map(_polynomial, _possible_peaks(prefixes))))


def _polynomial(sums: Mapping[str, float]) -> Polynomial:
    return tuple(sorted((monomial, value) for monomial, value in sums.items() if abs(value) > 1e-6))


def _term_of(word: str) -> tuple[float, str]:
    term = word.split(" ")[1]
    digits = len(term.rstrip(SYMBOLS + WORKSPACE))
    return float(term[:digits]), term[digits:]


def _possible_peaks(prefixes: list[Mapping[str, float]]) -> list[Mapping[str, float]]:
    monomials = sorted({monomial for prefix in prefixes for monomial in prefix})
    values = np.array([_values(monomial) for monomial in monomials])
    coefficients = np.array([[prefix.get(monomial, 0.0) for monomial in monomials] for prefix in prefixes])
    highest = (coefficients @ values.reshape(len(monomials), len(_SAMPLES))).argmax(axis=0)
    return [prefixes[number] for number in sorted(set(highest.tolist()))]


@cache
def _values(monomial: str) -> tuple[int, ...]:
    """What a monomial is in every sample."""
    return tuple(prod(sample[letter] for letter in monomial) for sample in _SAMPLES)


def _samples() -> list[dict[str, int]]:
    """Realistic sizes."""
    dice = random.Random(0)
    found = []
    for _ in range(SAMPLES):
        source = dice.choice((32, 64, 128, 256, 300, 512, 1024, 2048))
        target = dice.choice((16, 32, 64, 100, 128, 256, 512, 1024))
        batch = dice.choice((1, 2, 4, 8, 16, 32, 64, 128))
        found.append(
            {
                "b": batch,
                "s": source,
                "t": target,
                "h": dice.choice((4, 6, 8, 12, 16, 32, 64)),
                "k": dice.choice((32, 64, 64, 128)),
                "d": dice.choice((64, 256, 512, 768, 1024, 1472, 2048)),
                "f": dice.choice((128, 1024, 2048, 2816, 4096, 16384)),
                "V": dice.choice((384, 32128, 250112)),
                **dict(zip("pPSu", (up(source, unit) for unit in (8, 16, 32, 64)), strict=True)),
                **dict(zip("qQTv", (up(target, unit) for unit in (8, 16, 32, 64)), strict=True)),
                "c": min(batch * target, dice.choice((128, 512, 1024, 4096))),
                "x": dice.choice((0, 2, 4, 10, 22)),
                "y": dice.choice((0, 2, 4, 10, 22)),
            }
        )
    return found


_SAMPLES = _samples()
