"""What a run holds right now as tables on a terminal: a row per card, a row per rank, the host."""

from __future__ import annotations

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from t5panel.cells import left
from t5panel.contract.records import Sample
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.plan.machine import GIB
from t5panel.render import NEARLY_FULL, mib

BAR_CELLS = 20


def live_tables(snapshot: Snapshot) -> Group:
    """Memory, use, power and heat of each card; memory of each rank and of the host. Nothing before a reading."""
    sample = snapshot.sample
    if sample is None or not snapshot.state.alive:
        return Group()
    tables = [_memory(sample)] if not sample.cards else [_cards(sample), _memory(sample)]
    return Group(*tables)


def _cards(sample: Sample) -> Table:
    table = Table.grid(padding=(0, 2))
    for card in sample.cards:
        table.add_row(
            "  " + tr("card {index}", index=card.index),
            _bar(card.used, card.total),
            f"{card.used / GIB:.1f}/{card.total / GIB:.1f} GiB",
            _known(card.utilization, "%"),
            _known(card.power, "W"),
            _known(card.temperature, "°C"),
            Text(", ".join(card.throttle), "yellow"),
        )
    return table


def _memory(sample: Sample) -> Table:
    table = Table.grid(padding=(0, 2))
    for rank in sample.ranks:
        table.add_row("  " + tr("rank {rank}", rank=rank.rank), _bar(rank.rss, sample.ram_limit), mib(rank.rss))
    used, limit = sample.ram_used, sample.ram_limit
    table.add_row(f"  {left(tr('host'), 6)}", _bar(used, limit), f"{used / GIB:.1f}/{limit / GIB:.1f} GiB")
    return table


def _bar(used: int, total: int) -> ProgressBar:
    style = "red" if used > NEARLY_FULL * total else "cyan"
    return ProgressBar(total=total, completed=used, width=BAR_CELLS, complete_style=style, finished_style=style)


def _known(value: float | None, unit: str) -> str:
    """A figure with its unit; a dash where NVML does not say."""
    return f"— {unit}" if value is None else f"{value:.0f} {unit}"
