"""The estimate of a plan: what is known of cards, rows and earlier runs put together, or why there is none."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import msgspec

from t5panel.contract.shapes import Shape
from t5panel.plan.cards import peaks_of, slowest
from t5panel.plan.context import MeasuredContext
from t5panel.plan.flops import Lengths
from t5panel.plan.machine import UNNAMED, CardFacts
from t5panel.plan.speed import Estimate, Measured, estimate, workload_of

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

DEFAULT_SAMPLES = 10_000_000


class Rows(msgspec.Struct, frozen=True):
    """Training rows as an earlier run tokenised them."""

    run_id: str
    count: int
    lengths: Lengths


class Experience(msgspec.Struct, frozen=True):
    """What earlier runs and the user say besides the spec."""

    rows: Rows | None = None
    measured: tuple[Measured, ...] = ()
    """Newest first."""
    contexts: tuple[MeasuredContext, ...] = ()
    samples: int | None = None
    """Rows to estimate for; None: those of the run."""
    price: float | None = None
    """Money per kWh."""


NOTHING_KNOWN = Experience()


def forecast(spec: RunSpec, shape: Shape | None, cards: tuple[CardFacts, ...], known: Experience) -> Estimate:
    """How fast a spec trains on these cards; without a basis no figure, and why."""
    samples = known.samples or _samples_of(spec, known.rows)
    peaks = [limits for card in cards if (limits := peaks_of(card.name)) is not None]
    if shape is None or len(peaks) < spec.num_gpus:
        return Estimate(samples, f"no estimate: {_why_not(spec, shape, cards)}")
    card = slowest(peaks)
    longest = Lengths.of(spec.data.max_source_length, spec.data.max_target_length)
    lengths = known.rows.lengths if known.rows else longest
    work = workload_of(spec, shape, lengths)
    found = estimate(work, card, samples=samples, price=known.price, measured=known.measured)
    return msgspec.structs.replace(
        found, basis=f"{found.basis}; {_rows_basis(spec, known.rows)}; {card.power:.0f} W per card"
    )


def _samples_of(spec: RunSpec, rows: Rows | None) -> int:
    """Rows that a run sees, where that is known; else ten million."""
    if spec.train.max_steps is not None:
        return spec.train.max_steps * spec.effective_batch
    return DEFAULT_SAMPLES if rows is None else max(1, ceil(spec.train.num_train_epochs * rows.count))


def _why_not(spec: RunSpec, shape: Shape | None, cards: tuple[CardFacts, ...]) -> str:
    if spec.device != "cuda":
        return "nothing is known of the speed of CPUs"
    if shape is None:
        return "the model's shape is not known"
    strangers = dict.fromkeys(card.name for card in cards if peaks_of(card.name) is None)
    if UNNAMED in strangers:
        return "the card has no name; describe it as in --machine '3xRTX 3080 20GiB,12GiB'"
    return f"peak and bandwidth of {', '.join(strangers)} are not known" if strangers else "the cards are not there"


def _rows_basis(spec: RunSpec, rows: Rows | None) -> str:
    if rows is None:
        longest = f"{spec.data.max_source_length} → {spec.data.max_target_length}"
        return f"every row taken as {longest} tokens, shorter ones are faster"
    source, target = _mean(rows.lengths.source), _mean(rows.lengths.target)
    return f"rows of {source:.0f} → {target:.0f} tokens on average, as in {rows.run_id}"


def _mean(lengths: tuple[int, ...]) -> float:
    return sum(lengths) / len(lengths)
