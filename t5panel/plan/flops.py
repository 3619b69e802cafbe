"""Floating-point operations of a T5 training step, from the shape and the lengths that are paid for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from t5panel.contract.shapes import Shape

MULTIPLE = 8
"""Tokens; the trainers pad a batch to a multiple of it."""


class Paid(msgspec.Struct, frozen=True):
    """Mean tokens of a row as the model sees it, padding included; squares because attention is quadratic."""

    source: float
    target: float
    source_squared: float
    target_squared: float
    product: float


class Lengths(msgspec.Struct, frozen=True):
    """Tokens of source and target of some rows that stand for all."""

    source: tuple[int, ...]
    target: tuple[int, ...]

    @staticmethod
    def of(source: int, target: int) -> Lengths:
        """Every row as long as this."""
        return Lengths((source,), (target,))

    def paid(self, batch: int) -> Paid:
        """What a row costs among `batch` random rows, all padded to the longest of them.

        Source: the distribution of a maximum, P(max <= x) = P(length <= x) ** batch. Source and target are taken to be
        independent.
        """
        return _paid(self, batch)


@lru_cache(maxsize=64)
def _paid(lengths: Lengths, batch: int) -> Paid:
    source, target = _padded(lengths.source), _padded(lengths.target)
    longest_source, longest_target = _of_longest(source, batch, float), _of_longest(target, batch, float)
    return Paid(
        source=longest_source,
        target=longest_target,
        source_squared=_of_longest(source, batch, _square),
        target_squared=_of_longest(target, batch, _square),
        product=longest_source * longest_target,
    )


def _padded(lengths: tuple[int, ...]) -> list[int]:
    return sorted(-(-length // MULTIPLE) * MULTIPLE for length in lengths)


def _square(length: int) -> float:
    return float(length * length)


def _of_longest(ordered: list[int], batch: int, value: Callable[[int], float]) -> float:
    """Mean `value` of the longest of `batch` rows drawn from lengths in rising order."""
    count = len(ordered)
    below, total = 0.0, 0.0
    for rank, length in enumerate(ordered, start=1):
        up_to = (rank / count) ** batch
        total += value(length) * (up_to - below)
        below = up_to
    return total


class Forward(msgspec.Struct, frozen=True):
    """FLOP of one row's forward pass: the blocks, which checkpointing runs twice, and the logits."""

    blocks: float
    logits: float

    @property
    def training(self) -> float:
        """Forward and backward, which costs twice a forward, without recomputation: what MFU counts.

        Source: Kaplan et al. 2020, section 2.1; PaLM (Chowdhery et al. 2022), appendix B.
        """
        return 3 * (self.blocks + self.logits)


def forward_flops(shape: Shape, paid: Paid) -> Forward:
    """Two FLOP for each multiply-add of every matrix product; norms, softmax and other element-wise work left out.

    With E source and D target tokens, d = d_model, i = num_heads * d_kv and f = 2 or 3 (gated) * d * d_ff these are

    encoder layer  (4di + f) E + 2i E²
    decoder layer  (6di + f) D + 2di E + i D² + 2i ED
    logits         d * vocab_size * D

    multiply-adds: cross-attention's keys and values run over the source, and causal scores count half.
    Source: the matrix products of transformers' modeling_t5.py, counted.
    """
    width, inner = shape.d_model, shape.num_heads * shape.d_kv
    feed_forward = (3 if shape.gated else 2) * width * shape.d_ff
    encoder_layer = (4 * width * inner + feed_forward) * paid.source + 2 * inner * paid.source_squared
    decoder_layer = (
        (6 * width * inner + feed_forward) * paid.target
        + 2 * width * inner * paid.source
        + inner * paid.target_squared
        + 2 * inner * paid.product
    )
    blocks = shape.num_layers * encoder_layer + shape.num_decoder_layers * decoder_layer
    return Forward(2 * blocks, 2 * width * shape.vocab_size * paid.target)
