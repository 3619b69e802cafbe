"""Plots are functions from numbers to text."""

from __future__ import annotations

import math

import pytest

from t5panel.tui.theme import SERIES
from t5panel.tui.widgets.bars import bar, rail
from t5panel.tui.widgets.canvas import DASHES, Row, line_sign
from t5panel.tui.widgets.chart import (
    Chart,
    Curve,
    Level,
    draw,
    extent,
    log_ticks,
    nice_ticks,
    number_text,
    over,
    smoothed,
    x_at,
)
from t5panel.tui.widgets.curves import memory_text


def text_of(rows: tuple[Row, ...]) -> str:
    return "\n".join("".join(text for text, _ in row).rstrip() for row in rows)


def test_a_falling_line_is_drawn_in_braille_with_axes() -> None:
    chart = Chart((Curve("loss", over(list(range(0, 11)), [10.0 - step for step in range(11)])),), x_high=10)

    picture = text_of(draw(chart, 30, 8))

    assert picture == "\n".join(
        (
            "                       ━━ loss",
            " 10┤⠉⠓⠦⣄⡀",
            "   │    ⠉⠓⠦⢤⣀⡀",
            "   │         ⠉⠓⠦⣄",
            "  5┤            ⠈⠙⠲⠤⣄⡀",
            "   │                 ⠉⠙⠒⠦⣄⡀",
            "  0┤                      ⠉⠓⠦⣄",
            "    0           5           10",
        )
    )


def test_marks_lie_over_the_line_and_carry_their_own_sign() -> None:
    training = Curve("training", over([0, 10], [1.0, 1.0]))
    evaluation = Curve("evaluation", over([5], [1.0]), marks=True)

    rows = draw(Chart((training, evaluation), x_high=10), 40, 6)

    assert [name for row in rows[1:-1] for text, name in row if "◆" in text] == ["1"]
    assert "━━ training  ◆ evaluation" in text_of(rows)


def test_lines_are_told_apart_without_colour() -> None:
    flat = [Curve(name, over([0, 10], [value, value])) for name, value in (("one", 1.0), ("two", 2.0), ("three", 3.0))]

    legend, *plot = text_of(draw(Chart(tuple(flat), x_high=10), 46, 9)).splitlines()

    assert legend.strip() == "━━ one  ━━ ━━ two  ━ ━ ━ three"
    assert [line[:18] for line in plot[:7:3]] == [
        " 3┤⠉ ⠉ ⠉⠉ ⠉ ⠉⠉ ⠉ ⠉",
        " 2┤⠤⠤ ⠤⠤⠤⠤ ⠤⠤⠤⠤ ⠤⠤",
        " 1┤⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀",
    ]


def test_no_two_lines_have_the_same_dash() -> None:
    assert len(set(DASHES)) == len(set(map(line_sign, range(len(DASHES))))) == SERIES


def test_values_that_are_not_finite_leave_a_gap_and_do_not_move_the_axis() -> None:
    columns = over([1, 2, 3], [1.0, math.nan, 3.0])(1, 3, 3)

    assert columns == [(0, 1.0, 1.0), (2, 3.0, 3.0)]


def test_many_points_in_a_column_keep_their_extremes() -> None:
    columns = over(list(range(1000)), [float(step % 100) for step in range(1000)])(0, 999, 4)

    assert [(low, high) for _, low, high in columns] == [(0.0, 99.0)] * 4


def test_a_window_shows_what_is_in_it_and_nothing_before() -> None:
    assert over([1, 2, 3, 4, 5], [9.0, 1.0, 2.0, 3.0, 9.0])(2, 4, 3) == [(0, 1.0, 1.0), (1, 2.0, 2.0), (2, 3.0, 3.0)]


def test_without_values_the_plot_says_so() -> None:
    assert "no loss yet" in text_of(draw(Chart((), x_high=1, empty="no loss yet"), 40, 7))


def test_a_log_scale_ignores_what_has_no_logarithm() -> None:
    curve = Curve("loss", over([0, 1, 2], [0.0, 1.0, 100.0]))

    picture = text_of(draw(Chart((curve,), x_high=2, log=True), 40, 10))

    assert "100┤" in picture
    assert "0┤" in picture


@pytest.mark.parametrize("size", [(1, 1), (5, 30), (16, 4), (80, 3), (400, 2)])
def test_any_size_gives_rows_of_that_size(size: tuple[int, int]) -> None:
    width, height = size
    curve = Curve("loss", over([1, 2, 3], [5.0, 5.0, 5.0]))

    rows = draw(Chart((curve,), x_low=1, x_high=3), width, height)

    assert len(rows) == height
    assert all(sum(len(text) for text, _ in row) <= width for row in rows)


def test_a_cursor_stands_under_the_line_and_its_values_in_the_legend() -> None:
    curve = Curve("loss", over(range(100), [5.0] * 50 + [3.0] * 50), smooth=True)

    rows = draw(Chart((curve,), x_high=99, cursor=20, readout="step 20  loss 5"), 60, 8)

    assert text_of(rows[:1]).startswith("step 20  loss 5  smoothed 5  ")
    assert {text.count("⡇") + text.count("⢸") for row in rows[2:-2] for text, name in row[1:] if name == "axis"} == {1}


def test_a_level_is_dotted_and_moves_the_axis_so_that_it_is_seen() -> None:
    curve = Curve("card 0", over([0, 10], [2.0, 2.0]))

    rows = draw(Chart((curve,), x_high=10, from_zero=True, levels=(Level(8.0, "0"),)), 40, 8)

    assert {name for text, name in rows[1][1:] if "⠁" in text} == {"0"}
    assert text_of(rows).splitlines()[2].strip() == "│"


def test_a_cell_of_the_plot_stands_for_its_x() -> None:
    chart = Chart((Curve("loss", over([0, 100], [0.0, 1.0])),), x_high=100)
    rows = draw(chart, 56, 8)
    left = len(rows[1][0][0])

    found = [x_at(rows, chart, cell) for cell in (0, left, 55, 56)]

    assert found[0] is found[3] is None
    assert found[1] == pytest.approx(0.5, abs=0.1)
    assert found[2] == pytest.approx(99.5, abs=0.1)
    assert x_at(draw(Chart((), x_high=1), 56, 8), chart, 20) is None


def test_ticks_are_round_numbers_that_enclose_the_values() -> None:
    assert nice_ticks(2.9, 6.4, 3) == (2.0, 4.0, 6.0, 8.0)
    assert nice_ticks(0, 100, 4) == (0, 25, 50, 75, 100)
    assert len(nice_ticks(3.0, 3.0, 3)) >= 2


def test_log_ticks_are_ones_twos_and_fives_when_there_is_room() -> None:
    assert log_ticks(1.0, 1000.0, 4) == (1.0, 10.0, 100.0, 1000.0)
    assert log_ticks(2.9, 6.4, 3) == (3.0, 5.0)


def test_a_smoothed_line_stays_inside_its_values() -> None:
    columns = [(x, float(x % 7), float(x % 7 + 1)) for x in range(200)]

    assert all(0.0 <= low <= 7.5 for _, low, _ in smoothed(columns))


def test_the_x_axis_stands_still_between_quanta_and_never_passes_the_end() -> None:
    assert extent(1000, None) == extent(1010, None) == 1024
    assert extent(1000, 1005) == 1005
    assert extent(0, None) == 2


def test_numbers_are_short() -> None:
    assert [number_text(value) for value in (0.00025, 3.14159, 1234, 20_000, 2_500_000)] == [
        "0.00025",
        "3.142",
        "1234",
        "20k",
        "2.5M",
    ]
    assert [memory_text(size) for size in (412 * 2**20, 2**30 * 3 // 2)] == ["412 MiB", "1.5 GiB"]


def test_bars_show_eighths_and_never_hide_something() -> None:
    assert bar(0.5, 4) == ("██", "░░")
    assert bar(0.001, 4) == ("▏", "░░░")
    assert bar(2.0, 4) == ("████", "")
    assert bar(0.0, 4) == ("", "░░░░")
    assert rail(0.5, 5) == ("━━╸", "──")


def test_ranks_are_stacked_each_seen_above_the_one_before_it() -> None:
    first, both = Curve("rank 0", over([0, 10], [4.0, 4.0])), Curve("rank 1", over([0, 10], [8.0, 8.0]))

    rows = draw(Chart((first, both), x_high=10, from_zero=True, stacked=True, levels=(Level(16.0),)), 40, 10)

    owners = [{name for text, name in row[1:] if text.strip()} for row in rows[1:-1]]
    assert owners[0] == {"axis"}  # the limit
    assert owners[-1] == {"0"}
    assert {"1"} in owners
    assert [name for each in owners for name in each if name in "01"] == sorted(
        (name for each in owners for name in each if name in "01"), reverse=True
    )
