"""A terminal gets the theme that its colours can show."""

from __future__ import annotations

import pytest

from t5panel.tui import app
from t5panel.tui.app import run_panel
from t5panel.tui.taste import remember_theme
from t5panel.wish import Wish

WISH = Wish("deepspeed", {}, None)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The themes of panels that were opened."""
    themes: list[str] = []
    monkeypatch.setattr(app.PanelApp, "run", lambda panel: themes.append(panel.theme))
    for name in ("COLORTERM", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    return themes


@pytest.mark.parametrize(
    ("term", "colorterm", "theme"),
    [
        ("xterm-256color", "truecolor", "t5panel-dark"),
        ("xterm-256color", "", "t5panel-dark"),
        ("xterm-16color", "", "t5panel-ansi"),
        ("linux", "", "t5panel-ansi"),
        ("dumb", "", "t5panel-ansi"),
    ],
)
def test_few_colours_are_the_terminals_own(
    term: str, colorterm: str, theme: str, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLORTERM", colorterm)

    run_panel(WISH, plain=False)

    assert opened == [theme]


def test_what_was_chosen_goes_before_what_the_terminal_has(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "linux")
    remember_theme("t5panel-light")
    run_panel(WISH, plain=False)
    monkeypatch.setenv("TEXTUAL_THEME", "nord")
    run_panel(WISH, plain=False)

    assert opened == ["t5panel-light", "nord"]
