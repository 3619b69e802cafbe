"""The panel's colours on a dark and on a light screen, and by the terminal's own sixteen."""

from __future__ import annotations

from collections.abc import Sequence

from textual.theme import BUILTIN_THEMES, Theme

DARK_SERIES = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")
"""Colours of the series of a plot, in their order. Source: Okabe and Ito (2008), Color Universal Design."""
LIGHT_SERIES = ("#0072B2", "#B87700", "#00845F", "#B0578A", "#857B00", "#3A8DC0", "#D55E00")
"""The same hues, darkened where white would swallow them: each is told from white at 3:1 or better."""
ANSI_SERIES = ("ansi_cyan", "ansi_yellow", "ansi_green", "ansi_magenta", "ansi_red", "ansi_blue", "ansi_bright_black")
SERIES = len(DARK_SERIES)


def series_variables(colours: Sequence[str]) -> dict[str, str]:
    """`$series-0` and so on."""
    return {f"series-{number}": colour for number, colour in enumerate(colours)}


DARK = Theme(
    name="t5panel-dark",
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
        **series_variables(DARK_SERIES),
        "series-faint": "#56B4E9 45%",
        "part-overhead": "#D9E0E8 45%",
        "part-context": "#D9E0E8 25%",
        "rule": "#3B4757",
        "quiet": "#8593A3",
        "ink": "#0D1117",
        "alarm": "#B3261E",
        "alarm-ink": "#FFFFFF",
        "caution": "#F0E442",
        "chosen": "#56B4E9 30%",
        "chosen-ink": "#D9E0E8",
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

LIGHT = Theme(
    name="t5panel-light",
    primary="#0067A3",
    secondary="#B0578A",
    accent="#8F5B00",
    warning="#8F5B00",
    error="#B64A00",
    success="#006B4D",
    foreground="#1F2933",
    background="#FBFCFD",
    surface="#EEF1F4",
    panel="#DFE5EB",
    dark=False,
    variables={
        **series_variables(LIGHT_SERIES),
        "series-faint": "#0072B2 45%",
        "part-overhead": "#1F2933 45%",
        "part-context": "#1F2933 25%",
        "rule": "#B4C0CC",
        "quiet": "#5A6775",
        "ink": "#FFFFFF",
        "alarm": "#B3261E",
        "alarm-ink": "#FFFFFF",
        "caution": "#8F5B00",
        "chosen": "#0072B2 20%",
        "chosen-ink": "#1F2933",
        "footer-background": "#EEF1F4",
        "footer-key-foreground": "#8F5B00",
        "footer-description-foreground": "#3F4B57",
        "input-selection-background": "#0072B2 25%",
        "scrollbar": "#B4C0CC",
        "scrollbar-background": "#FBFCFD",
        "scrollbar-corner-color": "#FBFCFD",
    },
)

ANSI = Theme(
    name="t5panel-ansi",
    ansi=True,
    primary="ansi_cyan",
    secondary="ansi_magenta",
    accent="ansi_yellow",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    variables={
        **BUILTIN_THEMES["ansi-dark"].variables,
        **series_variables(ANSI_SERIES),
        "series-faint": "ansi_blue",
        "part-overhead": "ansi_white",
        "part-context": "ansi_bright_black",
        "rule": "ansi_bright_black",
        "quiet": "ansi_default",
        "ink": "ansi_black",
        "alarm": "ansi_red",
        "alarm-ink": "ansi_bright_white",
        "caution": "ansi_yellow",
        "chosen": "ansi_blue",
        "chosen-ink": "ansi_bright_white",
        "footer-background": "ansi_default",
        "footer-key-foreground": "ansi_yellow",
        "footer-description-foreground": "ansi_default",
        "block-cursor-background": "ansi_blue",
        "block-cursor-foreground": "ansi_bright_white",
        "input-cursor-background": "ansi_default",
        "input-cursor-foreground": "ansi_default",
        "input-cursor-text-style": "reverse",
        "input-selection-background": "ansi_blue",
        "input-selection-foreground": "ansi_bright_white",
        "scrollbar": "ansi_bright_black",
        "scrollbar-background": "ansi_default",
        "scrollbar-corner-color": "ansi_default",
    },
)
"""For terminals of 16 colours, and for those who chose theirs with care."""

THEMES = (DARK, LIGHT, ANSI)
OWN_VARIABLES = ("series-", "part-", "rule", "quiet", "ink", "alarm", "caution", "chosen")


def own_variables(theme: Theme) -> dict[str, str]:
    """Our own colours under any theme of Textual's: those of ours that is most like it."""
    like = ANSI if theme.ansi else DARK if theme.dark else LIGHT
    return {name: colour for name, colour in like.variables.items() if name.startswith(OWN_VARIABLES)}
