"""What kernels take beside the storages that a table knows: where a pass differs with the lengths and the card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any

from t5panel.contract.memory_table import Birth
from t5panel.plan.kernels import column_sum_buffer
from t5panel.plan.step import TrainingStep

PassEvent = tuple[Any, ...]
"""("+", key, bytes): a storage is born · ("-", key): it dies · ("grad", weight's name, key): a gradient is complete in
it · ("phase",): the forward pass ends · ("left", key): the loss and what its graph still holds, which die with it ·
("module", hook, name): a module's hook fires, under ZeRO-3."""
_PADDED, _OWN = str.maketrans("PQ", "pq"), str.maketrans("PQpq", "stst")
"""From the letters of rows of a bias or its gradient to those of rows as its kernel wants them, and as they are."""
_OF_BIASES, _OF_GRADIENTS = frozenset("pq"), frozenset("PQ")
_ROWS = _OF_BIASES | _OF_GRADIENTS
_INSIDE = frozenset("STuv")
"""Letters of what attention's backward kernel takes for a moment."""


@dataclass
class Bias:
    """What attention takes in place of a bias whose rows its kernel wants longer; nothing where they are long enough.

    Forward, a padded copy of one that is as long as it is: made when attention begins, which the next birth, its
    output's, tells; what was copied goes when attention returns, after its copy where nothing saves that. Backward,
    the kernel's gradient goes the same way back in two copies, before what the next birth tells. Source: pad_bias in
    torch's attention.cpp, and runs' events.
    """

    own: dict[int, int] = field(default_factory=dict)
    """Bytes without padding of each padded bias."""
    gradients: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Bytes of a bias's gradient with padding and without."""
    inside: set[int] = field(default_factory=set)
    """What the backward kernel takes for itself."""

    def note(self, key: int, size: int, birth: Birth, size_of: Callable[[float, str], int]) -> None:
        """Look at a birth."""
        letters = set(birth.monomial)
        if letters & _INSIDE:
            self.inside.add(key)
        elif letters & _ROWS:
            padded, own = (size_of(birth.coefficient, birth.monomial.translate(rows)) for rows in (_PADDED, _OWN))
            if letters & _OF_GRADIENTS and own != padded:
                self.gradients[key] = padded, own
            elif letters & _OF_BIASES and own != size:
                self.own[key] = own

    def copied(self, events: list[PassEvent]) -> list[PassEvent]:
        """The events with these copies."""
        if self.own:
            events = list(self._with_padded(events))
        return list(self._with_unpadded(events)) if self.gradients else events

    def _with_padded(self, events: list[PassEvent]) -> Iterator[PassEvent]:
        padded: PassEvent | None = None
        late: set[int] = set()
        for number, event in enumerate(events):
            kind, key, *_ = *event, 0
            if kind == "+" and key in self.own:
                yield ("+", -key, self.own[key])
                padded = event
            elif kind == "+" and padded:
                yield from (padded, event)
                if ("-", padded[1]) in self._until_a_birth(islice(events, number + 1, None)):
                    late.add(padded[1])
                else:
                    yield ("-", -padded[1])
                padded = None
            else:
                yield event
                if kind == "-" and key in late:
                    yield ("-", -key)

    def _with_unpadded(self, events: list[PassEvent]) -> Iterator[PassEvent]:
        gradient = 0
        for event in events:
            kind, key, *_ = *event, 0
            if kind == "+" and key in self.gradients:
                gradient = key
            elif event == ("-", gradient):  # of a bias that all rows share: their sum was taken first, and is small
                gradient = 0
            elif kind == "+" and gradient and key not in self.inside and event[2] >= self.gradients[gradient][1]:
                with_padding, without = self.gradients[gradient]
                yield from (("+", -gradient, with_padding), ("-", gradient))
                yield from (("+", gradient, without), ("-", -gradient))
                gradient = 0
            yield event

    def _until_a_birth(self, events: Iterable[PassEvent]) -> Iterator[PassEvent]:
        return takewhile(lambda event: event[0] != "+" or event[1] in self.inside, events)


def with_sums(step: TrainingStep, events: list[PassEvent]) -> Iterator[PassEvent]:
    """The events with what a norm's gradient takes for a moment: a sum over all rows, which several blocks share."""
    width = step.shape.d_model
    sums = {
        stack: column_sum_buffer(step.batch * length, width, step.processors)
        for stack, length in (("encoder", step.source), ("decoder", step.target))
    }
    norms = {
        event[2]: sums[event[1].partition(".")[0]]
        for event in events
        if event[0] == "grad" and event[1].endswith("layer_norm.weight")
    }
    for event in events:
        yield event
        if event[0] == "+" and (size := norms.get(event[1])):
            yield from (("+", -event[1], size), ("-", -event[1]))
