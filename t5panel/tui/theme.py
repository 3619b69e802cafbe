"""The panel's colours: the palette of Okabe and Ito (2008), told apart with any colour vision."""

from __future__ import annotations

from textual.theme import Theme

SERIES = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")
"""Colours of the series of a plot, in their order. Source: Okabe and Ito, Color Universal Design."""

THEME = Theme(
    name="t5panel",
    primary="#56B4E9",
    secondary="#CC79A7",
    accent="#E69F00",
    warning="#E69F00",
    error="#E8743B",
    success="#2BB58A",
    foreground="#D9E0E8",
    background="#0D1117",
    surface="#151B23",
    panel="#232C38",
    dark=True,
    variables={
        **{f"series-{number}": colour for number, colour in enumerate(SERIES)},
        "rule": "#3B4757",
        "quiet": "#8593A3",
        "alarm": "#B3261E",
        "caution": "#F0E442",
        "footer-background": "#151B23",
        "footer-key-foreground": "#E69F00",
        "footer-description-foreground": "#B6C0CC",
        "input-selection-background": "#56B4E9 35%",
        "scrollbar": "#3B4757",
        "scrollbar-background": "#0D1117",
        "scrollbar-corner-color": "#0D1117",
    },
)
"""The error and success colours are Okabe and Ito's vermillion and bluish green, lightened to read on black."""
