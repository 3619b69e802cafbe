"""Lengths of a sample as figures and as a histogram."""

from __future__ import annotations

from t5panel.contract.data_look import DataLook
from t5panel.tui.look_text import histogram, lengths_line, percent, percentile, share_over

HUNDRED = tuple(range(1, 101))


def test_percentiles_are_values_of_the_sample() -> None:
    assert [percentile(HUNDRED, share) for share in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert percentile((7,), 50) == 7


def test_only_what_is_longer_than_the_limit_is_cut() -> None:
    assert share_over(HUNDRED, 90) == 0.1
    assert share_over(HUNDRED, 100) == 0
    assert [percent(share) for share in (0, 0.0001, 0.034, 0.5)] == ["0 %", "0.1 %", "3.4 %", "50 %"]


def test_a_histogram_has_every_row_in_it_and_colours_what_is_cut() -> None:
    lengths = (1,) * 8 + (2,) * 4 + (3,) * 2 + (9,)

    (row,) = histogram(lengths, 10, 1, limit=2)

    assert [glyph for glyph, _ in row] == ["█", "▄", "▂", *"     ", "▁", " "]
    assert [style for _, style in row][:4] == ["$primary", "$primary", "$warning", "$warning"]


def test_a_high_histogram_fills_its_rows_from_below() -> None:
    top, bottom = histogram((1, 1, 1, 1, 2, 2), 3, 2, limit=9)

    assert [glyph for glyph, _ in top] == ["█", " ", " "]
    assert [glyph for glyph, _ in bottom] == ["█", "█", " "]


def test_one_line_tells_how_much_the_limits_cut() -> None:
    look = DataLook(source=HUNDRED, target=(5, 6))

    assert lengths_line(look, (90, 8)) == "source p99 99, 10 % cut · target p99 6, 0 % cut"
    assert lengths_line(DataLook(), (90, 8)) == ""
