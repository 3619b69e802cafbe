"""What a run holds right now: a row per card, a row per rank, the host against its limit."""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from t5panel.cells import left
from t5panel.contract.records import Card, Sample
from t5panel.language import tr
from t5panel.plan.machine import GIB
from t5panel.render.values import NEARLY_FULL, mib
from t5panel.tui.parts import Part
from t5panel.tui.view import RunView
from t5panel.tui.widgets.bars import bar
from t5panel.tui.widgets.steady import changed_rows, refresh_rows

MIB = 2**20
NAME_CELLS = 7
TEXT_CELLS = 16
VITALS_CELLS = 15


class MemoryPane(Widget):
    """Bars of the newest reading."""

    view: reactive[RunView | None] = reactive(None, repaint=False)

    def on_mount(self) -> None:
        """Name it."""
        self.border_title = tr("Memory now")

    def watch_view(self, before: RunView | None, now: RunView | None) -> None:
        """Paint the rows that changed; lay out when there are others."""
        rows = changed_rows(*(self._content(view) for view in (before, now)))
        if rows is None:
            self.refresh(layout=True)
        elif rows:
            refresh_rows(self, rows)

    def render(self) -> Content:
        """As wide as there is room."""
        return self._content(self.view)

    def _content(self, view: RunView | None) -> Content:
        sample = view.snapshot.sample if view else None
        if sample is None:
            return Content(tr("no reading yet")).stylize("$quiet")
        briefly = not self.screen.has_class("-wide")
        return Content.assemble(*memory_parts(sample, self.size.width, briefly=briefly)).rstrip()


def memory_parts(sample: Sample, width: int, *, briefly: bool) -> Iterator[Part]:
    """One line per card and rank, then the host; briefly the ranks share one, upon one another."""
    for card in sample.cards:
        yield from _line(
            tr("card {index}", index=card.index), card.used, card.total, width - VITALS_CELLS, str(card.index)
        )
        yield (f" {_vitals(card)}\n", "$quiet")
    if briefly and len(sample.ranks) > 1:
        yield from _stack(sample, width)
    for rank in sample.ranks if not briefly or len(sample.ranks) == 1 else ():
        yield from _bar(tr("rank {rank}", rank=rank.rank), rank.rss / sample.ram_limit, width, str(rank.rank))
        yield f"{mib(rank.rss):>{TEXT_CELLS - 1}}\n"
    yield from _line(tr("host"), sample.ram_used, sample.ram_limit, width, "6" if _scarce(sample) else "axis")
    yield ("\n", "")
    if _scarce(sample):
        yield (tr("! host RAM is nearly full") + "\n", "$error")


def _scarce(sample: Sample) -> bool:
    return sample.ram_used > NEARLY_FULL * sample.ram_limit


def _line(name: str, used: int, total: int, width: int, series: str) -> Iterator[Part]:
    yield from _bar(name, used / total, width, series)
    yield f" {used / GIB:>5.1f}/{total / GIB:.1f} GiB"


def _stack(sample: Sample, width: int) -> Iterator[Part]:
    """All ranks in one bar against the host's limit, and their sizes."""
    sizes = " ".join(f"{rank.rss / MIB:,.0f}" for rank in sample.ranks) + " MiB"
    cells = max(6, width - NAME_CELLS - max(TEXT_CELLS, len(sizes) + 1))
    yield left(tr("ranks"), NAME_CELLS)
    held, drawn = 0, 0
    for rank in sample.ranks:
        held += rank.rss
        end = min(cells, round(held / sample.ram_limit * cells))
        yield ("█" * (end - drawn), f"$series-{rank.rank % 7}")
        drawn = end
    yield from (("░" * (cells - drawn), "$rule"), f"{sizes:>{width - NAME_CELLS - cells}}\n")


def _bar(name: str, share: float, width: int, series: str) -> Iterator[Part]:
    full, empty = bar(share, max(6, width - NAME_CELLS - TEXT_CELLS))
    style = f"$series-{int(series) % 7}" if series.isdigit() else "$primary"
    yield from (left(name, NAME_CELLS), (full, style), (empty, "$rule"))


def _vitals(card: Card) -> str:
    """Utilisation, power, temperature; a dash where NVML does not say."""
    utilization = "  —" if card.utilization is None else f"{card.utilization:3d}"
    power = "  —" if card.power is None else f"{card.power:3.0f}"
    temperature = " —" if card.temperature is None else f"{card.temperature:2d}"
    return f"{utilization}% {power}W {temperature}°C"
