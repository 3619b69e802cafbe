"""A training's events on the card of rank 0: the model's own, read off a tape, and the engine's between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t5panel.plan.zero.card import Event
from t5panel.plan.zero.engine import Engine
from t5panel.plan.zero.partitioned import Partitioned
from t5panel.plan.zero.plain import Plain
from t5panel.plan.zero.settings import Zero
from t5panel.plan.zero.sharded import Sharded

TapeEvent = tuple[Any, ...]
"""("+", key, bytes): a storage is born, gradients too · ("-", key): it dies · ("grad", number, key): the gradient of a
parameter is complete in it, and is the engine's from now on · ("module", hook, name): for stage 3, `pre_forward`,
`post_forward`, `pre_backward` or `post_backward` of a module, or `kept` and `freed`: between them a recomputed block
keeps the storage that the module's weight has at first · ("phase",): the forward pass ends.
("left", key): a storage dies at the end of the next forward pass.
What outlives its pass and is no gradient, a workspace, is born once and stays."""
_ENGINES: dict[int, type[Engine]] = {0: Plain, 1: Partitioned, 2: Partitioned, 3: Sharded}


def engine_events(
    zero: Zero,
    sizes: Sequence[int],
    passes: Sequence[Sequence[TapeEvent]],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    modules: Mapping[str, Sequence[int]] | None = None,
    steps: int = 3,
) -> list[Event]:
    """All events on the card of rank 0, from `deepspeed.initialize` to the end of `steps` optimizer steps.

    Marks: `init`, then for step i `forward i` and `backward i` of each pass, `step i`, `end i`.

    sizes    elements of every parameter, in the order of `model.parameters()`
    passes   tapes of the first passes; the last one stands for all that follow
    groups   parameter numbers per optimizer group (default: one group of all)
    modules  module name -> numbers of the parameters it reads itself (stage 3); T5's feed-forward modules read the
             weight of their `wo` before they call it, so it counts as theirs too (PC:44)
    """
    engine = _ENGINES[zero.stage](zero, sizes, groups or [range(len(sizes))], modules or {})
    engine.start()
    card = engine.card
    for step in range(steps):
        for micro in range(zero.micro_steps):
            number = step * zero.micro_steps + micro
            card.mark(f"forward {step}")
            engine.begin_pass(boundary=micro == zero.micro_steps - 1)
            _play(engine, passes[min(number, len(passes) - 1)], number, f"backward {step}")
            engine.end_pass()
        card.mark(f"step {step}")
        engine.step()
        card.mark(f"end {step}")
    return card.events


def _play(engine: Engine, tape: Sequence[TapeEvent], turn: int, backward: str) -> None:
    """One pass. Deaths of gradients are skipped: the engine frees them."""
    died = {event[1] for event in tape if event[0] in ("-", "left")}
    gradients = {event[2] for event in tape if event[0] == "grad"}
    stays = {event[1] for event in tape if event[0] == "+"} - died - gradients
    ready: set[object] = set()
    left: list[object] = []
    card = engine.card
    for kind, *rest in tape:
        if kind == "+":
            key, size = rest
            name = ("tape", key) if key in stays else (turn, key)
            if not card.lives(name):
                card.born(size, key=name)
        elif kind == "-":
            if rest[0] not in ready:
                card.dies((turn, rest[0]))
        elif kind == "grad":
            parameter, key = rest
            ready.add(key)
            engine.gradient(parameter, (turn, key))
        elif kind == "module":
            engine.module(*rest)
        elif kind == "left":
            left.append((turn, rest[0]))
        else:
            card.mark(backward)
            card.dies(*engine.left)
    engine.left = left
