"""How fast the last steps were, where their time went, and what that is of the cards' peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from t5panel.contract.records import Prepared, RunInfo, Step
from t5panel.contract.shapes import Shape
from t5panel.plan.cards import peaks_of, slowest
from t5panel.plan.flops import Lengths, forward_flops


@dataclass(frozen=True, slots=True)
class TimeShares:
    """Shares of a step's seconds on rank 0; together they are 1."""

    data: float
    """Waiting for batches."""
    communication: float | None
    """Waiting for other ranks' gradients after the backward pass; None where nothing recorded it."""
    rest: float
    """Everything else: compute, and what of the communication nothing recorded."""


@dataclass(frozen=True, slots=True)
class Utilization:
    """Model FLOP/s against the peak of all cards (MFU). The rate is measured; FLOP are counted from the lengths."""

    share: float
    flops: float
    """Of one row, forward and backward, recomputation not counted."""
    peak: float
    """FLOP/s of all cards together."""
    precision: str
    card: str


def tokens_per_second(recent: Sequence[Step], first_step: int) -> float | None:
    """Target tokens per second over records; a single one began after `first_step`. None without any."""
    before, counted = first_step, recent
    if len(recent) > 1:  # of the oldest it is not known after which step it began
        before, counted = recent[0].step, recent[1:]
    seconds, tokens = 0.0, 0
    for record in counted:
        seconds += (record.step - before) * record.step_seconds
        tokens += record.target_tokens
        before = record.step
    return tokens / seconds if seconds > 0 else None


def time_shares(recent: Sequence[Step]) -> TimeShares | None:
    """Where the seconds of these records went; None without any."""
    waits = [record.communication_seconds for record in recent if record.communication_seconds is not None]
    return shares_of(
        sum(record.step_seconds for record in recent),
        sum(record.data_wait_seconds for record in recent),
        sum(waits) if len(waits) == len(recent) else None,
    )


def shares_of(seconds: float, data: float, communication: float | None) -> TimeShares | None:
    """Seconds of steps, of them those that waited for data and for gradients, as shares of the first.

    None without a second. A wait is measured by another clock than a step, so the shares are held below 1.
    """
    if not seconds:
        return None
    waited_for_data = min(1.0, data / seconds)
    if communication is None:
        return TimeShares(waited_for_data, None, 1 - waited_for_data)
    waited = min(1 - waited_for_data, communication / seconds)
    return TimeShares(waited_for_data, waited, 1 - waited_for_data - waited)


def utilization(info: RunInfo, prepared: Prepared | None, samples_per_second: float | None) -> Utilization | None:
    """None on the CPU, for a card or a model that is not known, and before the rows' lengths are."""
    if info.rehearsal or not info.cards or prepared is None or not samples_per_second:
        return None
    try:
        names = msgspec.convert(info.plan.get("cards"), tuple[str, ...])
        shape = msgspec.convert(info.plan.get("shape"), Shape)
    except msgspec.ValidationError:  # no shape, or of another version
        return None
    peaks = [limits for name in names if (limits := peaks_of(name)) is not None]
    if not peaks or len(peaks) < len(names) or not prepared.source_tokens or not prepared.target_tokens:
        return None
    train, card = info.spec["train"], slowest(peaks)
    lengths = Lengths(prepared.source_tokens, prepared.target_tokens)
    flops = forward_flops(shape, lengths.paid(int(train["per_device_train_batch_size"]))).training
    bf16 = bool(train.get("bf16"))
    peak = len(names) * (card.bf16 if bf16 else card.fp32)
    return Utilization(samples_per_second * flops / peak, flops, peak, "bf16" if bf16 else "fp32", card.name)
