"""Following a file that somebody else appends to."""

from __future__ import annotations

from pathlib import Path

import pytest

from t5panel.monitor.tail import BLOCK, Tail, last_lines

LINES = b'{"step":1}\n{"step":22}\n'


@pytest.mark.parametrize("cut", range(len(LINES) + 1))
def test_every_line_comes_once_and_whole_wherever_the_writer_paused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    path.write_bytes(LINES[:cut])

    first = tail.lines()
    with path.open("ab") as file:
        file.write(LINES[cut:])

    assert first + tail.lines() == [b'{"step":1}', b'{"step":22}']
    assert tail.lines() == []


def test_a_file_that_does_not_exist_yet_has_no_lines(tmp_path: Path) -> None:
    assert Tail(tmp_path / "later").lines() == []


def test_a_replaced_file_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"old\n")
    tail = Tail(path)
    tail.lines()

    (tmp_path / "new").write_bytes(b"new and longer\n")
    (tmp_path / "new").replace(path)

    assert tail.lines() == [b"new and longer"]


def test_a_shortened_file_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\ntwo\n")
    tail = Tail(path)
    tail.lines()

    path.write_bytes(b"1\n")

    assert tail.lines() == [b"1"]


def test_much_is_read_in_blocks_that_end_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * 99 + b"\n" * 1)
    path.write_bytes(path.read_bytes() * 25_000)
    tail = Tail(path)

    block = tail.read()

    assert len(block) <= BLOCK
    assert block.endswith(b"x\n")
    assert len(block.splitlines()) + len(tail.lines()) == 25_000


def test_a_line_longer_than_a_block_comes_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * (2 * BLOCK) + b"\nshort\n")

    assert [len(line) for line in Tail(path).lines()] == [2 * BLOCK, 5]


def test_from_its_end_only_later_lines_come(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"old\n")
    tail = Tail(path, from_end=True)

    with path.open("ab") as file:
        file.write(b"new\n")

    assert tail.lines() == [b"new"]


def test_last_lines_read_as_a_terminal_would_leave_them(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.log"
    path.write_bytes("first\n10%\r 90%\r100%\nlast without an end \xe9".encode("latin-1"))

    assert last_lines(path, 2) == ("100%", "last without an end \N{REPLACEMENT CHARACTER}")
    assert last_lines(tmp_path / "missing", 2) == ()
