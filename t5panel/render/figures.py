"""The figures of a run while it trains: speed, share of the cards' peak, energy, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from t5panel.language import tr
from t5panel.monitor.energy import Energy
from t5panel.monitor.history import Snapshot
from t5panel.monitor.pace import TimeShares, Utilization
from t5panel.plan.speed import JOULES_PER_KWH

Figure = tuple[str, str, str]
"""Name, value, and what it rests on."""
COMPLETE = 0.01
"""Share of the time without a reading up to which an energy is told as all of it."""


def figure_words(snapshot: Snapshot) -> list[str]:
    """`27.3 samples/s`, `1,180 tokens/s`, `MFU ≈ 31%`, `0.42 kWh`; what is not known is left out."""
    words = []
    if snapshot.samples_per_second:
        words.append(tr("{rate:,.1f} samples/s", rate=snapshot.samples_per_second))
    if snapshot.tokens_per_second:
        words.append(tr("{rate:,.0f} tokens/s", rate=snapshot.tokens_per_second))
    if snapshot.utilization is not None:
        words.append(f"MFU ≈ {snapshot.utilization.share:.0%}")
    if snapshot.energy is not None:
        words.append(energy_text(snapshot.energy))
    return words


def figures(snapshot: Snapshot) -> Iterator[Figure]:
    """All of them but the time, each with its basis."""
    recent = tr("measured: rank 0, mean of the last {count} records", count=len(snapshot.recent_steps))
    if snapshot.samples_per_second:
        yield tr("samples/s"), f"{snapshot.samples_per_second:,.1f}", recent
    if snapshot.tokens_per_second:
        yield tr("target tokens/s"), f"{snapshot.tokens_per_second:,.0f}", f"{recent}; {tr('padding not counted')}"
    used = snapshot.utilization
    if used is not None:
        yield "MFU", f"≈ {used.share:.1%}", utilization_basis(used)
    if snapshot.energy is not None:
        yield tr("energy so far"), energy_text(snapshot.energy), energy_basis(snapshot.energy)
        if snapshot.energy.watts is not None:
            yield tr("power now"), f"{snapshot.energy.watts:,.0f} W", tr("measured: NVML, all cards of the run")


def time_words(shares: TimeShares, *, briefly: bool = False) -> list[str]:
    """`compute 91%`, `data 4%`, `communication 5%`; briefly only what is waited for."""
    if briefly:
        waits = [tr("data {share:.0%}", share=shares.data)]
        comm = shares.communication
        return waits if comm is None else [*waits, tr("comm {share:.0%}", share=comm)]
    words = [tr("compute {share:.0%}", share=shares.rest), tr("data {share:.0%}", share=shares.data)]
    if shares.communication is None:
        return [*words, tr("communication not recorded")]
    return [*words, tr("communication {share:.0%}", share=shares.communication)]


def time_basis(shares: TimeShares) -> str:
    """On what they rest."""
    data = tr("measured: rank 0 waiting for batches")
    if shares.communication is None:
        return f"{data}; {tr('communication is not recorded, and counts as compute')}"
    return f"{data}; {tr('for gradients after its backward pass, by timers of DDP; compute is the rest')}"


def energy_text(energy: Energy) -> str:
    """`0.42 kWh`, in Wh below a tenth of one; `at least` where readings are missing."""
    kwh = energy.joules / JOULES_PER_KWH
    text = f"{kwh:,.2f} kWh" if kwh >= 0.1 else f"{1000 * kwh:.1f} Wh"
    complete = energy.unread <= COMPLETE * (energy.seconds + energy.unread)
    return text if complete else tr("at least {energy}", energy=text)


def energy_basis(energy: Energy) -> str:
    """On what it rests."""
    return tr("measured: power of the cards alone by NVML, over {seconds:,.0f} s with ranks", seconds=energy.seconds)


def utilization_basis(used: Utilization) -> str:
    """On what it rests."""
    return tr(
        "estimate: measured rate × {row:,.0f} GFLOP a row, counted from its lengths, of {peak:,.0f} TFLOP/s {kind}, "
        "{card}",
        row=used.flops / 1e9,
        peak=used.peak / 1e12,
        kind=used.precision,
        card=used.card,
    )


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
