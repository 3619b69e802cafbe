"""Compare: the loss of several runs in one plot, the settings that differ, what each run measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal, get_args

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.screen import Screen
from textual.widgets import Static

from t5panel.contract.layout import RunDir
from t5panel.errors import Fault
from t5panel.language import later, tr
from t5panel.monitor.compare import Comparison, Reading, compare, priced, read_run
from t5panel.render.compare import comparison_lines, sections, title_text
from t5panel.render.values import duration
from t5panel.tui.faults import UNREADABLE, fault_parts, reading_faults
from t5panel.tui.parts import Part
from t5panel.tui.screens.price import PriceDialog
from t5panel.tui.widgets.chart import Chart, Curve, number_text
from t5panel.tui.widgets.key_bar import KeyBar
from t5panel.tui.widgets.plot import Plot

Axis = Literal["step", "samples", "training time"]
AXES: tuple[Axis, ...] = get_args(Axis)
AXIS_WORDS: dict[Axis, str] = {
    "step": later("step"),
    "samples": later("samples"),
    "training time": later("training time"),
}


class Compared(Message):
    """The runs as their files tell of them, and why others cannot be read."""

    def __init__(self, readings: tuple[Reading, ...], faults: tuple[Fault, ...]) -> None:
        super().__init__()
        self.readings, self.faults = readings, faults


class ReadSoFar(Message):
    """How much of a run is read."""

    def __init__(self, run_id: str, percent: int) -> None:
        super().__init__()
        self.run_id, self.percent = run_id, percent


class CompareScreen(Screen[None]):
    """Looks once; covers the list it was opened from, whose marks stay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "axis", "axis", tooltip="Loss by step, by samples or by training time"),
        Binding("l", "scale", "scale", tooltip="Logarithmic or linear loss axis"),
        Binding("e", "price", "price", tooltip="What a kWh costs, to tell what the samples cost"),
        Binding("p", "plot", "plot", tooltip="Show or hide the plot"),
        Binding("escape,q", "close", "back", key_display="esc", tooltip="Back to the runs"),
    ]

    axis: reactive[Axis] = reactive[Axis]("step")
    log_scale: reactive[bool] = reactive(default=False)
    readings: reactive[tuple[Reading, ...]] = reactive(())
    faults: reactive[tuple[Fault, ...]] = reactive(())

    def __init__(self, runs: Sequence[RunDir]) -> None:
        super().__init__()
        self._runs = tuple(runs)
        self._price: float | None = None

    def compose(self) -> ComposeResult:
        """The plot above the table."""
        plot = Plot(id="losses")
        plot.add_class("section")
        yield plot
        with VerticalScroll(id="figures", classes="section") as figures:
            figures.border_title = tr("Figures")
            many, one = tr("reading {count} runs…", count=len(self._runs)), tr("reading the run…")
            yield Static(many if len(self._runs) > 1 else one, id="table")
        yield KeyBar()

    def on_mount(self) -> None:
        """Read them: a run of weeks takes seconds."""
        self.query_one("#figures").focus()
        self._title()
        self._read()

    @work(thread=True, group="compare")
    def _read(self) -> None:
        readings: list[Reading] = []
        faults: list[Fault] = []
        for run in self._runs:
            try:
                readings.append(read_run(run, tell=self._teller(run)))
            except UNREADABLE as error:
                faults += reading_faults(run, error)
        self.post_message(Compared(tuple(readings), tuple(faults)))

    def _teller(self, run: RunDir) -> Callable[[float], None]:
        """Tells each percent of a run once: the first reading of one of weeks takes half a minute."""
        told = 100

        def tell(share: float) -> None:
            nonlocal told
            percent = int(100 * share)
            if percent != told:
                told = percent
                self.post_message(ReadSoFar(run.run_id, percent))

        return tell

    def on_read_so_far(self, event: ReadSoFar) -> None:
        """Say it, until there is something to show."""
        if not self.readings:
            text = tr("reading {run}: {percent} %", run=event.run_id, percent=event.percent)
            self.query_one("#table", Static).update(text)

    def on_compared(self, event: Compared) -> None:
        """Show them."""
        self.readings, self.faults = event.readings, event.faults
        self._draw()
        self._tell()

    def on_resize(self) -> None:
        """Fold the table anew."""
        self.call_after_refresh(self._tell)

    def watch_axis(self) -> None:
        """Draw over the other axis."""
        self._draw()

    def watch_log_scale(self) -> None:
        """Draw on the other scale."""
        self._draw()

    def action_axis(self) -> None:
        """The next axis."""
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]

    def action_scale(self) -> None:
        """The other scale."""
        self.log_scale = not self.log_scale

    def action_plot(self) -> None:
        """All room for the table, or the plot again."""
        self.toggle_class("-figures")

    def action_price(self) -> None:
        """Ask for it."""
        self.app.push_screen(PriceDialog(), self._take_price)

    def _take_price(self, price: float | None) -> None:
        if price is not None:
            self._price = price
            self.readings = tuple(priced(reading, price) for reading in self.readings)
            self._tell()

    def action_close(self) -> None:
        """Back to the runs."""
        self.dismiss(None)

    def _title(self) -> None:
        scale = tr("log scale") if self.log_scale else tr("linear scale")
        title = tr("Loss per target token by {axis}, {scale}", axis=tr(AXIS_WORDS[self.axis]), scale=scale)
        self.query_one(Plot).border_title = title

    def _draw(self) -> None:
        if self.readings:
            self._title()
            self.query_one(Plot).chart = loss_chart(self.readings, self.axis, log=self.log_scale)

    def _tell(self) -> None:
        if not self.readings and not self.faults:
            return
        table = self.query_one("#table", Static)
        parts: list[Part] = list(fault_parts(self.faults))
        if self.readings:
            parts += table_parts(compare(self.readings, price=self._price), table.size.width)
        table.update(Content.assemble(*parts))


def loss_chart(readings: Sequence[Reading], axis: Axis, *, log: bool) -> Chart:
    """The losses of runs over one axis; a run without steps has no line."""
    lines = [(f"{number} {one.figures.preset}", _along(one, axis), one) for number, one in enumerate(readings, 1)]
    curves = tuple(Curve(name, partial(one.curve.columns, along), smooth=True) for name, along, one in lines)
    last = max((float(along[-1]) for _, along, _ in lines if len(along)), default=1.0)
    text = duration if axis == "training time" else number_text
    return Chart(curves, x_high=max(last, 1.0), log=log, x_text=text, empty=tr("no loss yet"))


def _along(one: Reading, axis: Axis) -> Sequence[float]:
    """Where each loss of a run stands."""
    match axis:
        case "step":
            return one.curve.steps
        case "samples":
            rows = one.figures.setup.effective_batch or 0
            return [step * rows for step in one.curve.steps]
        case "training time":
            return one.curve.seconds


def table_parts(found: Comparison, width: int) -> Iterator[Part]:
    """The table of the command, its titles in colour."""
    titles = {title_text(part) for part in sections(found)}
    for line in comparison_lines(found, width=width, numbered=True):
        yield (f"{line}\n", "$primary" if line in titles else "")
