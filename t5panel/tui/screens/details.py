"""Everything a run says about what went wrong: alerts, the diagnosis with its traceback, recoveries, the logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.monitor.vram import vram_peak
from t5panel.render.faults import SEVERITY_MARK
from t5panel.render.run import log_place, vram_text
from t5panel.render.state import headline, recovery_texts
from t5panel.render.values import moment_text, plain_text
from t5panel.tui.parts import Part


class DetailsDialog(ModalScreen[None]):
    """Shows what is known; scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,d", "close", "close")]

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot

    def compose(self) -> ComposeResult:
        """Title, all of it, keys."""
        failed = self._snapshot.state.phase == "failed"
        with Vertical(classes="dialog -large -danger" if failed else "dialog -large"):
            yield Static(tr("Why this run failed") if failed else tr("What this run reports"), classes="title")
            with VerticalScroll(classes="body"):
                yield Static(Content.assemble(*detail_parts(self._snapshot)).rstrip())
            scroll, close = f" {tr('scroll')}   ", f" {tr('close')}"
            yield Static(Content.assemble((" ↑ ↓ ", "reverse"), scroll, (" esc ", "reverse"), close))

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)


def has_details(snapshot: Snapshot) -> bool:
    """Whether there is anything to show."""
    return snapshot.state.phase == "failed" or bool(snapshot.alerts or snapshot.info.recoveries)


def detail_parts(snapshot: Snapshot) -> Iterator[Part]:
    """The reason of a failure first, then alerts, VRAM and recoveries."""
    if snapshot.state.phase == "failed":
        yield from _failure(snapshot)
    for alert in snapshot.alerts:
        style = "bold $error" if alert.severity == "error" else "bold $warning"
        yield (f"{SEVERITY_MARK[alert.severity]} {alert.name}", style)
        yield (f"  {tr('since {time}', time=moment_text(alert.time))}\n", "$quiet")
        yield f"  {tr(alert.message)}\n\n"
    peak = vram_peak(snapshot)
    if peak is not None:
        yield from ((tr("VRAM of card {index}", index=peak.card) + "\n", "$quiet"), f"{vram_text(peak)}\n\n")
    recoveries = snapshot.info.recoveries
    for recovery, text in zip(recoveries, recovery_texts(recoveries), strict=True):
        yield from ((f"↻ {tr('recovered')}", "bold $accent"), (f"  {moment_text(recovery.time)}\n", "$quiet"))
        yield f"  {text}\n"
        yield (f"  {tr(recovery.reason)}\n\n" if recovery.reason else "\n", "$quiet")


def _failure(snapshot: Snapshot) -> Iterator[Part]:
    yield (f"✗ {headline(snapshot.state)}\n", "bold $error")
    diagnosis = snapshot.diagnosis
    if diagnosis is not None and diagnosis.hint:
        yield (f"→ {tr(diagnosis.hint)}\n", "$accent")
    yield from ((f"\n{tr('log')}\n", "$quiet"), f"{log_place(snapshot)}\n\n")
    if diagnosis is not None and diagnosis.detail:
        first = tr("Rank {rank} failed first", rank=diagnosis.rank)
        whose = tr("Lines of its log") if diagnosis.rank is None else first
        yield from ((f"{whose}\n", "$quiet"), f"{plain_text(diagnosis.detail).strip(chr(10))}\n\n")
