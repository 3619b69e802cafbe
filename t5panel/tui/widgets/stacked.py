"""A bar made of parts, with the range in which its end may lie, to an eighth of a cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter

from t5panel.tui.widgets.bars import EIGHTHS

EMPTY, MARK = "$rule", "$foreground"
LOW, BETWEEN, HIGH, LIMIT = "├", "─", "┤", "┃"


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a bar: its size, and the colour it is drawn in."""

    size: float
    style: str


def stacked(
    shares: Sequence[Share], capacity: float, width: int, error: tuple[float, float] | None = None
) -> Iterator[tuple[str, str]]:
    """A bar as text and style. `capacity` is its full width, unless more is needed: then it is marked.

    `error`: the least and the most at which the bar may end.
    """
    cells = _cells(shares, capacity, width, error)
    for style, run in groupby(cells, key=itemgetter(1)):
        yield "".join(text for text, _ in run), style


def _cells(
    shares: Sequence[Share], capacity: float, width: int, error: tuple[float, float] | None
) -> Iterator[tuple[str, str]]:
    ends = tuple(accumulate(share.size for share in shares))
    most = max(capacity, ends[-1] if ends else 0, error[1] if error else 0)
    styles = [share.style for share in shares]
    low, high = (_cell(at, most, width) for at in error) if error else (-1, -1)
    limit = _cell(capacity, most, width) if most > capacity else -1
    for cell in range(width):
        samples = [_part_at(ends, most * (cell * 8 + eighth + 0.5) / (width * 8)) for eighth in range(8)]
        if cell == limit:
            yield (LIMIT, f"$error{_behind(samples, styles)}")
        elif low <= cell <= high:
            glyph = HIGH if cell == high else LOW if cell == low else BETWEEN
            yield (glyph, f"{MARK}{_behind(samples, styles)}")
        else:
            yield _filled(samples, styles)


def _cell(at: float, most: float, width: int) -> int:
    return min(width - 1, int(at / most * width))


def _part_at(ends: Sequence[float], at: float) -> int | None:
    """The part that covers a place; None beyond the last."""
    return next((number for number, end in enumerate(ends) if at < end), None)


def _behind(samples: list[int | None], styles: Sequence[str]) -> str:
    """The background of a mark: what fills most of its cell."""
    part = Counter(samples).most_common(1)[0][0]
    return "" if part is None else f" on {styles[part]}"


def _filled(samples: list[int | None], styles: Sequence[str]) -> tuple[str, str]:
    """One cell: its first part on the left, what fills most of the rest behind it."""
    first = samples[0]
    if first is None:
        return "░", EMPTY
    others = samples[samples.count(first) :]
    if not others:
        return "█", styles[first]
    behind = Counter(others).most_common(1)[0][0]
    glyph = EIGHTHS[8 - len(others)]
    return glyph, styles[first] if behind is None else f"{styles[first]} on {styles[behind]}"
