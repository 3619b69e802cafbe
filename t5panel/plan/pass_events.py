"""A table's sections laid out for a model: every birth and death of one forward and backward pass, in order."""

from __future__ import annotations

from collections.abc import Iterator

from t5panel.contract.memory_table import WORKSPACE, Birth, Death, Hook, Place, Ready, Section
from t5panel.plan.kernel_events import Bias, PassEvent, with_sums
from t5panel.plan.step import TrainingStep, sections_in_order
from t5panel.plan.table import sections_of

_STACKS = {"e": "encoder", "d": "decoder"}


def pass_of(step: TrainingStep) -> list[PassEvent]:
    """The events of a pass; workspaces alone outlive it. Stacks need two blocks at least.

    Raises: NoTableError when nothing is known of the versions or of this kind of step.
    """
    sections = sections_of(step.transformers, step.kind)
    layers = {"e": step.shape.num_layers, "d": step.shape.num_decoder_layers}
    letters = step.values
    sizes: dict[tuple[float, str], int] = {}
    born: dict[tuple[str, int], dict[int, int]] = {}
    workspaces: set[int] = set()
    bias = Bias()
    events: list[PassEvent] = []
    keys = iter(range(1, 1 << 62))

    def size_of(coefficient: float, monomial: str) -> int:
        term = (coefficient, monomial)
        if term not in sizes:
            product = coefficient
            for letter in monomial:
                product *= letters[letter]
            sizes[term] = int(product)
        return sizes[term]

    def storages(here: tuple[str, int], stack: str, place: Place, labels: tuple[int, ...]) -> Iterator[int]:
        for layer in _layers(here, stack, place, layers):
            there = born[stack, layer]
            for label in labels:
                yield there.pop(label)

    def run(name: str, section: Section, layer: int) -> None:
        stack = name.split(".", maxsplit=1)[0]
        here = (stack, layer)
        mine = born.setdefault(here, {})
        for event in section.events:
            if isinstance(event, Birth):
                key = next(keys)
                mine[event.label] = key
                if event.monomial == WORKSPACE:
                    workspaces.add(key)
                    events.append(("+", key, step.workspace))
                else:
                    size = size_of(event.coefficient, event.monomial)
                    events.append(("+", key, size))
                    bias.note(key, size, event, size_of)
            elif isinstance(event, Death):
                for key in storages(here, event.stack, event.place, event.labels):
                    events.append(("-", key))
            elif isinstance(event, Hook):
                events.append(_fired(event, here, layers))
            else:
                events.append(_completed(event, here, born, layers))

    for name, blocks in sections_in_order(step.shape):
        if name == "loss":
            events.append(("phase",))
        for layer in blocks:
            run(name, sections[name], layer)
    gradients = {event[2] for event in events if event[0] == "grad"}
    left = (key for mine in born.values() for key in mine.values() if key not in workspaces and key not in gradients)
    return [*with_sums(step, bias.copied(events)), *(("left", key) for key in left)]


def _completed(
    event: Ready, here: tuple[str, int], born: dict[tuple[str, int], dict[int, int]], layers: dict[str, int]
) -> PassEvent:
    (layer,) = _layers(here, event.stack, event.place, layers)
    name = event.parameter
    if name.startswith("layer."):
        name = f"{_STACKS[here[0][1]]}.block.{here[1]}.{name}"
    return ("grad", name, born[event.stack, layer][event.label])


def _fired(event: Hook, here: tuple[str, int], layers: dict[str, int]) -> PassEvent:
    if not event.stack:
        return ("module", event.name, event.module)
    (layer,) = _layers(here, f"F{event.stack}", event.place, layers)
    name = f"{_STACKS[event.stack]}.block.{layer}"
    return ("module", event.name, f"{name}.{event.module}" if event.module else name)


def _layers(here: tuple[str, int], stack: str, place: Place, layers: dict[str, int]) -> range:
    """The blocks that a place means, seen from a section."""
    if stack in ("begin", "loss"):
        return range(1)
    count = layers[stack[1]]
    if place == "middles":
        return range(1, count - 1)
    at = {"first": 0, "last": count - 1, "here": here[1], "before": here[1] - 1, "after": here[1] + 1}[place]
    return range(at, at + 1)
