"""What rank 0 said over steps: loss, learning rate, gradient norm or samples per second, all of it or a part."""

from __future__ import annotations

from functools import partial

from textual import events
from textual.reactive import reactive

from t5panel.contract.records import finite_or_none
from t5panel.language import later, tr
from t5panel.monitor.history import Snapshot
from t5panel.monitor.steps import QUANTITIES, Quantity, StepLog
from t5panel.render.values import loss_text
from t5panel.tui.view import RunView
from t5panel.tui.widgets.chart import Chart, Curve, extent, number_text, over
from t5panel.tui.widgets.plot import Plot
from t5panel.tui.widgets.steady import entitle
from t5panel.tui.widgets.zoom import Zoom, followed, panned, revealed, whole, zoomed

ZOOM_FACTOR = 0.5
PAN_SHARE = 0.25
TITLES: dict[Quantity, str] = {
    "loss": later("Loss per target token"),
    "learning_rate": later("Learning rate"),
    "grad_norm": later("Gradient norm"),
    "samples_per_second": later("Samples per second"),
}
NAMES: dict[Quantity, str] = {
    "loss": later("training"),
    "learning_rate": later("learning rate"),
    "grad_norm": later("gradient norm"),
    "samples_per_second": later("samples/s"),
}


class StepPlot(Plot):
    """One quantity over optimizer steps; of the loss also evaluations, as marks."""

    view: reactive[RunView | None] = reactive(None, repaint=False)
    log_scale: reactive[bool] = reactive(default=False, repaint=False)
    quantity: reactive[Quantity] = reactive("loss", repaint=False)
    zoom: reactive[Zoom | None] = reactive(None, repaint=False)
    """The part in view; None for all of the run."""
    cursor: reactive[int | None] = reactive(None, repaint=False)
    """The step whose values are told."""
    _held: tuple[float, Zoom] | None = None
    """Where the pointer took hold of the plot, and the part in view then."""
    _dragged = False

    def watch_view(self) -> None:
        """Draw what is new; a view of the live end moves on."""
        if self.zoom is not None and self.view is not None:
            self.set_reactive(StepPlot.zoom, followed(self.zoom, self._run))
        self._show()

    def watch_log_scale(self) -> None:
        """Draw on the other scale."""
        self._show()

    def watch_quantity(self) -> None:
        """Draw another quantity."""
        self._show()

    def watch_zoom(self) -> None:
        """Draw another part."""
        self._show()

    def watch_cursor(self) -> None:
        """Draw the cursor elsewhere."""
        self._show()

    def zoom_by(self, factor: float, at: float | None = None) -> None:
        """Show `factor` times as many steps, around the cursor or around `at`."""
        if len(self._log):
            self.zoom = zoomed(self._seen, self._run, factor, self.cursor if at is None else at)

    def move(self, direction: int) -> None:
        """The cursor to the side, or without one the part in view."""
        if self.cursor is not None:
            self._move_cursor(direction)
        elif self.zoom is not None:
            self.zoom = panned(self.zoom, self._run, direction * PAN_SHARE)

    def show_all(self) -> None:
        """All of the run."""
        self.zoom = None

    def toggle_cursor(self) -> None:
        """A cursor at the end of what is in view, or none."""
        self._set_cursor(None if self.cursor is not None else self._seen.high)

    def leave(self) -> None:
        """Take the cursor away; without one show all of the run."""
        if self.cursor is not None:
            self.cursor = None
        else:
            self.zoom = None

    def next_quantity(self) -> None:
        """Walk through loss, learning rate, gradient norm and samples per second."""
        self.quantity = QUANTITIES[(QUANTITIES.index(self.quantity) + 1) % len(QUANTITIES)]

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Nearer, at the pointer."""
        self._zoom_at(event, ZOOM_FACTOR)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Farther, at the pointer."""
        self._zoom_at(event, 1 / ZOOM_FACTOR)

    def on_click(self, event: events.Click) -> None:
        """The cursor comes to the pointer, unless the plot was dragged there."""
        if not self._dragged:
            self._set_cursor(self._pointed_at(event))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Take hold of a zoomed plot."""
        self._dragged = False
        if self.zoom is not None:
            self._held = (event.screen_x, self.zoom)
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """What is held moves with the pointer."""
        if self._held is not None:
            begin, zoom = self._held
            self._dragged = self._dragged or event.screen_x != begin
            self.zoom = panned(zoom, self._run, (begin - event.screen_x) / max(1, self.size.width))

    def on_mouse_up(self) -> None:
        """Let it go."""
        if self._held is not None:
            self._held = None
            self.release_mouse()

    def _zoom_at(self, event: events.MouseEvent, factor: float) -> None:
        at = self._pointed_at(event)
        if at is not None:
            event.stop()
            self.zoom_by(factor, at)

    def _pointed_at(self, event: events.MouseEvent) -> float | None:
        offset = event.get_content_offset(self)
        return None if offset is None else self.x_at(offset.x)

    def _move_cursor(self, direction: int) -> None:
        """By a column, at least to the next row."""
        if self.cursor is None:
            return
        column = self._seen.length / (2 * max(1, self.size.width))
        if direction < 0:
            self._set_cursor(self.cursor - max(1.0, column))
        else:
            self._set_cursor(max(self.cursor + column, self._log.after(self.cursor) or self.cursor))
        if self.zoom is not None and self.cursor is not None:
            self.zoom = revealed(self.zoom, self._run, self.cursor)

    def _set_cursor(self, step: float | None) -> None:
        """To the last row up to a step."""
        found = self._log.at(max(step, self._run.low)) if step is not None and len(self._log) else None
        self.cursor = None if found is None else found[0]

    @property
    def _log(self) -> StepLog:
        return self.view.snapshot.steps if self.view is not None else StepLog(lambda _low, _high: ())

    @property
    def _run(self) -> Zoom:
        return whole(self._log.first or 1, self._log.last or 1)

    @property
    def _seen(self) -> Zoom:
        return self.zoom or self._run

    def _show(self) -> None:
        wait = self.view.snapshot.data_wait if self.view is not None and self.quantity == "samples_per_second" else None
        waits = "" if wait is None else tr(", waits for data {share:.0%} of the time", share=wait)
        unread = self.view.snapshot.unread if self.view is not None else 0.0
        reading = tr(", {share:.0%} read", share=1 - unread) if unread else ""
        part = tr(", steps {low:,.0f}–{high:,.0f}", low=self.zoom.low, high=self.zoom.high) if self.zoom else ""
        scale = tr("log scale") if self.log_scale else tr("linear scale")
        title = tr("{title}, {scale}", title=tr(TITLES[self.quantity]), scale=scale)
        entitle(self, f"{title}{waits}{part}{reading}")
        if self.view is not None:
            self.chart = step_chart(
                self.view.snapshot, self.quantity, log=self.log_scale, zoom=self.zoom, cursor=self.cursor
            )


def step_chart(
    snapshot: Snapshot, quantity: Quantity, *, log: bool, zoom: Zoom | None = None, cursor: int | None = None
) -> Chart:
    """A quantity of a run; with the loss its evaluations when there are any."""
    steps = snapshot.steps
    curves = [Curve(tr(NAMES[quantity]), partial(steps.columns, quantity), smooth=quantity != "learning_rate")]
    done = [(one.step, one.eval_loss) for one in snapshot.evaluations if one.eval_loss is not None]
    if done and quantity == "loss":
        name = f"{tr('evaluation')} {done[-1][1]:.3f}"
        curves.append(Curve(name, over([step for step, _ in done], [loss for _, loss in done]), marks=True))
    last = max([step for step, _ in done[-1:]] + [steps.last or 1])
    return Chart(
        tuple(curves),
        x_high=zoom.high if zoom else extent(last, snapshot.max_steps),
        x_low=zoom.low if zoom else 1,
        log=log,
        empty=tr("no loss yet") if quantity == "loss" else tr("no {quantity} yet", quantity=tr(NAMES[quantity])),
        cursor=cursor,
        readout=readout(steps, quantity, cursor) if cursor is not None else "",
    )


def readout(steps: StepLog, quantity: Quantity, cursor: int) -> str:
    """The values of the row at a step."""
    found = steps.at(cursor)
    if found is None:
        return ""
    step, values = found
    words = [
        tr("step {step:,}", step=step),
        tr("loss {loss}", loss=loss_text(finite_or_none(values["loss"]))),
        f"lr {values['learning_rate']:.1e}",
    ]
    if quantity in ("grad_norm", "samples_per_second"):
        value = finite_or_none(values[quantity])
        words.append(f"{tr(NAMES[quantity])} {'—' if value is None else number_text(value)}")
    return "  ".join(words)
