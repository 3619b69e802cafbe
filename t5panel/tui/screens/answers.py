"""What the model answers to held-out prompts, whole, at each evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widgets import Static

from t5panel.contract.records import Evaluation
from t5panel.monitor.history import Snapshot
from t5panel.render import loss_text, plain_text
from t5panel.tui.parts import Part


class AnswersDialog(ModalScreen[None]):
    """Shows those of the newest evaluation; arrows walk to earlier ones."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "earlier"),
        Binding("right", "turn(1)", "later"),
        Binding("escape,enter,q,p", "close", "close"),
    ]
    at: reactive[int] = reactive(0)

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self._evaluations = answered(snapshot)
        self.set_reactive(AnswersDialog.at, max(0, len(self._evaluations) - 1))

    def compose(self) -> ComposeResult:
        """Title, all of it, keys."""
        with Vertical(classes="dialog -large"):
            yield Static(id="title", classes="title")
            with VerticalScroll(classes="body"):
                yield Static(id="answers")
            keys = ((" ↑ ↓ ", "reverse"), " scroll   ", (" ← → ", "reverse"), " evaluation   ", (" esc ", "reverse"))
            yield Static(Content.assemble(*keys, " close"))

    def on_mount(self) -> None:
        """Show the newest."""
        self.watch_at()

    def watch_at(self) -> None:
        """Show this one, from its beginning."""
        done = self._evaluations[self.at] if self._evaluations else None
        count = f"  ({self.at + 1} of {len(self._evaluations)})" if len(self._evaluations) > 1 else ""
        self.query_one("#title", Static).update(f"{title_of(done)}{count}")
        self.query_one("#answers", Static).update(Content.assemble(*answer_parts(done)).rstrip())
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_turn(self, by: int) -> None:
        """An earlier or a later evaluation."""
        self.at = min(max(self.at + by, 0), max(0, len(self._evaluations) - 1))

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)


def answered(snapshot: Snapshot) -> tuple[Evaluation, ...]:
    """The evaluations whose answers are there."""
    return tuple(done for done in snapshot.evaluations if done.samples)


def title_of(done: Evaluation | None) -> str:
    """Which evaluation it is and how good it was."""
    if done is None:
        return "Predictions"
    scores = [f"loss {loss_text(done.eval_loss)}", *([f"chrF {done.chrf:.1f}"] if done.chrf is not None else [])]
    return " · ".join((f"Predictions at step {done.step:,}", *scores))


def answer_parts(done: Evaluation | None) -> Iterator[Part]:
    """Prompt, answer and reference of each row, whole."""
    if done is None:
        yield ("none yet: they come with an evaluation", "$quiet")
        return
    for row in done.samples:
        yield (f"{plain_text(row.prompt)}\n", "$quiet")
        yield from (("→ ", "$accent"), f"{plain_text(row.prediction)}\n")
        yield from (("= ", "$success"), f"{plain_text(row.reference)}\n\n")
