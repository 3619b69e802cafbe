"""Every text that is drawn has a Chinese one; what was said elsewhere in English is recognised."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import pytest

import t5panel
from t5panel.language import chosen_language, read_catalogue, speak, tr
from t5panel.presets import load_preset, preset_names
from t5panel.tui.fields import form_fields

PACKAGE = Path(t5panel.__file__).parent
SAME_IN_CHINESE = {"chrF"}
"""Words of the field that Chinese users write in English too."""
TEXTUALS = {
    "palette",
    "Open the command palette",
    "Theme",
    "Change the current theme",
    "Screenshot",
    "Save an SVG 'screenshot' of the current screen",
    "Maximize",
    "Maximize the focused widget",
    "Minimize",
    "Minimize the widget and restore to normal size",
}
"""Words of Textual's own keys and commands."""


@pytest.fixture(autouse=True)
def chinese() -> Iterator[None]:
    speak("zh")
    yield
    speak("en")


def texts_of(tree: ast.AST) -> Iterator[str]:
    """What a module gives to `tr` and `later`, and the words of its key bindings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = {"tr": node.args[:1], "later": node.args, "Binding": node.args[2:3]}.get(node.func.id, [])
            told = [each.value for each in node.keywords if node.func.id == "Binding" and each.arg == "tooltip"]
            yield from (str(word.value) for word in (*asked, *told) if isinstance(word, ast.Constant) and word.value)


@cache
def modules() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))


def all_texts() -> set[str]:
    """Every text of the interface that is written down in full."""
    summaries = {load_preset(name).summary for name in preset_names()}
    return {text for module in modules() for text in texts_of(module)} | summaries | field_helps()


def field_helps() -> set[str]:
    return {field.help for field in form_fields(sharded=True)}


def holes(text: str) -> list[str]:
    """The names of the holes of a template with what formats them."""
    return sorted(f"{name}:{spec}" for _, name, spec, _ in Formatter().parse(text) if name is not None)


@pytest.mark.xfail(reason="screens are still being translated", strict=False)
def test_every_text_of_the_interface_has_a_chinese_one() -> None:
    missing = all_texts() - read_catalogue("zh").texts.keys() - SAME_IN_CHINESE

    assert sorted(missing) == []


def test_a_chinese_text_has_the_holes_of_the_english_one() -> None:
    texts = read_catalogue("zh").texts
    named = {english: other for english, other in texts.items() if "{}" not in english}

    different = {english: other for english, other in named.items() if holes(english) != holes(other)}

    assert different == {}


def test_a_chinese_template_uses_every_hole_of_the_english_one() -> None:
    templates = read_catalogue("zh").templates

    wrong = [
        english
        for english, other in templates
        if sorted({int(name) for _, name, _, _ in Formatter().parse(other) if name}) != list(range(english.count("{}")))
        and other.count("{}") != english.count("{}")
    ]

    assert wrong == []


def test_no_chinese_text_is_left_over() -> None:
    known = all_texts()
    whole = {english for english in read_catalogue("zh").texts if "{}" not in english}

    assert sorted(whole - known - spoken_elsewhere() - TEXTUALS) == []


def spoken_elsewhere() -> set[str]:
    """Every text in the code: what the supervisor or preflight says is drawn by others."""
    return {
        node.value
        for module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_a_text_filled_in_elsewhere_is_recognised() -> None:
    assert tr("running at step 40") == "正在运行，第 40 步"


def test_a_text_without_a_translation_stays_english() -> None:
    assert tr("nobody translated this") == "nobody translated this"
    assert tr("nobody translated {what}", what="this") == "nobody translated this"


def test_english_is_left_as_it_is() -> None:
    speak("en")

    assert tr("running at step 40") == "running at step 40"


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
    ],
    ids=str,
)
def test_the_language_is_that_of_the_environment(environ: dict[str, str], language: str) -> None:
    assert chosen_language(environ) == language
