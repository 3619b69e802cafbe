"""Texts measured in cells of a terminal: a Chinese character takes two."""

from __future__ import annotations

import re
import textwrap

_PIECE = re.compile(r"\s+|[!-~]+|.", re.DOTALL)
"""Spaces, a word of ASCII, or any other character: lines are broken between two of them."""


def width_of(text: str) -> int:
    """Cells that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def left(text: str, width: int) -> str:
    """A text with spaces behind it up to `width` cells; a wider one stays as it is."""
    return text + " " * (width - width_of(text))


def right(text: str, width: int) -> str:
    """A text with spaces before it up to `width` cells."""
    return " " * (width - width_of(text)) + text


def cut(text: str, width: int) -> str:
    """A text and spaces in exactly `width` cells."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """Lines of at most `width` cells, later ones indented; a word of ASCII stays whole, however long."""
    if width_of(text) == len(text):
        return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [
            ""
        ]
    lines, line = list[str](), ""
    for piece in _PIECE.findall(text):
        if line.strip() and width_of(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = indent
        line += piece if line.strip() or not piece.isspace() else ""
    return [*lines, line.rstrip()]
