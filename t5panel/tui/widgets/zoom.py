"""The part of a run's steps that a plot shows."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST = 8.0
"""Steps that are always in view."""


@dataclass(frozen=True, slots=True)
class Zoom:
    """Steps from `low` to `high`. At the `live` end of a run the newest step is the last one in view."""

    low: float
    high: float
    live: bool

    @property
    def length(self) -> float:
        """Steps in view."""
        return self.high - self.low


def whole(first: int, last: int) -> Zoom:
    """All of a run."""
    return Zoom(first, max(last, first + SHORTEST), live=True)


def zoomed(view: Zoom, run: Zoom, factor: float, at: float | None) -> Zoom | None:
    """`factor` times as many steps around `at`, else around the live end or the middle; None when that is all."""
    length = max(SHORTEST, view.length * factor)
    if length >= run.length:
        return None
    fixed = at if at is not None else view.high if view.live else (view.low + view.high) / 2
    share = (fixed - view.low) / view.length
    return _inside(fixed - share * length, length, run)


def panned(view: Zoom, run: Zoom, share: float) -> Zoom:
    """The same length, moved by a share of it."""
    return _inside(view.low + share * view.length, view.length, run)


def followed(view: Zoom, run: Zoom) -> Zoom:
    """The same view after the run grew."""
    return _inside(run.high - view.length, view.length, run) if view.live else view


def revealed(view: Zoom, run: Zoom, step: float) -> Zoom:
    """The same length, moved as little as shows a step."""
    if view.low <= step <= view.high:
        return view
    return _inside(step if step < view.low else step - view.length, view.length, run)


def _inside(low: float, length: float, run: Zoom) -> Zoom:
    low = max(run.low, min(low, run.high - length))
    return Zoom(low, low + length, live=low + length >= run.high)
