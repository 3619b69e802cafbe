"""Numbers → rows of text: a plot in braille dots with axes. Knows no widget and no terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from t5panel.cells import cut, left, right, width_of
from t5panel.language import tr
from t5panel.monitor.steps import Column, column_edges, filled, raw_columns
from t5panel.tui.widgets.canvas import MARK, Canvas, Row, Scale, Span, is_drawn, line_sign

Source = Callable[[float, float, int], Sequence[Column]]
"""Gives the columns of a curve from one x to another, so many of them."""

SMOOTH_FROM = 40
"""Columns from which a smoothed line is worth drawing over the raw one."""
SMOOTH_SHARE = 20
WIDEST_GAP = 4
"""Columns without a value that an area goes over: fewer readings than columns are no break."""
TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
QUANTA = 8
"""The x axis grows in eighths of its power of two, so that it stands still on most refreshes."""


def number_text(value: float) -> str:
    """A number as an axis shows it: four digits at most, `k` and `M` from ten thousand and a million on."""
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e6 if letter == 'M' else 1e3):.4g}{letter}"
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Curve:
    """One series; `marks` draws single points instead of a line."""

    name: str
    source: Source
    marks: bool = False
    smooth: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A value that stays, as a dotted line in the colour of a series, or of the axis."""

    value: float
    owner: str = "axis"


@dataclass(frozen=True, slots=True)
class Chart:
    """What a plot shows: curves, the x range, and how its axes are written. Ticks are round multiples of `y_unit`."""

    curves: tuple[Curve, ...]
    x_high: float
    x_low: float = 0.0
    log: bool = False
    from_zero: bool = False
    stacked: bool = False
    """Whether each curve is the sum of itself and those before it, and the room below it is filled."""
    y_unit: float = 1.0
    x_text: Callable[[float], str] = number_text
    y_text: Callable[[float], str] = number_text
    empty: str = ""
    levels: tuple[Level, ...] = ()
    cursor: float | None = None
    """Where a vertical line stands, on the x axis."""
    readout: str = ""
    """What is to say of the place of the cursor."""


def draw(chart: Chart, width: int, height: int) -> tuple[Row, ...]:
    """The chart in `height` rows of `width` cells: a legend, the plot, the x axis."""
    plot_height = height - 2
    columns = [curve.source(chart.x_low, chart.x_high, 2 * max(1, width)) for curve in chart.curves]
    span = _value_span(columns, chart)
    if span is None or width < 16 or plot_height < 2:
        return _blank(chart.empty, width, height)
    ticks = _ticks(*span, max(2, plot_height // 3), chart)
    labels = [chart.y_text(tick) for tick in ticks]
    gutter = max(map(width_of, labels), default=0) + 1
    canvas = Canvas(width - gutter - 1, plot_height)
    scale = Scale(*span, plot_height * 4, chart.log)
    smooth = _paint(canvas, chart, [squeezed(series, width, canvas.width) for series in columns], scale)
    at = {scale.row(tick) >> 2: label for tick, label in zip(ticks, labels, strict=True)}
    rows = [_y_row(at.get(y), gutter, canvas, y) for y in range(plot_height)]
    return (_legend(chart, width, smooth), *rows, _x_row(chart, gutter, width))


def over(steps: Sequence[float], values: Sequence[float]) -> Source:
    """The columns of values in memory; NaN leaves a gap. Costs one pass over what is in view."""
    return lambda low, high, count: filled(raw_columns(steps, values, column_edges(low, high, count)))


def x_at(rows: Sequence[Row], chart: Chart, cell: int) -> float | None:
    """The x that a cell of a drawn chart stands for; None left of the plot or where there is none."""
    axis, *plot = rows[1] if len(rows) > 1 else ((("", "axis"),))
    size, at = sum(len(text) for text, _ in plot), cell - width_of(axis[0])
    if not plot or not 0 <= at < size:
        return None
    return chart.x_low + (chart.x_high - chart.x_low) * (2 * at + 0.5) / max(1, 2 * size - 1)


def extent(last: int, limit: int | None) -> int:
    """The end of an x axis that holds `last`, never past `limit`."""
    quantum = max(1, (1 << (max(last, 1).bit_length() - 1)) // QUANTA)
    rounded = max(2, -(-last // quantum) * quantum)
    return rounded if limit is None else max(2, last, min(rounded, limit))


def squeezed(columns: Sequence[Column], cells: int, fewer: int) -> list[Column]:
    """The columns of a plot of `cells` cells on one of `fewer`: the values are read once, however many they are."""
    share = (2 * fewer - 1) / max(1, 2 * cells - 1)
    found: dict[int, Column] = {}
    for column, low, high in columns:
        at = round(column * share)
        _, least, greatest = found.get(at, (at, low, high))
        found[at] = (at, min(low, least), max(high, greatest))
    return list(found.values())


def smoothed(columns: Sequence[Column]) -> list[Column]:
    """The middle of each column, as an exponential mean over a twentieth of them."""
    share = 2 / (1 + max(1, len(columns) / SMOOTH_SHARE))
    mean = (columns[0][1] + columns[0][2]) / 2
    found = []
    for column, low, high in columns:
        mean += share * ((low + high) / 2 - mean)
        found.append((column, mean, mean))
    return found


def nice_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """About `count` round numbers that enclose low and high, in steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        pad = abs(low) * 0.05 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((size * power for size in TICK_STEPS if raw <= size * power * 1.000001), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(number * step for number in range(first, last + 1))


def log_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Round numbers between low and high: 1, 2 and 5 times powers of ten, fewer when there is no room."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = tuple(tick for power in powers for factor in factors if low <= (tick := factor * 10.0**power) <= high)
        if len(ticks) <= count + 1:
            break
    if len(ticks) >= 2:
        return ticks
    return tuple(tick for tick in nice_ticks(low, high, count) if low <= tick <= high)


def _ticks(low: float, high: float, count: int, chart: Chart) -> tuple[float, ...]:
    unit = chart.y_unit
    ticks = log_ticks(low, high, count) if chart.log else nice_ticks(low / unit, high / unit, count)
    ticks = ticks if chart.log else tuple(tick * unit for tick in ticks)
    return tuple(tick for tick in ticks if low <= tick <= high)


def _value_span(columns: Sequence[Sequence[Column]], chart: Chart) -> tuple[float, float] | None:
    """Least and greatest value to show; None when there is none."""
    shown = [value for series in columns for _, low, high in series for value in (low, high)]
    if shown:
        shown += [level.value for level in chart.levels]
    if chart.log:
        shown = [value for value in shown if value > 0]
    if not shown:
        return None
    low, high = min(shown), max(shown)
    if chart.from_zero and not chart.log:
        low = min(0.0, low)
    if high <= low:
        return (
            (low / 1.1, high * 1.1) if chart.log else (low - (abs(low) * 0.05 or 0.5), high + (abs(low) * 0.05 or 0.5))
        )
    return low, high


def _paint(canvas: Canvas, chart: Chart, series: Sequence[Sequence[Column]], scale: Scale) -> float | None:
    """Cursor and levels, lines over them, marks over all; gives the smoothed value under the cursor."""
    x = _cursor_column(chart, canvas.width)
    if x is not None:
        canvas.vertical(x, 0, scale.rows - 1, "axis")
    for level in chart.levels:
        canvas.dotted(scale.row(level.value), level.owner)
    if chart.stacked:
        _fill(canvas, series, scale)
        return None
    found = None
    alone = sum(not curve.marks for curve in chart.curves) == 1  # the bands of several would hide their lines
    for number, curve in sorted(enumerate(chart.curves), key=lambda item: item[1].marks):
        columns = series[number]
        if curve.marks:
            for column, _, high in columns:
                canvas.mark(column, scale.row(high), str(number))
        elif curve.smooth and len(columns) >= SMOOTH_FROM:
            middle = smoothed(columns)
            if alone:
                _line(canvas, columns, scale, "faint")
                found = next((value for column, value, _ in reversed(middle) if x is not None and column <= x), None)
            _line(canvas, middle, scale, str(number), dash=number)
        else:
            _line(canvas, columns, scale, str(number), dash=number)
    return found


def _fill(canvas: Canvas, series: Sequence[Sequence[Column]], scale: Scale) -> None:
    """Areas one upon another: the highest first, so that each is seen above the one before it."""
    for number, columns in reversed(list(enumerate(series))):
        before = None
        for x, _, high in columns:
            begin = x if before is None or x - before > WIDEST_GAP else before + 1
            for column in range(begin, x + 1):
                canvas.vertical(column, scale.row(high), scale.rows - 1, str(number))
            before = x


def _cursor_column(chart: Chart, width: int) -> int | None:
    if chart.cursor is None or not chart.x_low <= chart.cursor <= chart.x_high:
        return None
    return round((chart.cursor - chart.x_low) / ((chart.x_high - chart.x_low) or 1) * (2 * width - 1))


def _line(canvas: Canvas, columns: Sequence[Column], scale: Scale, owner: str, *, dash: int = 0) -> None:
    """Each column's run of values, joined to the one before; with the gaps of its dash."""
    before: tuple[int, int] | None = None
    for x, low, high in columns:
        top, bottom = scale.row(high), scale.row(low)
        here = (x, (top + bottom) // 2)
        if before is not None and before[0] == x - 1:
            top, bottom = min(top, before[1]), max(bottom, before[1])
        elif before is not None:
            _join(canvas, before, here, owner, dash)
        if is_drawn(dash, x):
            canvas.vertical(x, top, bottom, owner)
        before = here


def _join(canvas: Canvas, start: tuple[int, int], end: tuple[int, int], owner: str, dash: int) -> None:
    (x0, y0), (x1, y1) = start, end
    last = y0
    for x in range(x0 + 1, x1 + 1):
        y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        if is_drawn(dash, x):
            canvas.vertical(x, min(last, y), max(last, y), owner)
        last = y


def _y_row(label: str | None, gutter: int, canvas: Canvas, y: int) -> Row:
    axis = right(label or "", gutter) + ("┤" if label else "│")
    return ((axis, "axis"), *canvas.row(y))


def _x_row(chart: Chart, gutter: int, width: int) -> Row:
    """Labels of the x axis, none over another."""
    text = " " * (gutter + 1)
    room = width - gutter - 1
    for tick in nice_ticks(chart.x_low, chart.x_high, max(2, room // 14)):
        share = (tick - chart.x_low) / ((chart.x_high - chart.x_low) or 1)
        label = chart.x_text(tick)
        at = gutter + 1 + min(round(share * (room - 1)), room - width_of(label))
        if 0 <= share <= 1 and at >= width_of(text):
            text = left(text, at) + label + "  "
    return ((cut(text, width), "axis"),)


def _legend(chart: Chart, width: int, smooth: float | None) -> Row:
    """What there is to say of the cursor's place; right-aligned the curves beside their signs, if there is room."""
    text = chart.readout if smooth is None else f"{chart.readout}  {tr('smoothed')} {chart.y_text(smooth)}"
    spans: list[Span] = []
    for number, curve in enumerate(chart.curves):
        spans += [(f"  {MARK if curve.marks else line_sign(number)} ", str(number)), (curve.name, "text")]
    room = width - width_of(text) - sum(width_of(span) for span, _ in spans)
    if room < 0:
        return ((cut(text, width), "text"),)
    return ((text + " " * room, "text"), *spans)


def _blank(message: str, width: int, height: int) -> tuple[Row, ...]:
    middle, line = height // 2, cut(" " * ((width - width_of(message)) // 2) + message, width)
    return tuple(((line if y == middle else " " * width, "axis"),) for y in range(height))
