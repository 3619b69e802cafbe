"""Stage 0: every rank holds everything."""

from __future__ import annotations

from t5panel.plan.zero.card import BF16, FP32
from t5panel.plan.zero.engine import Engine, buckets

ALLREDUCE_ELEMENTS = 500_000_000
"""Gradients of one flattened all-reduce. Source: EN:151."""


class Plain(Engine):
    """FP16_UnfusedOptimizer over every parameter (EN:2321), a flattened all-reduce after the backward pass."""

    def start(self) -> None:
        """Weights, a copy of each in fp32 and its moments; gradients of zeros for a moment."""
        card = self.card
        self.load()
        order = [self.sizes[p] for group in self.groups for p in group]
        for n in order:  # UF:74 p.clone().float()
            clone = card.born(BF16 * n, part="weights")
            card.born(FP32 * n, part="optimizer")
            card.dies(clone)
        self.gradients: dict[int, object] = {}
        low = [card.born(BF16 * n) for n in order]  # UF:413
        high = [card.born(FP32 * n) for n in order]  # UF:419
        self.adamw("all", order)
        card.dies(*low, *high)
        card.mark("init")

    def gradient(self, parameter: int, key: object) -> None:
        """It stays to the step, or is added to the one of an earlier pass."""
        if parameter in self.gradients:
            self.card.dies(key)
        else:
            self.gradients[parameter] = key

    def end_pass(self) -> None:
        """A flat copy of the gradients for each all-reduce (EN:3828 allreduce_no_retain)."""
        if not self.boundary or self.zero.world == 1:
            return
        for bucket in buckets(self.sizes, ALLREDUCE_ELEMENTS):
            if len(bucket) > 1:
                self.card.blip(BF16 * sum(bucket))

    def step(self) -> None:
        """An fp32 copy of each gradient for its norm (utils.py:578), then one for AdamW (UF:222)."""
        card = self.card
        high = []
        for group in self.groups:
            for p in group:
                card.blip(FP32 * self.sizes[p])
            high += [card.born(FP32 * self.sizes[p]) for p in group]
        self.adamw("all", [self.sizes[p] for group in self.groups for p in group])
        card.dies(*high)
        card.dies(*[self.gradients[p] for p in range(len(self.sizes)) if p in self.gradients])
        self.gradients = {}
