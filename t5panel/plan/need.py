"""What one card needs for a training step: parts, blocks, segments, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from t5panel.plan.peak import Peak, peak_of
from t5panel.plan.replay import Held, held_by
from t5panel.plan.step import TrainingStep
from t5panel.plan.zero import Zero
from t5panel.plan.zero_replay import played_under_zero, zero_peak

LOWEST_SHARE = 0.99
"""Of the predicted blocks: what a step takes at least. Source: README, "Measured"; none took less than 0.991 of it."""
SAME = 0.01
"""States of the optimizer that differ by no more are the same but for counters and padding."""
MARGIN = 1.03
"""On the predicted segments: a card that holds so much holds the step. Source: the same measurements."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of one card's allocator at the highest moment of a step."""

    parts: Peak
    """By purpose; they sum to `requested`."""
    allocated: int
    """Blocks handed out: less than this on a card is an out-of-memory."""
    reserved: int
    """Segments that the caching allocator takes when it is free to."""
    start: int = 0
    """Blocks at the highest moment before the first step, where that was looked at."""
    start_reserved: int = 0
    """Segments at that time."""

    @property
    def requested(self) -> int:
        """What the step asks for."""
        return self.parts.requested

    @property
    def low(self) -> int:
        """Below this it cannot run."""
        return int(LOWEST_SHARE * max(self.allocated, self.start))

    @property
    def high(self) -> int:
        """With this it needs no luck."""
        return int(MARGIN * max(self.reserved, self.allocated, self.start_reserved))


def need_of(step: TrainingStep) -> Need:
    """The need of a step, played through the allocator.

    Raises: NoTableError when nothing is known of the versions or of this kind of step.
    """
    if step.zero is not None:
        held, parts = played_under_zero(step)
        return Need(parts, held.allocated, held.reserved, held.start, held.start_reserved)
    parts = peak_of(step)
    held = _held(step)
    return Need(_scaled(parts, held.requested), held.allocated, held.reserved)


def quick_need(step: TrainingStep, like: Need) -> Need:
    """The need of a step in closed form, a fifth of a millisecond; the allocator adds as much to it as to another's.

    Raises: NoTableError as `need_of`.
    """
    if step.zero is None:
        parts = peak_of(step)
    else:
        parts = _split_like(_zero_parts(step, step.zero, zero_peak(step)), like.parts)
    grown = parts.requested / like.requested
    return Need(parts, int(grown * like.allocated), int(grown * like.reserved), like.start, like.start_reserved)


def _held(step: TrainingStep) -> Held:
    """What the allocator holds; of a stack of one block, what two blocks hold less what a third adds."""
    if not step.has_single_block:
        return held_by(step)
    two, three = (held_by(step.with_single_blocks_as(count)) for count in (2, 3))
    return Held(
        2 * two.requested - three.requested, 2 * two.allocated - three.allocated, 2 * two.reserved - three.reserved
    )


def _scaled(parts: Peak, requested: int) -> Peak:
    """The parts, with the activations as the replay has them: sums know no order, so they can be a little higher."""
    return replace(parts, activations=max(0, parts.activations + requested - parts.requested))


def _split_like(parts: Peak, like: Peak) -> Peak:
    """The parts as of a step whose optimizer holds as much: what has grown since is activations and logits."""
    live = like.activations + like.logits
    grown = live + parts.requested - like.requested
    if live <= 0 or grown < 0 or abs(parts.optimizer - like.optimizer) > SAME * like.optimizer:
        return parts
    logits = like.logits * grown // live
    return replace(like, activations=grown - logits, logits=logits)


def _zero_parts(step: TrainingStep, zero: Zero, requested: int) -> Peak:
    """The states and buffers of a rank under ZeRO; what is left is activations, logits and gathered weights among them.

    Source: the ZeRO paper (Rajbhandari et al. 2020): 2 + 2 + 12 bytes a parameter, sharded from stages 3, 2 and 1 on.
    """
    total = step.shape.parameters
    shard = -(-total // zero.world)
    weights = 2 * (shard if zero.stage == 3 else total)
    optimizer = 0 if zero.offload_optimizer else 12 * (shard if zero.stage else total)
    doubled = 2 if zero.overlaps and zero.stage in (1, 2) else 1
    buckets = 2 * zero.reduce_bucket_size * doubled if zero.stage else 0
    rest = requested - weights - optimizer - step.workspaces
    buckets = min(buckets, max(0, rest))
    return Peak(
        weights=weights,
        gradients=0,
        optimizer=optimizer,
        activations=rest - buckets,
        logits=0,
        buckets=buckets,
        workspace=step.workspaces,
        place="step",
    )
