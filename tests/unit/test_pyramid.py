"""The extremes of a long series are those of its values."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from t5panel.monitor.pyramid import BASE, FAN, NOTHING, Pyramid, extremes, level_of

VALUES = st.lists(st.floats(width=32) | st.sampled_from([math.nan, 0.0, 1.0]), max_size=20 * BASE)


def whole(values: list[float]) -> list[float]:
    """As many of them as fill whole entries."""
    return values[: len(values) // BASE * BASE]


def built(values: list[float]) -> Pyramid:
    """A pyramid over the whole entries of these values."""
    pyramid = Pyramid()
    pyramid.extend(whole(values))
    return pyramid


@settings(max_examples=50)
@given(VALUES, st.integers(0, 3), st.integers(0, 40), st.integers(0, 40))
def test_extremes_of_any_stretch_at_any_level_are_those_of_its_values(
    values: list[float], level: int, begin: int, length: int
) -> None:
    pyramid = built(values)
    size = BASE * FAN**level

    found = pyramid.between(begin, begin + length, level)

    assert found == extremes(whole(values)[begin * size : (begin + length) * size])


@settings(max_examples=50)
@given(VALUES, VALUES, st.integers(0, 40))
def test_a_pyramid_cut_and_continued_is_the_one_built_anew(
    values: list[float], others: list[float], length: int
) -> None:
    pyramid = built(values)
    length = min(length, len(pyramid))

    pyramid.cut(length)
    for at in range(0, len(others) - BASE + 1, BASE):
        pyramid.extend(others[at : at + BASE])
    anew = built(values[: length * BASE] + others)

    assert [pyramid.between(begin, end, level) for level in range(4) for begin in range(9) for end in range(9)] == [
        anew.between(begin, end, level) for level in range(4) for begin in range(9) for end in range(9)
    ]


def test_what_is_not_finite_counts_as_no_value() -> None:
    assert extremes([math.nan, 2.0, math.inf, 1.0, -math.inf]) == (1.0, 2.0)
    assert extremes([math.nan]) == extremes([]) == NOTHING


def test_the_level_grows_with_the_entries_of_a_column() -> None:
    assert [level_of(entries) for entries in (0.5, 1, 7, 8, 31, 32, 128)] == [0, 0, 0, 1, 1, 2, 3]
