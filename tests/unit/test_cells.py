"""Texts in cells: a Chinese character takes two."""

from __future__ import annotations

from t5panel.cells import cut, left, right, width_of, wrapped


def test_a_column_is_as_wide_in_chinese_as_in_english() -> None:
    words = ["batch", "批次", "学习率 lr", ""]

    assert {width_of(left(word, 10)) for word in words} == {10}
    assert {width_of(right(word, 10)) for word in words} == {10}
    assert {width_of(cut(word * 9, 9)) for word in words} == {9}


def test_a_word_wider_than_its_column_stays_whole() -> None:
    assert left("批次大小", 5) == right("批次大小", 5) == "批次大小"


def test_a_chinese_text_is_folded_by_cells_and_its_english_words_stay_whole() -> None:
    lines = wrapped("节奏为热身后各步的中位数，不含评估和保存 checkpoint-120", 20, indent="  ")

    assert lines == ["节奏为热身后各步的中", "  位数，不含评估和保", "  存 checkpoint-120"]
    assert max(map(width_of, lines)) == 20


def test_an_english_text_is_folded_at_its_spaces() -> None:
    assert wrapped("one two three", 8, indent="  ") == ["one two", "  three"]
    assert wrapped("", 8) == [""]
