"""Texts for terminals that show ASCII only: each character becomes what looks most like it."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

PLAIN_TERMINALS = frozenset({"dumb", "linux"})
PLAIN_LOCALES = frozenset({"C", "POSIX"})
UNKNOWN = "?"
BRAILLE = range(0x2800, 0x2900)
BRAILLE_ROWS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by dot row, left and right. Source: Unicode, block Braille Patterns."""
ALIKE = {
    "→›▶▸": ">",
    "←‹◀◂⏎": "<",
    "↑▲△▴": "^",
    "↓▼▽▾": "v",
    "…": ".",
    "·•∙": "-",
    "—–─┄┈╌▔▁▂": "-",
    "━╸╺═┅╍": "=",
    "×✗✘╳": "x",
    "✓": "+",
    "●◉⬤": "*",
    "◌○◯": "o",
    "◆◈": "@",
    "■▪◼": "#",
    "↻": "@",
    "✎": "&",
    "≈": "~",
    "≠": "!",
    "‖": '"',
    "°": " ",
    "²": "2",
    "µ": "u",
    "█▉▊▋▌▐▓▆▇": "#",
    "▂▃▄▅": "=",
    "▍▎▏▕▒": "=",
    "░": ".",
    "│┃┆┊╎║": "|",
    "┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛╔╗╚╝": "+",
    "“”„": '"',
    "‘’‚": "'",
    "\N{NO-BREAK SPACE}": " ",
}
WIDER = {"→": "->", "←": "<-", "…": "...", "≠": "!=", "≥": ">=", "≤": "<="}
"""Where a line may grow."""


def is_plain(environ: Mapping[str, str], *, encoding: str | None, terminal: bool) -> bool:
    """Whether a terminal shows ASCII only, by its kind, the locale and the encoding of what is written to it."""
    locale = environ.get("LC_ALL") or environ.get("LANG") or ""
    unicode = encoding is None or codecs.lookup(encoding).name == "utf-8"
    return not unicode or locale in PLAIN_LOCALES or (terminal and environ.get("TERM") in PLAIN_TERMINALS)


def plain_cells(text: str) -> str:
    """A text in ASCII that takes as many cells."""
    if text.isascii():
        return text
    return "".join(character if character.isascii() else _cell(character) for character in text)


def plain_line(text: str) -> str:
    """A text in ASCII, as long as it needs to be."""
    return plain_cells("".join(WIDER.get(character, character) for character in text))


def write_plainly() -> None:
    """Let what this process writes be ASCII from now on, whoever writes it."""
    codecs.register_error("t5panel.plain", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii", errors="t5panel.plain")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain_line(error.object[error.start : error.end]), error.end


@lru_cache(maxsize=1024)
def _cell(character: str) -> str:
    """What stands for one character: nothing for a mark upon another, two signs for a wide one."""
    if ord(character) in BRAILLE:
        return _dots(ord(character) - BRAILLE.start)
    for alike, sign in ALIKE.items():
        if character in alike:
            return sign
    if unicodedata.combining(character):
        return ""
    base = unicodedata.normalize("NFKD", character)[0]
    if base.isascii():
        return base
    return UNKNOWN * (2 if unicodedata.east_asian_width(character) in "WF" else 1)


def _dots(bits: int) -> str:
    """Dots as a stroke that goes the same way."""
    left = [row for row, (bit, _) in enumerate(BRAILLE_ROWS) if bits & bit]
    right = [row for row, (_, bit) in enumerate(BRAILLE_ROWS) if bits & bit]
    if not bits:
        return " "
    if len(left) + len(right) >= 7:
        return "#"
    rows = {*left, *right}
    if max(rows) - min(rows) >= 2 and left and right and abs(_middle(left) - _middle(right)) >= 1:
        return "/" if _middle(left) > _middle(right) else "\\"
    if len(rows) >= 3:
        return "|"
    middle = _middle(sorted(rows))
    return "'" if middle < 1 else "-" if middle <= 2 else "."


def _middle(rows: list[int]) -> float:
    return sum(rows) / len(rows)
