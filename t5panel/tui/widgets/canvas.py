"""Dots in braille characters, each cell with the name of what owns it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

Span = tuple[str, str]
"""Text and the name of its style: `axis`, `text`, `faint` or the number of a series."""
Row = tuple[Span, ...]

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of a braille character by dot row and dot column. Source: Unicode, block Braille Patterns."""
RUNS = tuple(
    tuple(tuple(sum(DOTS[y][side] for y in range(top, bottom + 1)) for bottom in range(4)) for top in range(4))
    for side in range(2)
)
"""Bits of a run of dots by dot column, first and last dot row."""
BRAILLE = (" ", *(chr(0x2800 + bits) for bits in range(1, 256)))
MARK = "◆"
SOLID = "━━"
HEAVY = {"11": "━", "10": "╸", "00": " "}
"""A cell of a legend by its two columns."""
DASHES = ("1111111111", "1111001111", "1100110011", "1100000011", "1010101010", "1010001010", "1000000010")
"""Which columns of a line are drawn, by its place among the lines: colour is never the only difference.

The gaps of the first four are whole cells, so that they can be seen in ASCII too.
"""


def is_drawn(line: int, x: int) -> bool:
    """Whether a line, by its place among the lines, has dots in column `x`."""
    dash = DASHES[line % len(DASHES)]
    return dash[x % len(dash)] == "1"


def line_sign(line: int) -> str:
    """Some cells of a line, as a legend shows it."""
    dash = DASHES[line % len(DASHES)]
    cells = (HEAVY[dash[x : x + 2]] for x in range(0, len(dash), 2))
    return "".join(cells) if "0" in dash else SOLID


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
        cell, runs, first, last = x >> 1, RUNS[x & 1], top >> 2, bottom >> 2
        bits, owners = self.bits, self.owners
        owners[first][cell] = owners[last][cell] = owner
        if first == last:
            bits[first][cell] |= runs[top & 3][bottom & 3]
            return
        bits[first][cell] |= runs[top & 3][3]
        bits[last][cell] |= runs[0][bottom & 3]
        whole = runs[0][3]
        for y in range(first + 1, last):
            bits[y][cell] |= whole
            owners[y][cell] = owner

    def dotted(self, y: int, owner: str) -> None:
        """A row of dots over the whole width, every fourth of them."""
        for x in range(0, 2 * self.width, 4):
            self.vertical(x, y, y, owner)

    def mark(self, x: int, y: int, owner: str) -> None:
        """A mark over whatever is in its cell."""
        self.glyphs[y >> 2, x >> 1] = MARK
        self.owners[y >> 2][x >> 1] = owner

    def row(self, y: int) -> Iterator[Span]:
        """One row of cells, cells of one owner together."""
        cells = [self.glyphs.get((y, x)) or BRAILLE[bits] for x, bits in enumerate(self.bits[y])]
        begin = 0
        for owner, group in groupby(self.owners[y]):
            end = begin + sum(1 for _ in group)
            yield "".join(cells[begin:end]), owner
            begin = end


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to dot rows, row 0 on top."""

    low: float
    high: float
    rows: int
    log: bool

    def row(self, value: float) -> int:
        """The dot row of a value, kept inside the plot."""
        low, high, at = self.low, self.high, self.clip(value)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return round((high - at) / (high - low) * (self.rows - 1))

    def clip(self, value: float) -> float:
        """The value, or the nearer end of the scale."""
        return min(max(value, self.low), self.high)
