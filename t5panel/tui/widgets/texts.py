"""The texts of a run: the end of a log, how it ended, what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive

from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.render.faults import alert_text, fault_lines
from t5panel.render.run import result_line, result_rows
from t5panel.render.state import change_texts, recovery_texts
from t5panel.render.values import plain_text
from t5panel.tui.parts import Part
from t5panel.tui.view import RunView
from t5panel.tui.widgets.steady import SteadyText, entitle


class TextPane(VerticalScroll, can_focus=False):
    """A titled text about a run; each kind says what it shows."""

    view: reactive[RunView | None] = reactive(None, repaint=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = SteadyText()

    def compose(self) -> ComposeResult:
        """One text."""
        yield self._text

    def say(self, content: Content) -> None:
        """Show this text."""
        self._text.show(content)


class LogPane(TextPane):
    """The end of one log."""

    def watch_view(self) -> None:
        """Show the newest lines."""
        self._show()

    def on_resize(self) -> None:
        """Show as many as there is room for."""
        self._show()

    def _show(self) -> None:
        """Only what fits, so that nothing is scrolled: a scrolled pane is painted twice."""
        if self.view is None:
            return
        entitle(self, tr("Log of {name}", name=tr(self.view.log_name)))
        lines = list(map(Content, self.view.log_lines)) or [Content(tr("empty so far")).stylize("$quiet")]
        self.say(Content("\n").join(fitting(lines, *self.size)))


def fitting(lines: Sequence[Content], width: int, height: int) -> Sequence[Content]:
    """The last rows of lines, folded, that fit into so many cells and rows; the lines as they are without a size."""
    if not width:
        return lines
    rows: list[Content] = []
    for line in reversed(lines):
        rows = [*line.wrap(width), *rows]
        if len(rows) >= height:
            break
    return rows[-height:]


class EndingPane(TextPane):
    """What a run came to; hidden while it lives."""

    def watch_view(self, view: RunView | None) -> None:
        """Show the summary, or what went wrong."""
        self.display = view is not None and not view.snapshot.state.alive
        entitle(self, tr("Result") if view is None or view.snapshot.result is not None else tr("What next"))
        if view is not None and self.display:
            self.say(Content.assemble(*ending_parts(view)).rstrip())


class PredictionPane(TextPane):
    """Answers of the last evaluation to held-out prompts."""

    def watch_view(self, view: RunView | None) -> None:
        """Show them; nothing before the first evaluation."""
        entitle(self, tr("Predictions, p shows them whole"))
        if view is not None:
            self.say(Content.assemble(*prediction_parts(view.snapshot)).rstrip())


def ending_parts(view: RunView) -> Iterator[Part]:
    """How a run ended, and the next thing to do."""
    snapshot = view.snapshot
    for name, value in result_rows(snapshot):
        yield from ((result_line(name, ""), "$quiet"), f"{value}\n")
    for text in change_texts(snapshot.info.changes):
        yield from (("≠ ", "$accent"), f"{text}\n")
    for text in recovery_texts(snapshot.info.recoveries):
        yield from (("↻ ", "$accent"), f"{text}\n")
    for alert in snapshot.alerts:
        yield (f"{alert_text(alert)}\n", "$error" if alert.severity == "error" else "$warning")
    for line in fault_lines(view.faults):
        yield (f"{line}\n", "$error")
    if snapshot.state.phase == "finished":
        return
    if snapshot.checkpoint is not None:
        yield from (("r ", "bold $accent"), tr("resumes from step {step:,}", step=snapshot.checkpoint.step), "\n")
    else:
        yield from (("r ", "bold $accent"), tr("starts it again: it has no checkpoint"), "\n")
    if snapshot.state.phase == "failed":
        yield from (("d ", "bold $accent"), _details(snapshot), "\n")


def _details(snapshot: Snapshot) -> str:
    diagnosis = snapshot.diagnosis
    if diagnosis is None or not diagnosis.detail:
        return tr("shows what is known and where its logs are")
    if diagnosis.rank is None:
        return tr("shows what its log says and where its logs are")
    return tr("shows the traceback of rank {rank} and where its logs are", rank=diagnosis.rank)


def prediction_parts(snapshot: Snapshot) -> Iterator[Part]:
    """Prompt, answer and reference of each row, short."""
    evaluations = snapshot.evaluations
    if not evaluations or not evaluations[-1].samples:
        yield (tr("none yet: they come with an evaluation"), "$quiet")
        return
    for row in evaluations[-1].samples:
        yield from ((_short(row.prompt) + "\n", "$quiet"), ("→ ", "$accent"), _short(row.prediction) + "\n")
        yield from (("= ", "$success"), (_short(row.reference) + "\n", "$quiet"))


def _short(text: str) -> str:
    return " ".join(plain_text(text).split())
