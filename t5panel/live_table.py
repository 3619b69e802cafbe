"""What a run does right now as tables on a terminal: its speed, a row per card and per rank, what is safe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from t5panel.cells import left
from t5panel.contract.records import Sample
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.plan.machine import GIB
from t5panel.render.figures import figure_words, time_words
from t5panel.render.values import NEARLY_FULL, loss_text, mib

BAR_CELLS = 20


def live_tables(snapshot: Snapshot) -> Group:
    """Speed and where the time goes; each card; memory of each rank and of the host; what was evaluated and saved.

    Nothing of an ended run.
    """
    if not snapshot.state.alive:
        return Group()
    sample = snapshot.sample
    readings = () if sample is None else (*([_cards(sample)] if sample.cards else []), _memory(sample))
    return Group(_lines(speed_lines(snapshot)), *readings, _lines(safe_lines(snapshot)))


def speed_lines(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """How fast it is and where the time of a step goes; nothing before the first step and while it is paused."""
    if snapshot.last is None or snapshot.state.phase == "paused":
        return
    yield tr("speed"), " · ".join(figure_words(snapshot))
    if snapshot.time_shares is not None:
        yield tr("time"), " · ".join(time_words(snapshot.time_shares))


def safe_lines(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """The last evaluation and the last checkpoint."""
    if snapshot.evaluations:
        done = snapshot.evaluations[-1]
        chrf = f" · chrF {done.chrf:.1f}" if done.chrf is not None else ""
        yield tr("eval"), f"{tr('loss')} {loss_text(done.eval_loss)}{chrf} · {tr('step')} {done.step:,}"
    if snapshot.checkpoint is not None:
        yield tr("saved"), tr("checkpoint of step {step:,}", step=snapshot.checkpoint.step)


def _lines(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, text in rows:
        table.add_row("  " + left(name, 6), text)
    return table


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
