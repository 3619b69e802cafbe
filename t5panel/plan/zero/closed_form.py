"""The requested peak of a step under ZeRO without following its events: where it can lie, and how high it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from t5panel.plan.zero.card import BF16, FP32
from t5panel.plan.zero.events import TapeEvent
from t5panel.plan.zero.plain import ALLREDUCE_ELEMENTS
from t5panel.plan.zero.settings import Zero

SHARES = 32
"""Equal shares of the gradients at which a pass is looked at."""


@dataclass(frozen=True)
class Pass:
    """What a pass of the pure bf16 model holds above its weights, in bytes; gradients count until they are ready.

    forward  peak of the forward pass
    head     peak of the backward pass up to its first gradient, the logits
    tail     peak of the rest of it
    fading   the most it holds at a moment when a gradient is ready, for equal shares of the gradients in their order
    kept     peak of the rest of it where every gradient stays (stages 0 and 1)
    work     workspaces and inputs, always there
    """

    forward: int
    head: int
    tail: int
    fading: tuple[int, ...]
    kept: int
    work: int

    def at(self, share: float) -> int:
        """Held when this share of the gradients is ready, the last one included; 0 when all are."""
        place = int(share * len(self.fading))
        return self.fading[place] if place < len(self.fading) else 0

    @classmethod
    def of(cls, tape: Sequence[TapeEvent], total: int, work: int) -> Pass:
        """From the tape of a pass that is not the first, for a model of `total` parameters."""
        sizes: dict[object, int] = {}
        fading = [0] * SHARES
        held = ready = forward = head = tail = kept = 0
        place = "forward"
        for event in tape:
            if event[0] == "+":
                sizes[event[1]] = event[2]
                held += event[2]
                if place == "forward":
                    forward = max(forward, held)
                elif place == "head":
                    head = max(head, held)
                else:
                    tail = max(tail, held)
                    kept = max(kept, held + ready)
            elif event[0] == "-":
                held -= sizes.pop(event[1], 0)
            elif event[0] == "phase":
                place = "head"
            elif event[0] == "grad":
                place = "tail"
                share = min(SHARES - 1, ready * SHARES // (BF16 * total))
                fading[share] = max(fading[share], held)
                size = sizes.pop(event[2], 0)
                held -= size
                ready += size
        return cls(forward, head, tail, tuple(fading), kept, work)


def candidates(zero: Zero, sizes: Sequence[int], held: Pass) -> dict[str, int]:
    """Requested bytes at the places where the peak of a steady step can lie; the largest is the peak.

    States, buckets and the step are exact; what the backward pass still holds at the first flush is read off `fading`.
    One optimizer group, `micro_steps` 1, contiguous gradients. Rounding and fragments are not in it.
    """
    total, shard = sum(sizes), -(-sum(sizes) // zero.world)
    owned = _owned(sizes, shard)
    bucket = BF16 * zero.reduce_bucket_size * (2 if zero.overlaps and zero.stage in (1, 2) else 1)
    copied = BF16 * min(total, zero.reduce_bucket_size) if zero.world > 1 or zero.stage == 3 else 0
    left = held.at(zero.reduce_bucket_size / total)  # at the first flush
    update = 2 * FP32 * shard if zero.foreach else (BF16 + FP32) * shard + BF16 * owned
    if zero.stage == 0:
        steady = 14 * total + held.work
        flat = BF16 * min(total, ALLREDUCE_ELEMENTS) if zero.world > 1 else 0
        above = {
            "forward": held.forward,
            "logits": held.head,
            "backward": held.kept,
            "reduction": BF16 * total + flat,
            "step": (BF16 + FP32) * total + (FP32 * total if zero.foreach else 0),
        }
    elif zero.stage in (1, 2):
        steady = BF16 * total + held.work + (BF16 * max(sizes) if zero.offload_optimizer else 3 * FP32 * shard)
        stays = zero.stage == 1 and not zero.overlaps
        above = {
            "forward": held.forward,
            "logits": held.head,
            "backward": bucket + (held.kept if stays else held.tail),
            "reduction": bucket + copied + (BF16 * total if stays and total > zero.reduce_bucket_size else left),
            "step": 0 if zero.offload_optimizer else update,
        }
    else:
        gathered = BF16 * min(total, zero.max_live_parameters) if zero.world > 1 or zero.offload_param else 0
        steady = held.work + (bucket if zero.contiguous_gradients else 0)
        steady += 0 if zero.offload_param else BF16 * shard
        steady += 0 if zero.offload_optimizer else (3 * FP32 + BF16) * shard
        above = {
            "forward": gathered + held.forward,
            "logits": gathered + held.head,
            "backward": gathered + held.tail,
            "reduction": copied
            + BF16 * max(sizes)
            + left
            + int(gathered * max(0.0, 1 - zero.reduce_bucket_size / total)),
            "step": 0 if zero.offload_optimizer else (BF16 + FP32) * min(shard, zero.sub_group_size),
        }
    return {place: steady + size for place, size in above.items()}


def _owned(sizes: Sequence[int], shard: int) -> int:
    """Elements of the parameters that begin in rank 0's share (the last one counts whole, S12:2186)."""
    total = 0
    for n in sizes:
        if total >= shard:
            break
        total += n
    return total
