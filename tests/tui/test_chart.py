"""Plots are functions from numbers to text."""

from __future__ import annotations

import math

import pytest

from t5panel.tui.widgets.bars import bar, rail
from t5panel.tui.widgets.chart import Chart, Curve, Row, columns_of, draw, log_ticks, nice_ticks, number_text, smoothed
from t5panel.tui.widgets.curves import extent, memory_text


def text_of(rows: tuple[Row, ...]) -> str:
    return "\n".join("".join(text for text, _ in row).rstrip() for row in rows)


def test_a_falling_line_is_drawn_in_braille_with_axes() -> None:
    chart = Chart((Curve("loss", list(range(0, 11)), [10.0 - step for step in range(11)]),), x_high=10)

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
    training = Curve("training", [0, 10], [1.0, 1.0])
    evaluation = Curve("evaluation", [5], [1.0], marks=True)

    rows = draw(Chart((training, evaluation), x_high=10), 40, 6)

    assert [name for row in rows[1:-1] for text, name in row if "◆" in text] == ["1"]
    assert "━━ training  ◆ evaluation" in text_of(rows)


def test_values_that_are_not_finite_leave_a_gap_and_do_not_move_the_axis() -> None:
    curve = Curve("loss", [1, 2, 3], [1.0, math.nan, 3.0])

    columns = list(columns_of(curve, Chart((curve,), x_low=1, x_high=3), 3))

    assert columns == [(0, 1.0, 1.0), (2, 3.0, 3.0)]


def test_many_points_in_a_column_keep_their_extremes() -> None:
    curve = Curve("loss", list(range(1000)), [float(step % 100) for step in range(1000)])

    columns = list(columns_of(curve, Chart((curve,), x_high=999), 4))

    assert [(low, high) for _, low, high in columns] == [(0.0, 99.0)] * 4


def test_a_series_that_grew_while_it_was_read_is_drawn_to_its_shorter_end() -> None:
    curve = Curve("loss", [1, 2, 3], [1.0, 2.0])

    assert len(list(columns_of(curve, Chart((curve,), x_low=1, x_high=3), 3))) == 2


def test_without_values_the_plot_says_so() -> None:
    assert "no loss yet" in text_of(draw(Chart((), x_high=1, empty="no loss yet"), 40, 7))


def test_a_log_scale_ignores_what_has_no_logarithm() -> None:
    curve = Curve("loss", [0, 1, 2], [0.0, 1.0, 100.0])

    picture = text_of(draw(Chart((curve,), x_high=2, log=True), 40, 10))

    assert "100┤" in picture
    assert "0┤" in picture


@pytest.mark.parametrize("size", [(1, 1), (5, 30), (16, 4), (80, 3), (400, 2)])
def test_any_size_gives_rows_of_that_size(size: tuple[int, int]) -> None:
    width, height = size
    curve = Curve("loss", [1, 2, 3], [5.0, 5.0, 5.0])

    rows = draw(Chart((curve,), x_low=1, x_high=3), width, height)

    assert len(rows) == height
    assert all(sum(len(text) for text, _ in row) <= width for row in rows)


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
