"""The figures of a run while it trains: speed, share of the cards' peak, energy, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from t5panel.monitor.energy import Energy
from t5panel.monitor.history import Snapshot
from t5panel.monitor.pace import TimeShares, Utilization
from t5panel.plan.speed import JOULES_PER_KWH

Figure = tuple[str, str, str]
"""Name, value, and what it rests on."""
NOT_RECORDED = "not recorded"
COMPLETE = 0.01
"""Share of the time without a reading up to which an energy is told as all of it."""


def figure_words(snapshot: Snapshot) -> list[str]:
    """`27.3 samples/s`, `1,180 tokens/s`, `MFU ≈ 31%`, `0.42 kWh`; what is not known is left out."""
    words = []
    if snapshot.samples_per_second:
        words.append(f"{snapshot.samples_per_second:,.1f} samples/s")
    if snapshot.tokens_per_second:
        words.append(f"{snapshot.tokens_per_second:,.0f} tokens/s")
    if snapshot.utilization is not None:
        words.append(f"MFU ≈ {snapshot.utilization.share:.0%}")
    if snapshot.energy is not None:
        words.append(energy_text(snapshot.energy))
    return words


def figures(snapshot: Snapshot) -> Iterator[Figure]:
    """All of them but the time, each with its basis."""
    recent = f"rank 0, mean of the last {len(snapshot.recent_steps)} records"
    if snapshot.samples_per_second:
        yield "samples/s", f"{snapshot.samples_per_second:,.1f}", f"measured: {recent}"
    if snapshot.tokens_per_second:
        yield "target tokens/s", f"{snapshot.tokens_per_second:,.0f}", f"measured: {recent}; padding not counted"
    used = snapshot.utilization
    if used is not None:
        yield "MFU", f"≈ {used.share:.1%}", utilization_basis(used)
    if snapshot.energy is not None:
        yield "energy so far", energy_text(snapshot.energy), energy_basis(snapshot.energy)
        if snapshot.energy.watts is not None:
            yield "power now", f"{snapshot.energy.watts:,.0f} W", "measured: NVML, all cards of the run"


def time_words(shares: TimeShares, *, briefly: bool = False) -> list[str]:
    """`compute 91%`, `data 4%`, `communication 5%`; briefly only what is waited for."""
    if briefly:
        waits = [f"data {shares.data:.0%}"]
        return waits if shares.communication is None else [*waits, f"comm {shares.communication:.0%}"]
    words = [f"compute {shares.rest:.0%}", f"data {shares.data:.0%}"]
    return [*words, f"communication {_share(shares.communication)}"]


def time_basis(shares: TimeShares) -> str:
    """On what they rest."""
    data = "measured: rank 0 waiting for batches"
    if shares.communication is None:
        return f"{data}; communication is not recorded: it is in the rest, compute"
    return f"{data}, and for gradients after its backward pass, by DDP's timers; compute is the rest"


def energy_text(energy: Energy) -> str:
    """`0.42 kWh`, in Wh below a tenth of one; `at least` where readings are missing."""
    kwh = energy.joules / JOULES_PER_KWH
    text = f"{kwh:,.2f} kWh" if kwh >= 0.1 else f"{1000 * kwh:.1f} Wh"
    return text if energy.unread <= COMPLETE * (energy.seconds + energy.unread) else f"at least {text}"


def energy_basis(energy: Energy) -> str:
    """On what it rests."""
    return f"measured: NVML's power of the cards alone, over {energy.seconds:,.0f} s with ranks"


def utilization_basis(used: Utilization) -> str:
    """On what it rests."""
    peak = f"{used.peak / 1e12:,.0f} TFLOP/s {used.precision} of {used.card}"
    return f"estimate: measured rate × {used.flops / 1e9:,.0f} GFLOP a row, counted from its lengths, of {peak}"


def figures_json(snapshot: Snapshot) -> dict[str, Any]:
    """The same as JSON values; what is unknown is null."""
    import msgspec

    shares, energy, used = snapshot.time_shares, snapshot.energy, snapshot.utilization
    return {
        "target_tokens_per_second": snapshot.tokens_per_second,
        "mfu": {"share": used.share, "basis": utilization_basis(used)} if used else None,
        "energy": {**msgspec.to_builtins(energy), "basis": energy_basis(energy)} if energy else None,
        "time_shares": msgspec.to_builtins(shares) if shares else None,
    }


def _share(value: float | None) -> str:
    return NOT_RECORDED if value is None else f"{value:.0%}"
