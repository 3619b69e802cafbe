"""The requested peak of a step under ZeRO without following its events: where it can lie, and how high it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t5panel.plan.zero.card import BF16, FP32, FP64
from t5panel.plan.zero.plain import ALLREDUCE_ELEMENTS
from t5panel.plan.zero.settings import Zero

SHARES = 32
"""Equal shares of the gradients at which a pass is looked at."""


@dataclass(frozen=True)
class Pass:
    """What a pass of the pure bf16 model holds above its weights, in bytes; gradients count until they are ready.

    forward  peak of the forward pass
    hidden   peak of the forward pass before its logits
    head     peak of the backward pass up to its first gradient, the logits
    tail     peak of the rest of it, from where its first gradient is ready
    fading   the most it holds at a moment when a gradient is ready, for equal shares of the gradients in their order
    kept     peak of the rest of it where every gradient stays
    work     workspaces and inputs, always there
    """

    forward: int
    hidden: int
    head: int
    tail: int
    fading: tuple[int, ...]
    kept: int
    work: int

    def after(self, share: float) -> int:
        """The most it holds when a gradient is ready, from this share of them on, the one that fills it included."""
        place = int(share * SHARES)
        if place >= SHARES:
            return 0
        begun = next((size for size in reversed(self.fading[: place + 1]) if size), 0)
        return max(begun, *self.fading[place:])


def candidates(zero: Zero, sizes: Sequence[int], held: Pass) -> dict[str, int]:
    """Requested bytes at the places where the peak of a steady step can lie; the largest is the peak.

    States, buckets and the step are exact; what the backward pass still holds at a flush is read off `fading`.
    Contiguous gradients. Rounding and fragments are not in it.
    """
    steady, above = {0: _plain, 1: _partitioned, 2: _partitioned, 3: _sharded}[zero.stage](zero, sizes, held)
    return {place: steady + held.work + size for place, size in above.items()}


def _plain(zero: Zero, sizes: Sequence[int], held: Pass) -> tuple[int, dict[str, int]]:
    total = sum(sizes)
    flat = BF16 * min(total, ALLREDUCE_ELEMENTS + max(sizes)) if zero.world > 1 else 0
    earlier = BF16 * total if zero.micro_steps > 1 else 0
    return 14 * total, {
        "forward": earlier + held.forward,
        "logits": earlier + held.head,
        "backward": earlier + held.tail if earlier else held.kept,
        "reduction": BF16 * total + flat,
        "step": (BF16 + FP32) * total + _update(zero, total, max(sizes)),
    }


def _partitioned(zero: Zero, sizes: Sequence[int], held: Pass) -> tuple[int, dict[str, int]]:
    total, shard, largest = sum(sizes), -(-sum(sizes) // zero.world), max(sizes)
    size, owned = zero.reduce_bucket_size, 0 if zero.offload_optimizer else BF16 * _owned(sizes, shard)
    bucket = BF16 * size * (2 if zero.overlaps else 1)
    copied = BF16 * min(total, size) if zero.world > 1 else 0
    if zero.offload_optimizer:  # a copy of each gradient for its norm
        copied = max(copied, FP64 * min(largest, shard))
    earlier = 0
    if zero.micro_steps > 1:
        earlier = owned if zero.stage == 2 else bucket + BF16 * total
    new = 0 if earlier and zero.stage == 1 else bucket
    waiting = BF16 * min(total, max(0, total - size + largest)) if size < total else 0
    if zero.keeps_gradients:
        reduction = bucket + waiting + max(copied, owned)
        backward = new + (held.tail if earlier else held.kept)
    else:
        spans = max(1 - owned / (BF16 * total), size / total)
        filled = bucket + (waiting if zero.stage == 1 and earlier else earlier)
        of_owned = owned + held.after(spans) + (copied if BF16 * size < owned else 0)
        reduction = filled + max(copied + held.after(size / total), of_owned)
        backward = new + held.tail
    moment = _update(zero, shard, shard)
    steady = BF16 * total + (BF16 * largest if zero.offload_optimizer else 3 * FP32 * shard)
    return steady, {
        "forward": earlier + held.forward,
        "logits": earlier + held.head,
        "backward": earlier + backward,
        "reduction": reduction,
        "step": 0 if zero.offload_optimizer else owned + max((BF16 + FP32) * shard, FP32 * shard + moment),
    }


def _sharded(zero: Zero, sizes: Sequence[int], held: Pass) -> tuple[int, dict[str, int]]:
    total, shard = sum(sizes), -(-sum(sizes) // zero.world)
    bucket = min(total, zero.reduce_bucket_size)
    gathered = BF16 * min(total, zero.max_live_parameters) if zero.world > 1 or zero.offload_param else 0

    # Weights go as their gradients come.
    fading = [size + min(gathered, BF16 * total * (SHARES - n) // SHARES) for n, size in enumerate(held.fading) if size]
    steady = BF16 * zero.reduce_bucket_size if zero.contiguous_gradients else 0
    steady += 0 if zero.offload_param else BF16 * shard
    steady += 0 if zero.offload_optimizer else (3 * FP32 + BF16) * shard
    part = min(shard, zero.sub_group_size)
    return steady, {
        "forward": gathered + max(held.forward, held.hidden + BF16 * min(total, zero.prefetch_bucket_size)),
        "logits": gathered + held.head,
        "backward": max(fading),
        "reduction": BF16 * bucket
        + held.after(bucket / total)
        + min(gathered, BF16 * (total - bucket))
        + _parts(zero, sizes[1]),
        "last reduction": BF16 * sizes[0] + _last_reduction(zero, sizes, bucket),
        "step": 0 if zero.offload_optimizer else max((BF16 + FP32) * part, FP32 * part + _update(zero, part, part)),
    }


def _last_reduction(zero: Zero, sizes: Sequence[int], bucket: int) -> int:
    """The embedding's gradient comes last: a full bucket makes room for it, and one that no bucket holds goes alone."""
    embedding = sizes[0]
    if bucket == sum(sizes):
        return BF16 * bucket + _parts(zero, embedding)
    alone = embedding > bucket
    flat = (0 if embedding % zero.world == 0 else embedding) if alone else bucket
    return BF16 * embedding + max(
        BF16 * bucket + _parts(zero, sizes[1]), BF16 * (flat - (0 if alone else embedding)) + _parts(zero, embedding)
    )


def _parts(zero: Zero, elements: int) -> int:
    """A copy of a gradient's part, and one in double precision for its norm, on their way to the host."""
    return (BF16 + FP64) * -(-elements // zero.world) if zero.offload_optimizer else 0


def _update(zero: Zero, elements: int, largest: int) -> int:
    """What AdamW's step takes for a moment over so many elements, the largest tensor among them."""
    return FP32 * {"fused": 0, "foreach": elements, "loop": 2 * largest}[zero.update]


def _owned(sizes: Sequence[int], shard: int) -> int:
    """Elements of the parameters that begin in rank 0's share (the last one counts whole, S12:2186)."""
    total = 0
    for n in sizes:
        if total >= shard:
            break
        total += n
    return total
