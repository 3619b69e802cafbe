"""Texts in the user's language. The code and all files speak English; what is drawn goes through `tr`.

`tr("{count} marked", count=3)` looks its text up, then fills it in. A text that was filled in elsewhere, by the
supervisor for example, is recognised by its template: `no step for {} s` in the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""In the order in which POSIX asks them."""
JOINTS = {"; ": "；", ", ": "，", ": ": "："}
"""What stands between two sentences or two parts of one, and what a Chinese text has there."""
MOST_PIECES = 4
"""How deep a recognised text may hold others."""
_ENTRY = re.compile(r'^msgid "(.*)"\nmsgstr "(.*)"$', re.MULTILINE)
_ESCAPE = re.compile(r"\\(.)")
_HOLE = re.compile(r"\{(\d*)\}")


@dataclass(frozen=True)
class Catalogue:
    """Texts of one language: whole ones by their English, and templates with holes `{}`."""

    texts: Mapping[str, str] = field(default_factory=dict)
    templates: tuple[tuple[str, str], ...] = ()

    def find(self, text: str, depth: int = 0) -> str | None:
        """The translation of a text, its holes translated too; None when there is none."""
        if text in self.texts:
            return self.texts[text]
        for english, other in self.templates if depth < MOST_PIECES else ():
            pieces = _pieces(english, text)
            if pieces is not None:
                said = [self.find(piece, depth + 1) or piece for piece in pieces]
                return other.format(*said)
        return self._find_parts(text, depth)

    def _find_parts(self, text: str, depth: int) -> str | None:
        """A list of known texts; its names and numbers stay."""
        for separator, other in JOINTS.items() if depth < MOST_PIECES else ():
            parts = text.split(separator)
            said = [self.find(part, depth + 1) or ("" if " " in part else part) for part in parts]
            if len(parts) > 1 and all(said) and said != parts:
                return other.join(said)
        return None


class _Voice:
    """The language of this process, as the locale of the C library is one of the process."""

    catalogue = Catalogue()


def tr(text: str, **values: object) -> str:
    """A text in the language that was chosen, filled in with `values`; English where there is no translation."""
    catalogue = _Voice.catalogue
    if values:
        return catalogue.texts.get(text, text).format(**values)
    return _recognised(text) if catalogue.texts else text


def later(text: str) -> str:
    """The same text: it is translated where it is drawn, and has to be in the catalogue."""
    return text


def speak(language: Language) -> None:
    """Use this language from now on."""
    _Voice.catalogue = Catalogue() if language == "en" else read_catalogue(language)
    _recognised.cache_clear()


def chosen_language(environ: Mapping[str, str]) -> Language:
    """The language that the environment asks for; English when it is none of ours."""
    wanted = next((environ[name] for name in VARIABLES if environ.get(name)), "")
    return next((language for language in LANGUAGES if wanted.lower().startswith(language)), "en")


def read_catalogue(language: Language) -> Catalogue:
    """What stands in the catalogue of a language, a gettext PO file with one line per text."""
    path = Path(__file__).parent / "phrases" / f"{language}.po"
    texts = {english: other for english, other in _entries(path.read_text(encoding="utf-8")) if english and other}
    templates = [(english, other) for english, other in texts.items() if _HOLE.search(english)]
    templates.sort(key=lambda pair: len(_HOLE.sub("", pair[0])), reverse=True)  # the most particular first
    return Catalogue(texts, tuple(templates))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for english, other in _ENTRY.findall(text):
        yield _unescaped(english), _unescaped(other)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text) if "\\" in text else text


@lru_cache(maxsize=1024)
def _recognised(text: str) -> str:
    found = _Voice.catalogue.find(text)
    return text if found is None else found


def _pieces(template: str, text: str) -> tuple[str, ...] | None:
    """What stands in the holes of a template that a text was made from."""
    begin, end = template.find("{"), template.rfind("}")
    if not (text.startswith(template[:begin]) and text.endswith(template[end + 1 :])):
        return None
    found = _pattern(template).fullmatch(text)
    return found.groups() if found else None


@lru_cache(maxsize=512)
def _pattern(template: str) -> re.Pattern[str]:
    hole = "(.+?)" if "; " in template else "((?:(?!; ).)+?)"  # no hole swallows a sentence before or after it
    return re.compile(hole.join(map(re.escape, re.split(r"\{\d*\}", template))), re.DOTALL)
