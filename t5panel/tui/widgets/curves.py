"""The plots of a run: loss, RAM per rank, VRAM per card."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from textual.reactive import reactive

from t5panel.contract.records import Sample
from t5panel.monitor.history import Snapshot
from t5panel.plan.machine import GIB
from t5panel.render import duration
from t5panel.tui.view import RunView
from t5panel.tui.widgets.chart import Chart, Curve
from t5panel.tui.widgets.plot import Plot

MIB = 2**20
QUANTA = 8
"""The x axis grows in eighths of its power of two, so that it stands still on most refreshes."""


class LossPlot(Plot):
    """Loss over optimizer steps, evaluations as marks."""

    view: reactive[RunView | None] = reactive(None)
    log_scale: reactive[bool] = reactive(default=False)

    def watch_view(self) -> None:
        """Draw what is new."""
        self._show()

    def watch_log_scale(self) -> None:
        """Draw on the other scale."""
        self._show()

    def _show(self) -> None:
        self.border_title = f"Loss per target token, {'log' if self.log_scale else 'linear'} scale"
        if self.view is not None:
            self.chart = loss_chart(self.view.snapshot, log=self.log_scale)


class RamPlot(Plot):
    """Resident memory of each rank over the last hour."""

    view: reactive[RunView | None] = reactive(None)

    def watch_view(self, view: RunView | None) -> None:
        """Draw what is new."""
        sample = view.snapshot.sample if view else None
        self.border_title = f"RAM per rank, host limit {memory_text(sample.ram_limit)}" if sample else "RAM per rank"
        if view is not None:
            self.chart = ram_chart(view.snapshot)


class VramPlot(Plot):
    """Used memory of each card over the last hour; hidden without cards."""

    view: reactive[RunView | None] = reactive(None)

    def watch_view(self, view: RunView | None) -> None:
        """Draw what is new."""
        self.border_title = "VRAM per card"
        sample = view.snapshot.sample if view else None
        has_cards = sample is not None and bool(sample.cards)
        self.set_class(not has_cards, "-none")
        if view is not None and has_cards:
            self.chart = vram_chart(view.snapshot)


def loss_chart(snapshot: Snapshot, *, log: bool) -> Chart:
    """The loss of a run, and its evaluations when there are any."""
    steps, values = snapshot.loss.steps, snapshot.loss.values
    done = [(one.step, one.eval_loss) for one in snapshot.evaluations if one.eval_loss is not None]
    curves = [Curve("training", steps, values, smooth=True)]
    if done:
        name = f"evaluation {done[-1][1]:.3f}"
        curves.append(Curve(name, [step for step, _ in done], [loss for _, loss in done], marks=True))
    last = max([step for step, _ in done[-1:]] + [steps[-1] if steps else 1])
    return Chart(tuple(curves), x_high=extent(last, snapshot.max_steps), x_low=1, log=log, empty="no loss yet")


def ram_chart(snapshot: Snapshot) -> Chart:
    """Resident bytes per rank over seconds since the first reading."""

    def of_rank(rank: int) -> Callable[[Sample], int | None]:
        return lambda sample: next((one.rss for one in sample.ranks if one.rank == rank), None)

    ranks = sorted({one.rank for sample in snapshot.samples for one in sample.ranks})
    return _over_time(snapshot, {f"rank {rank}": of_rank(rank) for rank in ranks}, "no rank has been seen yet")


def vram_chart(snapshot: Snapshot) -> Chart:
    """Used bytes per card over seconds since the first reading."""

    def of_card(index: int) -> Callable[[Sample], int | None]:
        return lambda sample: next((card.used for card in sample.cards if card.index == index), None)

    cards = sorted({card.index for sample in snapshot.samples for card in sample.cards})
    return _over_time(snapshot, {f"card {index}": of_card(index) for index in cards}, "no card has been seen yet")


def extent(last: int, limit: int | None) -> int:
    """The end of an x axis that holds `last`, never past `limit`."""
    quantum = max(1, (1 << (max(last, 1).bit_length() - 1)) // QUANTA)
    rounded = max(2, -(-last // quantum) * quantum)
    return rounded if limit is None else max(2, last, min(rounded, limit))


def memory_text(size: float) -> str:
    """Bytes as an axis shows them."""
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def _over_time(snapshot: Snapshot, series: dict[str, Callable[[Sample], int | None]], empty: str) -> Chart:
    begin = snapshot.samples[0].time if snapshot.samples else 0.0
    times = [sample.time - begin for sample in snapshot.samples]
    curves = tuple(
        Curve(name, times, [_or_nan(read(sample)) for sample in snapshot.samples]) for name, read in series.items()
    )
    top = max((value for curve in curves for value in curve.values if not math.isnan(value)), default=0.0)
    high = float(extent(int(times[-1]) + 1, None)) if times else 1.0
    return Chart(
        curves,
        x_high=high,
        from_zero=True,
        x_text=duration,
        y_text=memory_text,
        y_unit=GIB if top >= 2 * GIB else MIB,
        empty=empty,
    )


def _or_nan(value: Any) -> float:  # noqa: ANN401
    return float("nan") if value is None else float(value)
