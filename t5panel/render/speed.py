"""The estimate of a plan as text and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from t5panel.cells import left
from t5panel.language import later, tr
from t5panel.plan.speed import Estimate

UNITS = ((later("s"), 1.0), (later("min"), 60.0), (later("h"), 3600.0), (later("d"), 86400.0))


def estimate_json(found: Estimate) -> dict[str, Any]:
    """The middle of the range, and its two ends beside it; all null without a rate."""
    slowest, fastest = found.samples_per_second or (None, None)
    return {
        **_pace_json(found, found.middle),
        "basis": found.basis,
        "samples": found.samples,
        "low": _pace_json(found, slowest),
        "high": _pace_json(found, fastest),
        "roofline": found.roofline,
        "efficiency": found.efficiency,
    }


def _pace_json(found: Estimate, rate: float | None) -> dict[str, float | None]:
    return {
        "samples_per_second": rate,
        "seconds": found.seconds(rate),
        "kwh": found.kwh(rate),
        "cost": found.cost(rate),
    }


def estimate_lines(found: Estimate) -> Iterator[str]:
    """Speed, time and energy on one line of a plan, and below it where they come from."""
    rate, time = rate_text(found), time_text(found)
    if rate is None or time is None:
        yield f"{left(tr('speed'), 9)} {tr(found.basis)}"
        return
    yield f"{left(tr('speed'), 9)} {rate} · {time}"
    yield "    " + tr("estimate: {basis}", basis=tr(found.basis))


def rate_text(found: Estimate) -> str | None:
    """`57 to 110 samples/s`; None without a rate."""
    if found.samples_per_second is None:
        return None
    slowest, fastest = found.samples_per_second
    return tr("{low} to {high} samples/s", low=rough(slowest), high=rough(fastest))


def time_text(found: Estimate, *, brief: bool = False) -> str | None:
    """`10M samples ≈ 36 h (26 to 49) · 34 kWh`, or briefly `10M ≈ 36 h · 34 kWh`; None without a rate."""
    if found.samples_per_second is None or found.middle is None:
        return None
    middle = found.samples / found.middle
    unit, seconds = next((unit for unit in UNITS if middle < 100 * unit[1]), UNITS[-1])
    most, least = (rough(found.samples / rate / seconds) for rate in found.samples_per_second)
    energy, cost = found.kwh(found.middle), found.cost(found.middle)
    words = [
        tr("{count} ≈ {time} {unit}", count=count_text(found.samples), time=rough(middle / seconds), unit=tr(unit))
        if brief
        else tr(
            "{count} samples ≈ {time} {unit} ({low} to {high})",
            count=count_text(found.samples),
            time=rough(middle / seconds),
            unit=tr(unit),
            low=least,
            high=most,
        ),
        f"{rough(energy or 0.0)} kWh",
    ]
    return " · ".join(words if cost is None else [*words, tr("costs {money}", money=rough(cost))])


def rough(value: float) -> str:
    """Two significant digits: an estimate knows no more."""
    digits = 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{round(value, digits):,.{max(0, digits)}f}"


def count_text(number: int) -> str:
    """`10M` for whole millions, else `38,400`."""
    return f"{number // 10**6:,}M" if number % 10**6 == 0 else f"{number:,}"
