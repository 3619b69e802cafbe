"""Shares as text: horizontal bars to an eighth of a cell."""

from __future__ import annotations

EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int) -> tuple[str, str]:
    """The full and the empty part of a bar of `width` cells; anything above nothing shows at least a sliver."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    full = "█" * whole + (EIGHTHS[rest] if rest else "")
    return full, "░" * (width - len(full))


def rail(share: float, width: int) -> tuple[str, str]:
    """The done and the open part of a thin progress line of `width` cells."""
    halves = round(min(max(share, 0.0), 1.0) * width * 2)
    whole, half = divmod(halves, 2)
    done = "━" * whole + "╸" * half
    return done, "─" * (width - len(done))
