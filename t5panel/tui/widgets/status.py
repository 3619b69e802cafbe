"""The head of a run: its state, its progress and its figures on three lines."""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content
from textual.reactive import reactive

from t5panel.cells import width_of
from t5panel.contract.records import Phase
from t5panel.errors import Fault
from t5panel.language import tr
from t5panel.monitor.alerts import OTHER_RANKS
from t5panel.monitor.history import Snapshot
from t5panel.render.figures import figure_words, time_words
from t5panel.render.state import headline, pause_text, phase_word
from t5panel.render.values import duration, loss_text
from t5panel.tui.faults import fault_parts
from t5panel.tui.parts import Part
from t5panel.tui.view import RunView
from t5panel.tui.widgets.bars import rail
from t5panel.tui.widgets.steady import SteadyText

PROGRESS_CELLS = ((160, 32), (64, 16), (0, 8))
"""Of the progress line, by the cells that there are."""
PHASES: dict[Phase, tuple[str, str]] = {
    "starting": ("◌", "$accent"),
    "running": ("●", "$success"),
    "evaluating": ("●", "$success"),
    "saving": ("●", "$success"),
    "stopping": ("◌", "$warning"),
    "paused": ("‖", "$warning"),
    "finished": ("✓", "$success"),
    "failed": ("✗", "$error"),
    "stopped": ("■", "$warning"),
}
"""Sign and colour of each phase."""
LOUD: dict[Phase, str] = {"failed": "bold $error", "paused": "bold $warning"}
"""Phases whose sentence is what the user came for."""


class StatusPane(SteadyText):
    """Shows where a run stands."""

    view: reactive[RunView | None] = reactive(None, repaint=False)
    faults: reactive[tuple[Fault, ...]] = reactive((), repaint=False)

    def watch_view(self) -> None:
        """Show it."""
        self._show()

    def watch_faults(self) -> None:
        """Show why it cannot be read any more, or that it can again."""
        self._show()

    def _show(self) -> None:
        if self.faults:
            self.show(Content.assemble(*fault_parts(self.faults)).rstrip())
        elif self.view is not None:
            self.show(Content.assemble(*status_parts(self.view, self.content_size.width)))

    def on_resize(self) -> None:
        """Say as much as there is room for."""
        self._show()


def status_parts(view: RunView, width: int) -> Iterator[Part]:
    """Lines: which run in which state; how far; how fast; what it says; what helps a failed run; the user's note."""
    snapshot = view.snapshot
    info, state = snapshot.info, snapshot.state
    sign, style = PHASES[state.phase]
    yield from ((f"{sign} {tr(phase_word(state))}", f"bold {style}"), "  ", (snapshot.run.run_id, "bold"))
    yield (f"  {view.formula}", "$accent")
    if info.recoveries:
        yield ("  ↻ " + tr("{count} × recovered, see d", count=len(info.recoveries)), "$accent")
    if info.rehearsal:
        yield from ("  ", (f" {tr('REHEARSAL on the CPU')} ", "reverse $warning"))
    yield "\n"
    yield from _progress_line(snapshot, width)
    speed = " · ".join(speed_words(snapshot, width))
    if speed:
        yield f"\n{speed}"
    yield ("\n" + _last_line(snapshot), LOUD.get(state.phase, "$quiet"))
    if snapshot.diagnosis is not None and snapshot.diagnosis.hint:
        yield (f"\n→ {tr(snapshot.diagnosis.hint)}", "$accent")
    if snapshot.note:
        yield from (("\n✎ ", "$accent"), snapshot.note)


def speed_words(snapshot: Snapshot, width: int) -> list[str]:
    """How fast it trains, what that takes and where the time goes, in so many cells; nothing while it is paused."""
    if snapshot.last is None or snapshot.state.phase == "paused":
        return []
    words, shares = figure_words(snapshot), snapshot.time_shares
    times = (time_words(shares), time_words(shares, briefly=True), []) if shares is not None else ([],)
    return next(([*words, *time] for time in times if width_of(" · ".join([*words, *time])) <= width), words)


def _progress_line(snapshot: Snapshot, width: int) -> Iterator[Part]:
    last, total = snapshot.last, snapshot.max_steps
    if last is None or total is None:
        yield from _preparation(snapshot, width)
        return
    yield from _progress(last.step / total, width)
    yield from (
        f"  {tr('step')} ",
        (f"{last.step:,}/{total:,}", "bold"),
        f"  {tr('loss')} ",
        (loss_text(last.loss), "bold"),
    )
    yield from ("  lr ", (f"{last.learning_rate:.1e}", "bold"))
    if snapshot.seconds_left and snapshot.state.phase == "running":
        yield "  " + tr("{time} left", time=duration(snapshot.seconds_left))


def _last_line(snapshot: Snapshot) -> str:
    """While steps come in, what is safe and how good it is; else what the state says."""
    if snapshot.state.phase == "paused":
        kept = " · " + _checkpoint(snapshot.checkpoint.step) if snapshot.checkpoint else ""
        return pause_text(snapshot.info, snapshot.state, snapshot.taken) + kept
    if snapshot.state.phase != "running" or snapshot.last is None:
        return headline(snapshot.state)
    words = [_checkpoint(snapshot.checkpoint.step) if snapshot.checkpoint else tr("no checkpoint yet")]
    if snapshot.evaluations:
        done = snapshot.evaluations[-1]
        words.append(
            tr("evaluated at step {step:,}", step=done.step)
            + (f": chrF {done.chrf:.1f}" if done.chrf is not None else "")
        )
    return " · ".join(words)


def _checkpoint(step: int) -> str:
    return tr("checkpoint of step {step:,}", step=step)


def _preparation(snapshot: Snapshot, width: int) -> Iterator[Part]:
    progress = snapshot.state.state.progress if snapshot.state.state else None
    if progress is None or not progress.total:
        begun = next((event.time for event in reversed(snapshot.events) if event.name in OTHER_RANKS), None)
        waited = (
            f" · {duration(max(0.0, snapshot.taken - begun))}" if begun is not None and snapshot.state.alive else ""
        )
        yield (tr("no step yet") + waited, "$quiet")
        return
    yield from _progress(progress.done / progress.total, width)
    yield f"  {tr(progress.what)} {progress.done:,}/{progress.total:,}"


def _waited(snapshot: Snapshot) -> Iterator[str]:
    """For how long a living run has been on its way to a step."""
    begun = next((event.time for event in reversed(snapshot.events) if event.name in OTHER_RANKS), None)
    if begun is not None and snapshot.state.alive:
        yield duration(max(0.0, snapshot.taken - begun))


def _progress(share: float, width: int) -> Iterator[Part]:
    full, empty = rail(share, next(cells for least, cells in PROGRESS_CELLS if width >= least))
    yield from ((full, "$success"), (empty, "$rule"))
