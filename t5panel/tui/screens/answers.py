"""What the model answers to held-out prompts, whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.contract.records import Evaluation
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.render.values import loss_text, plain_text
from t5panel.tui.parts import Part


class Reread(Message):
    """An evaluation with its answers; None when it cannot be read any more."""

    def __init__(self, done: Evaluation | None) -> None:
        super().__init__()
        self.done = done


class AnswersDialog(ModalScreen[None]):
    """Shows those of the newest evaluation, and on demand of earlier ones to the same prompts; scrolls."""

    # Before the text, which would scroll to the side.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "earlier", key_display="←", priority=True),
        Binding("right", "turn(1)", "later", key_display="→", priority=True),
        Binding("escape,enter,q,p", "close", "close"),
    ]

    at: reactive[int] = reactive(-1)
    """Which of the evaluations is shown; -1 without any."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._snapshot = snapshot
        self._steps = [done.step for done in snapshot.evaluations]
        self.set_reactive(AnswersDialog.at, len(self._steps) - 1)

    def compose(self) -> ComposeResult:
        """Title, all of it, keys."""
        newest = self._snapshot.evaluations[-1] if self._snapshot.evaluations else None
        with Vertical(classes="dialog -large"):
            yield Static(self._title(newest), classes="title", id="which")
            with VerticalScroll(classes="body"):
                yield Static(Content.assemble(*answer_parts(newest)).rstrip(), id="answers")
            keys: list[Part] = [(" ↑ ↓ ", "reverse"), f" {tr('scroll')}   "]
            if len(self._steps) > 1:
                keys += [(" ← → ", "reverse"), f" {tr('earlier, later evaluations')}   "]
            yield Static(Content.assemble(*keys, (" esc ", "reverse"), f" {tr('close')}"))

    def action_turn(self, by: int) -> None:
        """To the next evaluation or the one before; the last stays the last."""
        self.at = min(max(self.at + by, 0), len(self._steps) - 1)

    def watch_at(self, at: int) -> None:
        """Read it."""
        if self.is_mounted:
            self._read(self._steps[at])

    @work(thread=True, group="answers", exclusive=True)
    def _read(self, step: int) -> None:
        self.post_message(Reread(self._snapshot.evaluation_at(step)))

    def on_reread(self, event: Reread) -> None:
        """Show it where the one before was scrolled to: the prompts are the same."""
        done = event.done if event.done is not None else self._snapshot.evaluations[self.at]
        if done.step == self._steps[self.at]:
            self.query_one("#which", Static).update(self._title(done))
            self.query_one("#answers", Static).update(Content.assemble(*answer_parts(done)).rstrip())

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)

    def _title(self, done: Evaluation | None) -> str:
        words = title_of(done)
        count = len(self._steps)
        return words if count < 2 else f"{words} · {tr('{number} of {count}', number=self.at + 1, count=count)}"


def title_of(done: Evaluation | None) -> str:
    """Which evaluation it is and how good it was."""
    if done is None:
        return tr("Predictions")
    words = [tr("Predictions at step {step:,}", step=done.step), f"{tr('loss')} {loss_text(done.eval_loss)}"]
    return " · ".join(words if done.chrf is None else [*words, f"chrF {done.chrf:.1f}"])


def answer_parts(done: Evaluation | None) -> Iterator[Part]:
    """Prompt, answer and reference of each row, whole."""
    if done is None:
        yield (tr("none yet: they come with an evaluation"), "$quiet")
        return
    if not done.samples:
        yield (tr("none in this evaluation"), "$quiet")
    for row in done.samples:
        yield (f"{plain_text(row.prompt)}\n", "$quiet")
        yield from (("→ ", "$accent"), f"{plain_text(row.prediction)}\n")
        yield from (("= ", "$success"), f"{plain_text(row.reference)}\n\n")
