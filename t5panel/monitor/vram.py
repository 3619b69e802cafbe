"""VRAM of an ended run: what was predicted for its cards, what torch's allocator held, and what stood beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from t5panel.contract.records import CardUse, PredictedVram, RunInfo
from t5panel.monitor.history import Snapshot


@dataclass(frozen=True, slots=True)
class VramPeak:
    """Peaks on rank 0's card since the last start of the ranks, in bytes; evaluations are in them."""

    card: int
    allocated: int
    reserved: int
    beside: int | None
    """Context and communicator, by NVML; None when NVML or rank 0's last word is missing."""
    predicted: PredictedVram | None
    """None when nothing was, or when the run was not what the plan was made for."""

    @property
    def errors(self) -> dict[str, float]:
        """By how much the prediction is off, as a share of what was measured."""
        if self.predicted is None:
            return {}
        measured = {"allocated": self.allocated, "reserved": self.reserved, "context": self.beside}
        return {name: getattr(self.predicted, name) / size - 1 for name, size in measured.items() if size}


def vram_peak(snapshot: Snapshot) -> VramPeak | None:
    """Of an ended run on real cards that made a step; None for any other."""
    info, last, state = snapshot.info, snapshot.last, snapshot.state
    if state.alive or info.rehearsal or not info.cards or last is None:
        return None
    if last.vram_allocated is None or last.vram_reserved is None:
        return None
    uses = state.state.vram if state.state is not None else ()
    reserved = snapshot.result.peak_vram_per_card if snapshot.result is not None else ()
    card = info.cards[0]
    beside = beside_torch(info.cards, uses, reserved).get(card)
    predicted = next((each for each in predicted_vram(info) if each.index == card), None)
    return VramPeak(card, last.vram_allocated, last.vram_reserved, beside, predicted)


def beside_torch(cards: Sequence[int], uses: Sequence[CardUse], reserved: Sequence[int]) -> dict[int, int]:
    """Bytes by card that NVML saw come with the ranks and torch did not reserve, both at their highest.

    `reserved` is by rank, and rank N trains on the Nth of the cards. A card where nothing is left has shown nothing:
    others left it meanwhile.
    """
    by_card = dict(zip(cards, reserved, strict=False))
    found = {use.index: use.highest - use.before - by_card[use.index] for use in uses if by_card.get(use.index)}
    return {index: size for index, size in found.items() if size > 0}


def predicted_vram(info: RunInfo) -> tuple[PredictedVram, ...]:
    """What the plan predicts for each card; none when the run is no longer what the plan was made for."""
    if info.recoveries or info.changes:
        return ()
    try:
        return msgspec.convert(info.plan.get("vram", ()), tuple[PredictedVram, ...])
    except msgspec.ValidationError:  # of another version
        return ()
