"""Numbers → rows of text: a plot in braille dots with axes. Knows no widget and no terminal."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

Span = tuple[str, str]
"""Text and the name of its style: `axis`, `text`, `faint` or the number of a series."""
Row = tuple[Span, ...]
Column = tuple[int, float, float]
"""A column of dots with the least and the greatest value in it."""

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of a braille character by dot row and dot column. Source: Unicode, block Braille Patterns."""
MARK = "◆"
SMOOTH_FROM = 40
"""Columns from which a smoothed line is worth drawing over the raw one."""
SMOOTH_SHARE = 20
TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def number_text(value: float) -> str:
    """A number as an axis shows it: four digits at most, `k` and `M` from ten thousand and a million on."""
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e6 if letter == 'M' else 1e3):.4g}{letter}"
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class Curve:
    """One series. `steps` ascend; NaN values leave a gap; `marks` draws single points instead of a line."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    marks: bool = False
    smooth: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What a plot shows: curves, the x range, and how its axes are written. Ticks are round multiples of `y_unit`."""

    curves: tuple[Curve, ...]
    x_high: float
    x_low: float = 0.0
    log: bool = False
    from_zero: bool = False
    y_unit: float = 1.0
    x_text: Callable[[float], str] = number_text
    y_text: Callable[[float], str] = number_text
    empty: str = "nothing to plot yet"


@dataclass(slots=True)
class Canvas:
    """Dots in cells of 2 x 4; the last curve drawn in a cell owns its colour."""

    width: int
    height: int
    bits: list[bytearray] = field(init=False)
    owners: list[list[str]] = field(init=False)
    glyphs: dict[tuple[int, int], str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.bits = [bytearray(self.width) for _ in range(self.height)]
        self.owners = [[""] * self.width for _ in range(self.height)]

    def vertical(self, x: int, top: int, bottom: int, owner: str) -> None:
        """Dots in column `x` from row `top` down to `bottom`."""
        cell, side = x >> 1, x & 1
        for y in range(top, bottom + 1):
            self.bits[y >> 2][cell] |= DOTS[y & 3][side]
            self.owners[y >> 2][cell] = owner

    def mark(self, x: int, y: int, owner: str) -> None:
        """A mark over whatever is in its cell."""
        self.glyphs[y >> 2, x >> 1] = MARK
        self.owners[y >> 2][x >> 1] = owner

    def row(self, y: int) -> Iterator[Span]:
        """One row of cells, cells of one owner together."""
        text, owner = "", self.owners[y][0]
        for x, bits in enumerate(self.bits[y]):
            if self.owners[y][x] != owner:
                yield text, owner
                text, owner = "", self.owners[y][x]
            text += self.glyphs.get((y, x)) or (chr(0x2800 + bits) if bits else " ")
        yield text, owner


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to dot rows, row 0 on top."""

    low: float
    high: float
    rows: int
    log: bool

    def row(self, value: float) -> int:
        """The dot row of a value, kept inside the plot."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, self.clip(value)))
        return round((high - at) / (high - low) * (self.rows - 1))

    def clip(self, value: float) -> float:
        """The value, or the nearer end of the scale."""
        return min(max(value, self.low), self.high)


def draw(chart: Chart, width: int, height: int) -> tuple[Row, ...]:
    """The chart in `height` rows of `width` cells: a legend, the plot, the x axis."""
    plot_height = height - 2
    columns = [list(columns_of(curve, chart, 2 * max(1, width))) for curve in chart.curves]
    span = _value_span(columns, chart)
    if span is None or width < 16 or plot_height < 2:
        return _blank(chart.empty, width, height)
    ticks = _ticks(*span, max(2, plot_height // 3), chart)
    labels = [chart.y_text(tick) for tick in ticks]
    gutter = max(map(len, labels), default=0) + 1
    canvas = Canvas(width - gutter - 1, plot_height)
    scale = Scale(*span, plot_height * 4, chart.log)
    _paint(canvas, chart, [squeezed(series, width, canvas.width) for series in columns], scale)
    at = {scale.row(tick) >> 2: label for tick, label in zip(ticks, labels, strict=True)}
    rows = [_y_row(at.get(y), gutter, canvas, y) for y in range(plot_height)]
    return (_legend(chart, width), *rows, _x_row(chart, gutter, width))


def columns_of(curve: Curve, chart: Chart, count: int) -> Iterator[Column]:
    """Least and greatest value in each of `count` columns that holds any; costs one pass over the values."""
    size = min(len(curve.steps), len(curve.values))
    per_column = (chart.x_high - chart.x_low) / max(1, count - 1) or 1.0
    begin = 0
    for column in range(count):
        end = bisect_right(curve.steps, chart.x_low + (column + 0.5) * per_column, begin, size)
        chunk = curve.values[begin:end]
        begin = end
        if chunk and math.isnan(sum(chunk)):
            chunk = [value for value in chunk if not math.isnan(value)]
        if chunk:
            yield column, min(chunk), max(chunk)


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


def _paint(canvas: Canvas, chart: Chart, series: Sequence[Sequence[Column]], scale: Scale) -> None:
    """Lines first, marks over them."""
    for number, curve in sorted(enumerate(chart.curves), key=lambda item: item[1].marks):
        columns = series[number]
        if curve.marks:
            for x, _, high in columns:
                canvas.mark(x, scale.row(high), str(number))
        elif curve.smooth and len(columns) >= SMOOTH_FROM:
            _line(canvas, columns, scale, "faint")
            _line(canvas, smoothed(columns), scale, str(number))
        else:
            _line(canvas, columns, scale, str(number))


def _line(canvas: Canvas, columns: Sequence[Column], scale: Scale, owner: str) -> None:
    """Each column's run of values, joined to the one before."""
    before: tuple[int, int] | None = None
    for x, low, high in columns:
        top, bottom = scale.row(high), scale.row(low)
        here = (x, (top + bottom) // 2)
        if before is not None:
            _join(canvas, before, here, owner)
        canvas.vertical(x, top, bottom, owner)
        before = here


def _join(canvas: Canvas, start: tuple[int, int], end: tuple[int, int], owner: str) -> None:
    (x0, y0), (x1, y1) = start, end
    last = y0
    for x in range(x0 + 1, x1 + 1):
        y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        canvas.vertical(x, min(last, y), max(last, y), owner)
        last = y


def _y_row(label: str | None, gutter: int, canvas: Canvas, y: int) -> Row:
    axis = (label or "").rjust(gutter) + ("┤" if label else "│")
    return ((axis, "axis"), *canvas.row(y))


def _x_row(chart: Chart, gutter: int, width: int) -> Row:
    """Labels of the x axis, none over another."""
    text = " " * (gutter + 1)
    room = width - gutter - 1
    for tick in nice_ticks(chart.x_low, chart.x_high, max(2, room // 14)):
        share = (tick - chart.x_low) / ((chart.x_high - chart.x_low) or 1)
        label = chart.x_text(tick)
        at = gutter + 1 + min(round(share * (room - 1)), room - len(label))
        if 0 <= share <= 1 and at >= len(text):
            text = text.ljust(at) + label + "  "
    return ((text[:width].ljust(width), "axis"),)


def _legend(chart: Chart, width: int) -> Row:
    """Names of the curves beside their signs, right-aligned."""
    spans: list[Span] = []
    for number, curve in enumerate(chart.curves):
        spans += [(f"  {MARK if curve.marks else '━━'} ", str(number)), (curve.name, "text")]
    used = sum(len(text) for text, _ in spans)
    if used > width:
        return ((" " * width, "text"),)
    return ((" " * (width - used), "text"), *spans)


def _blank(message: str, width: int, height: int) -> tuple[Row, ...]:
    middle, line = height // 2, message.center(width)[:width]
    return tuple(((line if y == middle else " " * width, "axis"),) for y in range(height))
