"""A bar of parts: where each ends, where the whole may end, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterable

from t5panel.tui.widgets.stacked import HIGH, LIMIT, LOW, Share, stacked

PARTS = (Share(4, "red"), Share(2, "blue"))


def text(cells: Iterable[tuple[str, str]]) -> str:
    return "".join(glyphs for glyphs, _ in cells)


def test_parts_stand_side_by_side_and_the_rest_is_empty() -> None:
    assert list(stacked(PARTS, 10, 10)) == [("████", "red"), ("██", "blue"), ("░░░░", "$rule")]


def test_two_parts_share_the_cell_in_which_one_ends() -> None:
    assert list(stacked((Share(5, "red"), Share(5, "blue")), 20, 10))[:3] == [
        ("██", "red"),
        ("▌", "red on blue"),
        ("██", "blue"),
    ]


def test_the_range_of_the_end_lies_over_the_bar() -> None:
    bar = list(stacked(PARTS, 10, 10, (5, 7.5)))

    assert text(bar) == f"█████{LOW}─{HIGH}░░"
    assert (LOW, "$foreground on blue") in bar


def test_what_needs_more_than_there_is_shows_the_limit_within_the_bar() -> None:
    bar = list(stacked((Share(20, "red"),), 10, 10))

    assert text(bar) == f"█████{LIMIT}████"
    assert (LIMIT, "$error on red") in bar


def test_a_bar_is_as_wide_as_asked_for_at_any_scale() -> None:
    widths = {len(text(stacked(PARTS, capacity, 13, (1, capacity * 1.1)))) for capacity in (1, 3, 6, 7, 1000)}

    assert widths == {13}
