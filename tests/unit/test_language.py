"""Every text that is drawn has a Chinese one; what was said elsewhere in English is recognised."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import pytest
from click.testing import CliRunner

import t5panel
from t5panel.cli import main
from t5panel.cli.console import help_texts
from t5panel.language import chosen_language, read_catalogue, speak, tr
from t5panel.presets import load_preset, preset_names
from t5panel.tui.fields import form_fields
from tests.tui.recorded import OOM, SPIKE, STALL

PACKAGE = Path(t5panel.__file__).parent
SAME_IN_CHINESE = {"chrF", "python"}
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
PYDANTICS = {f"Input should be a valid {kind}" for kind in ("boolean", "integer", "number", "string")}
CLICKS = {"Show this message and exit.", "Show the version and exit."}
"""Help of Click's own options."""
SPEAKERS = ("Finding", "Fault", "of", "_raise", "_over")
SPOKEN_IN = ("monitor/watchdogs", "plan/planning", "preflight/cards", "preflight/memory", "preflight/place", "session")
"""What a panel hears before and during a run."""
COMMANDS = ("sudo ", "t5panel ", "7 7")
"""The same in every language."""


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
    told = {text for command in (main, *main.commands.values()) for text in help_texts(command)}
    return {text for module in modules() for text in texts_of(module)} | summaries | field_helps() | told


def field_helps() -> set[str]:
    return {field.help for field in form_fields(sharded=True)}


def holes(text: str) -> list[str]:
    """The names of the holes of a template with what formats them."""
    return sorted(f"{name}:{spec}" for _, name, spec, _ in Formatter().parse(text) if name is not None)


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
    code = "\n".join({*constants(), *all_texts(), *TEXTUALS, *PYDANTICS, *CLICKS})

    whole = (english for english in read_catalogue("zh").texts if "{}" not in english)
    left_over = [english for english in whole if english not in code]

    assert left_over == []


def constants() -> set[str]:
    """Every text in the code and in the presets: what the supervisor or preflight says is drawn by others."""
    summaries = {load_preset(name).summary for name in preset_names()}
    return summaries | {
        node.value
        for module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def sentences(tree: ast.AST) -> Iterator[str]:
    """What a module finds or raises, each hole filled with a number."""
    for node in ast.walk(tree):
        name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and name in SPEAKERS:
            yield from (text for text in map(filled, node.args) if " " in text)


def filled(node: ast.expr) -> str:
    """A text or template as it is said; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


@pytest.mark.parametrize("module", SPOKEN_IN)
def test_what_is_said_of_a_run_is_understood(module: str) -> None:
    said = set(sentences(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))))

    assert [text for text in sorted(said) if tr(text) == text and not text.startswith(COMMANDS)] == []


@pytest.mark.parametrize(
    ("english", "expected"),
    [
        (STALL.message, "第 50 步之后 61 秒没有新的一步，通常一步要 0.8 秒"),
        (SPIKE.message, "损失在第 50 步从 3.121 跳到 7.904"),
        (
            "the next checkpoint will not fit: 0.4 GiB free, a checkpoint takes 1.1 GiB",
            "下一个检查点放不下：剩余 0.4 GiB，一个检查点需要 1.1 GiB",
        ),
        (OOM.sentence, "第 51 步进程 1 CUDA 显存不足：已分配 17.9 GiB，已保留 18.6 / 19.6 GiB"),
        ("Input should be greater than 0, not -3", "应大于 0，不是 -3"),
        ("batch 20 × 6, without checkpointing", "批次 20 × 6，关闭检查点重算"),
        ("finished at step 80", "在第 80 步完成"),
        ("3 × RTX 3080 20 GiB · 12 GiB RAM", "3 × RTX 3080 20 GiB · 12 GiB 内存"),
    ],
)
def test_a_sentence_is_recognised_by_its_template(english: str, expected: str) -> None:
    assert tr(english) == expected


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


def test_help_is_told_in_the_language_of_the_texts() -> None:
    asked = CliRunner().invoke(main, ["plan", "--lang", "zh", "--help"]).output
    by_place = CliRunner().invoke(main, ["--help"], env={"LC_ALL": "zh_CN.UTF-8"}).output
    english = CliRunner().invoke(main, ["--help"], env={"LC_ALL": "en_US.UTF-8"}).output

    assert "显示预设会运行什么" in asked
    assert "显示此帮助后退出。" in asked
    assert "列出任务，新的在前。" in by_place
    assert "List the runs, newest first." in english
