"""Memory of a run over the last hour: RAM per rank, VRAM per card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from textual.reactive import reactive

from t5panel.contract.records import Card, Sample
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.monitor.vram import predicted_vram
from t5panel.plan.machine import GIB
from t5panel.render.values import duration
from t5panel.tui.view import RunView
from t5panel.tui.widgets.chart import Chart, Curve, Level, extent, over
from t5panel.tui.widgets.plot import Plot
from t5panel.tui.widgets.steady import entitle

MIB = 2**20
LIMIT_FROM = 0.25
"""Share of the host's limit from which it is in the picture: far below it the ranks would be one line at the bottom."""


class RamPlot(Plot):
    """Resident memory of the ranks over the last hour, one upon another, against the host's limit."""

    view: reactive[RunView | None] = reactive(None, repaint=False)

    def watch_view(self, view: RunView | None) -> None:
        """Draw what is new."""
        sample = view.snapshot.sample if view else None
        entitle(self, ram_title(sample) if sample else tr("RAM per rank"))
        if view is not None:
            self.chart = ram_chart(view.snapshot)


class VramPlot(Plot):
    """Used memory of each card over the last hour; hidden without cards."""

    view: reactive[RunView | None] = reactive(None, repaint=False)

    def watch_view(self, view: RunView | None) -> None:
        """Draw what is new."""
        sample = view.snapshot.sample if view else None
        cards = sample.cards if sample is not None else ()
        self.set_class(not cards, "-none")
        if view is not None and cards:
            entitle(self, vram_title(view.snapshot, cards))
            self.chart = vram_chart(view.snapshot)


def ram_title(sample: Sample) -> str:
    """What is plotted, and what the host has at most."""
    return tr("RAM per rank, stacked, host limit {size}", size=memory_text(sample.ram_limit))


def ram_chart(snapshot: Snapshot) -> Chart:
    """Resident bytes of each rank on those before it, over seconds since the first reading."""

    def up_to(rank: int) -> Callable[[Sample], int | None]:
        return lambda sample: sum(one.rss for one in sample.ranks if one.rank <= rank) if sample.ranks else None

    ranks = sorted({one.rank for sample in snapshot.samples for one in sample.ranks})
    series = {tr("rank {rank}", rank=rank): up_to(rank) for rank in ranks}
    chart = _over_time(snapshot, series, tr("no rank has been seen yet"))
    most = max((sum(one.rss for one in sample.ranks) for sample in snapshot.samples), default=0)
    limit = snapshot.sample.ram_limit if snapshot.sample is not None else 0
    levels = (Level(limit),) if most > LIMIT_FROM * limit else ()
    return replace(chart, levels=levels, stacked=True, y_unit=_unit([limit] if levels else [most]))


def vram_chart(snapshot: Snapshot) -> Chart:
    """Used bytes per card over seconds since the first reading."""

    def of_card(index: int) -> Callable[[Sample], int | None]:
        return lambda sample: next((card.used for card in sample.cards if card.index == index), None)

    cards = sorted({card.index for sample in snapshot.samples for card in sample.cards})
    series = {tr("card {index}", index=index): of_card(index) for index in cards}
    limits = sorted({card.total for card in snapshot.sample.cards}) if snapshot.sample is not None else []
    levels = (*predicted_levels(snapshot, cards), *map(Level, limits))
    chart = _over_time(snapshot, series, tr("no card has been seen yet"))
    return replace(chart, levels=levels, y_unit=_unit(limits))


def predicted_levels(snapshot: Snapshot, cards: Sequence[int]) -> tuple[Level, ...]:
    """The peak that the plan predicts for each of these cards, by NVML; one line where it is the same for all."""
    peaks = predicted_peaks(snapshot, cards)
    if len(set(peaks.values())) == 1:
        return (Level(next(iter(peaks.values()))),)
    return tuple(Level(peak, str(cards.index(index))) for index, peak in peaks.items())


def predicted_peaks(snapshot: Snapshot, cards: Sequence[int]) -> dict[int, int]:
    """What NVML should say of these cards at most, by the plan: bytes by index; none of a card without prediction."""
    return {one.index: one.reserved + one.context for one in predicted_vram(snapshot.info) if one.index in cards}


def vram_title(snapshot: Snapshot, cards: Sequence[Card]) -> str:
    """What is plotted, what is predicted, and what the cards hold at most."""
    peaks = predicted_peaks(snapshot, [card.index for card in cards])
    limit = _sizes(card.total for card in cards)
    if not peaks:
        return tr("VRAM per card, limit {limit}", limit=limit)
    return tr("VRAM ┄ predicted {peak}, limit {limit}", peak=_sizes(peaks.values()), limit=limit)


def _sizes(sizes: Iterable[int]) -> str:
    return ", ".join(memory_text(size) for size in sorted(set(sizes)))


def memory_text(size: float) -> str:
    """Bytes as an axis shows them."""
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def _unit(limits: Sequence[float]) -> float:
    """Of whose round multiples an axis up to these has its ticks."""
    return GIB if max(limits, default=0) >= 2 * GIB else MIB


def _over_time(snapshot: Snapshot, series: dict[str, Callable[[Sample], int | None]], empty: str) -> Chart:
    begin = snapshot.samples[0].time if snapshot.samples else 0.0
    times = [sample.time - begin for sample in snapshot.samples]
    curves = tuple(
        Curve(name, over(times, list(map(_or_nan, map(read, snapshot.samples))))) for name, read in series.items()
    )
    high = float(extent(int(times[-1]) + 1, None)) if times else 1.0
    return Chart(
        curves,
        x_high=high,
        from_zero=True,
        x_text=duration,
        y_text=memory_text,
        empty=empty,
    )


def _or_nan(value: Any) -> float:  # noqa: ANN401
    return float("nan") if value is None else float(value)
