"""The daily window: over midnight, in any zone, across the days when clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5panel.contract.window import Window, parse_window

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = parse_window("22:00-08:00 Europe/Berlin")
DAY = parse_window("9:00-21:00 Europe/Berlin")
MOMENTS = st.integers(min_value=1_600_000_000, max_value=2_000_000_000)
CLOCK = st.tuples(st.integers(0, 23), st.integers(0, 59))


def unix(text: str) -> float:
    """A moment by the clocks of Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        (NIGHT, "2026-11-24T21:59:59", False),
        (NIGHT, "2026-11-24T22:00:00", True),
        (NIGHT, "2026-11-25T03:00:00", True),
        (NIGHT, "2026-11-25T07:59:59", True),
        (NIGHT, "2026-11-25T08:00:00", False),
        (DAY, "2026-11-24T08:59:59", False),
        (DAY, "2026-11-24T12:00:00", True),
        (DAY, "2026-11-24T21:00:00", False),
    ],
)
def test_it_is_open_from_its_begin_up_to_its_end(window: Window, moment: str, is_open: bool) -> None:
    assert window.is_open(unix(moment)) is is_open


def test_it_opens_and_closes_when_the_clock_on_the_wall_says_so() -> None:
    assert NIGHT.next_opening(unix("2026-11-24T12:00:00")) == unix("2026-11-24T22:00:00")
    assert NIGHT.closing(unix("2026-11-24T23:00:00")) == unix("2026-11-25T08:00:00")
    assert DAY.next_opening(unix("2026-11-24T22:00:00")) == unix("2026-11-25T09:00:00")
    assert NIGHT.clock(unix("2026-11-24T22:00:00")) == "22:00"


def test_a_night_with_a_change_of_clocks_is_an_hour_longer_or_shorter() -> None:
    autumn = NIGHT.closing(unix("2026-10-24T22:00:00")) - unix("2026-10-24T22:00:00")
    spring = NIGHT.closing(unix("2026-03-28T22:00:00")) - unix("2026-03-28T22:00:00")

    assert (autumn, spring) == (11 * 3600, 9 * 3600)


@given(begin=CLOCK, end=CLOCK, now=MOMENTS)
def test_after_the_next_opening_it_is_open_and_at_its_closing_it_is_not(
    begin: tuple[int, int], end: tuple[int, int], now: int
) -> None:
    if begin == end:
        return
    window = parse_window(f"{begin[0]}:{begin[1]:02d}-{end[0]}:{end[1]:02d} UTC")

    opening = window.next_opening(now)

    assert opening >= now
    assert window.is_open(opening)
    assert opening < window.closing(opening) <= opening + 24 * 3600
    assert not window.is_open(window.closing(opening))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no daily window"),
        ("22-8", "no daily window"),
        ("25:00-08:00", "no clock shows"),
        ("08:00-08:00", "same time"),
        ("22:00-08:00 Mars/Base", "no time zone"),
        ("22:00-08:00 ../etc/passwd", "no time zone"),
    ],
)
def test_a_text_that_is_no_window_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_window(text)
