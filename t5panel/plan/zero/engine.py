"""What all stages of the engine share: the load of the model and AdamW."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from t5panel.plan.zero.card import BF16, FP32, Card
from t5panel.plan.zero.settings import Zero


@dataclass
class Engine(ABC):
    """One stage of the engine: told what the pass does, it allocates and frees on its card."""

    zero: Zero
    sizes: Sequence[int]
    """Elements of every parameter."""
    groups: Sequence[Sequence[int]]
    """Parameter numbers of each optimizer group."""
    modules: Mapping[str, Sequence[int]]
    """Parameter numbers of each module."""
    card: Card = field(default_factory=Card)
    boundary: bool = True
    """An optimizer step follows the pass."""
    left: list[object] = field(default_factory=list)
    """Storages that the graph of the last pass still holds."""
    _with_moments: set[object] = field(default_factory=set)

    def load(self) -> list[object]:
        """Weights of the model on the card, one storage a parameter (EN:1862 casts, EN:2093 moves)."""
        if not self.zero.fp32_on_card:
            return [self.card.born(BF16 * n, part="weights") for n in self.sizes]
        full, copies, weights = [], [], []
        for number, n in enumerate(self.sizes):
            if number in self.zero.embeddings_before:
                copies.append(self.card.born(FP32 * self.sizes[0], part="weights"))
            full.append(self.card.born(FP32 * n, part="weights"))
        if copies:
            copies.append(self.card.born(FP32 * self.sizes[0], part="weights"))
        self.card.dies(*copies)
        for n, old in zip(self.sizes, full, strict=True):
            weights.append(self.card.born(BF16 * n, part="weights"))
            self.card.dies(old)
        return weights

    def adamw(self, name: object, sizes: Sequence[int]) -> None:
        """A step of torch's AdamW over fp32 tensors: moments at the first one, temporaries if it is not fused."""
        if name not in self._with_moments:
            for n in sizes:
                for size in (FP32, FP32 * n, FP32 * n):
                    self.card.born(size, part="optimizer")
            self._with_moments.add(name)
        if self.zero.update == "foreach":
            self.card.dies(*[self.card.born(FP32 * n, part="optimizer") for n in sizes])
        elif self.zero.update == "loop":
            for n in sizes:
                self.card.dies(*[self.card.born(FP32 * n, part="optimizer") for _ in range(2)])

    @abstractmethod
    def start(self) -> None:
        """`deepspeed.initialize`."""

    def begin_pass(self, *, boundary: bool) -> None:
        """A forward pass starts."""
        self.boundary = boundary

    @abstractmethod
    def gradient(self, parameter: int, key: object) -> None:
        """The gradient of a parameter is complete."""

    def module(self, hook: str, name: str) -> None:  # noqa: B027 - only stage 3 listens
        """A module's hook fires."""

    @abstractmethod
    def end_pass(self) -> None:
        """The backward pass is over."""

    @abstractmethod
    def step(self) -> None:
        """The optimizer steps."""


def buckets(sizes: Iterable[int], limit: int) -> list[list[int]]:
    """Consecutive sizes, a new bucket after each that takes the sum over `limit`."""
    found: list[list[int]] = [[]]
    for n in sizes:
        found[-1].append(n)
        if sum(found[-1]) > limit:
            found.append([])
    return [bucket for bucket in found if bucket]
