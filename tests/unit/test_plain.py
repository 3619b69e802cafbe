"""ASCII for terminals that show nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest
from rich.cells import cell_len

from t5panel.plain import BRAILLE, is_plain, plain_cells, plain_line

EVERYTHING = "".join(map(chr, BRAILLE)) + "█▉▊▋▌▍▎▏░│─┌┐└┘╭╮╰╯━╸┤┄→←↑↓…·×✗✓●◌◆■↻✎▒≈≠‖°²µ—–é“”批次"


def test_a_character_becomes_ascii_of_its_own_width() -> None:
    plain = {character: plain_cells(character) for character in EVERYTHING}

    assert [one for one, said in plain.items() if not said.isascii() or len(said) != cell_len(one)] == []


@pytest.mark.parametrize(
    ("dots", "stroke"), [("⠉", "'"), ("⠤", "-"), ("⣀", "."), ("⡇", "|"), ("⡜", "/"), ("⢣", "\\"), ("⣿", "#")]
)
def test_a_curve_of_dots_keeps_its_way(dots: str, stroke: str) -> None:
    assert plain_cells(dots) == stroke


def test_a_line_may_grow_where_that_says_more() -> None:
    assert plain_line("loss 6.37 → 3.76 · 16 × 3…") == "loss 6.37 -> 3.76 - 16 x 3..."


@pytest.mark.parametrize(
    ("environ", "encoding", "terminal", "plain"),
    [
        ({"LANG": "en_US.UTF-8", "TERM": "xterm-256color"}, "utf-8", True, False),
        ({}, "UTF-8", True, False),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, "utf-8", True, True),
        ({"LANG": "POSIX"}, "utf-8", False, True),
        ({"LANG": "zh_CN.GBK"}, "gbk", True, True),
        ({"TERM": "linux"}, "utf-8", True, True),
        ({"TERM": "dumb"}, "utf-8", False, False),
    ],
    ids=str,
)
def test_a_terminal_is_asked_what_it_shows(
    environ: dict[str, str], encoding: str, *, terminal: bool, plain: bool
) -> None:
    assert is_plain(environ, encoding=encoding, terminal=terminal) is plain


@pytest.mark.parametrize("words", [["--ascii", "plan"], ["plan", "--ascii"]], ids=" ".join)
def test_a_command_writes_ascii_when_asked(words: list[str]) -> None:
    command = [sys.executable, "-m", "t5panel", *words, "--preset", "deepspeed", "--machine", "3xRTX 3080 20GiB,12GiB"]

    done = subprocess.run(command, capture_output=True, check=False)

    assert b"8 x 16 x 3 = 384" in done.stdout
    assert done.stdout.isascii()


def test_an_encoding_without_the_signs_breaks_nothing() -> None:
    command = [sys.executable, "-m", "t5panel", "plan", "--preset", "deepspeed", "--machine", "3xRTX 3080 20GiB,12GiB"]
    env = {"PYTHONIOENCODING": "latin-1", "PATH": "/usr/bin:/bin"}

    done = subprocess.run(command, capture_output=True, check=False, env=env)

    assert b"Traceback" not in done.stderr
    assert b"8 x 16 x 3 = 384" in done.stdout
