"""What the model answers to held-out prompts, whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.contract.records import Evaluation
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.render.values import loss_text, plain_text
from t5panel.tui.parts import Part


class AnswersDialog(ModalScreen[None]):
    """Shows those of the newest evaluation; scrolls."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,p", "close", "close")]

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._done = next((done for done in reversed(snapshot.evaluations) if done.samples), None)

    def compose(self) -> ComposeResult:
        """Title, all of it, keys."""
        with Vertical(classes="dialog -large"):
            yield Static(title_of(self._done), classes="title")
            with VerticalScroll(classes="body"):
                yield Static(Content.assemble(*answer_parts(self._done)).rstrip())
            keys = ((" ↑ ↓ ", "reverse"), f" {tr('scroll')}   ", (" esc ", "reverse"), f" {tr('close')}")
            yield Static(Content.assemble(*keys))

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)


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
    for row in done.samples:
        yield (f"{plain_text(row.prompt)}\n", "$quiet")
        yield from (("→ ", "$accent"), f"{plain_text(row.prediction)}\n")
        yield from (("= ", "$success"), f"{plain_text(row.reference)}\n\n")
