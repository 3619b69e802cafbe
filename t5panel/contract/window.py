"""A daily time window such as `22:00-08:00 Europe/Berlin`: when it is open and when that changes. Has no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FORM = re.compile(r"(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})(?:\s+(\S+))?")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """From `begin` to `end` by a wall clock, over midnight when `end` is earlier; `zone` None: this machine's."""

    begin: time
    end: time
    zone: str | None

    def is_open(self, now: float) -> bool:
        """Whether the window is open at a moment in unix seconds."""
        return any(begin <= now < end for begin, end in self._near(now))

    def next_opening(self, now: float) -> float:
        """When the window opens next, in unix seconds; `now` itself while it is open."""
        return now if self.is_open(now) else min(begin for begin, _ in self._near(now) if begin > now)

    def closing(self, now: float) -> float:
        """When the open window closes, in unix seconds; `now` itself while it is closed."""
        return max((end for begin, end in self._near(now) if begin <= now < end), default=now)

    def clock(self, moment: float) -> str:
        """A moment as `22:00`, by this window's clock."""
        return datetime.fromtimestamp(moment, self._zone()).strftime("%H:%M")

    def _near(self, now: float) -> list[tuple[float, float]]:
        """The windows of yesterday, today and the next two days, in unix seconds."""
        zone = self._zone()
        today = datetime.fromtimestamp(now, zone).date()
        over_midnight = _DAY if self.end <= self.begin else timedelta(0)

        def unix(day: date, clock: time) -> float:
            return datetime.combine(day, clock, zone).timestamp()

        days = [today + number * _DAY for number in range(-1, 3)]
        return [(unix(day, self.begin), unix(day + over_midnight, self.end)) for day in days]

    def _zone(self) -> tzinfo | None:
        return None if self.zone is None else ZoneInfo(self.zone)


def parse_window(text: str) -> Window:
    """`22:00-08:00`, with or without the name of a time zone behind it.

    Raises: ValueError with what is wrong.
    """
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no daily window; write it as 22:00-08:00 or 22:00-08:00 Europe/Berlin")
    try:
        begin, end = time(int(match[1]), int(match[2])), time(int(match[3]), int(match[4]))
    except ValueError as error:
        raise ValueError(f"{text!r} holds a time that no clock shows") from error
    if begin == end:
        raise ValueError(f"{text!r} begins and ends at the same time; leave it empty to train all day")
    if match[5] is not None:
        try:
            ZoneInfo(match[5])
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{match[5]!r} is no time zone; for example Europe/Berlin or Asia/Shanghai") from error
    return Window(begin, end, match[5])
