"""The list of runs shows as many columns as there is room for."""

from __future__ import annotations

from pathlib import Path

import pytest

from t5panel.cells import width_of
from t5panel.tui.listing import RunRow, read_rows
from t5panel.tui.widgets.run_columns import fitting

from .panels import NOW
from .recorded import finished, living


@pytest.fixture
def rows(home: Path) -> tuple[RunRow, ...]:
    finished(home)
    living(home)
    return read_rows(NOW)


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (44, "run step loss"),
        (54, "run step loss started"),
        (64, "run batch step loss started"),
        (104, "run model batch step loss started"),
        (184, "run model data technique batch step loss started"),
    ],
)
def test_columns_that_are_worth_least_go_first(rows: tuple[RunRow, ...], width: int, titles: str) -> None:
    assert " ".join(column.title for column in fitting(width, rows)) == titles


@pytest.mark.parametrize("width", [26, 30, 44, 77, 120, 300])
def test_a_line_is_no_wider_than_there_is_room(rows: tuple[RunRow, ...], width: int) -> None:
    columns = fitting(width, rows)

    lines = {width_of("".join(column.cell(row, NOW) for column in columns)) for row in rows}

    assert max(lines) <= width
    assert len(lines) == 1


def test_a_row_says_what_was_trained_on_what(rows: tuple[RunRow, ...]) -> None:
    assert (rows[0].model, rows[0].data, rows[0].technique) == ("builtin:tiny", "builtin:docstrings", "fp32 ckpt")
