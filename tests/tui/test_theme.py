"""Themes: readable, chosen by key, remembered; and without any colour at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.color import Color
from textual.theme import Theme

from t5panel.contract.layout import taste_file
from t5panel.tui.app import PanelApp
from t5panel.tui.screens.run import RunScreen
from t5panel.tui.taste import remember_theme, remembered_theme
from t5panel.tui.theme import ANSI, DARK, LIGHT, SERIES
from t5panel.wish import Wish

from .panels import panel, planned, screen_text, until
from .recorded import living

TEXTS = ("primary", "accent", "warning", "error", "success", "foreground")
WISH = Wish("deepspeed", {}, None)
GRAPHICS = tuple(f"series-{number}" for number in range(SERIES))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours. Source: WCAG 2.2, relative luminance."""
    light, dark = sorted((luminance(Color.parse(colour)) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: Color) -> float:
    parts = [value / 255 for value in (colour.r, colour.g, colour.b)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_texts_and_lines_stand_out_from_the_background(theme: Theme) -> None:
    background, own = str(theme.background), theme.variables
    texts = {name: str(getattr(theme, name)) for name in TEXTS} | {"quiet": own["quiet"]}

    faint = {name: contrast(colour, background) for name, colour in texts.items() if contrast(colour, background) < 4.5}
    thin = {name: contrast(own[name], background) for name in GRAPHICS if contrast(own[name], background) < 3.0}

    assert (faint, thin) == ({}, {})


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_texts_on_bright_bars_can_be_read(theme: Theme) -> None:
    own = theme.variables
    pairs = [(theme.primary, own["ink"]), (theme.warning, own["ink"]), (own["caution"], own["ink"])]

    assert min(contrast(str(bar), str(text)) for bar, text in [*pairs, (own["alarm"], own["alarm-ink"])]) >= 4.5


async def test_a_key_walks_through_the_themes_and_the_last_one_is_remembered() -> None:
    async with panel().run_test(size=(80, 24)) as pilot:
        await planned(pilot)
        before = pilot.app.theme

        await pilot.press("T")
        await until(pilot, lambda: remembered_theme() == LIGHT.name)
        await pilot.press("T")
        await until(pilot, lambda: remembered_theme() == ANSI.name)

        assert before == DARK.name
        assert "deepspeed" in screen_text(pilot)
    assert PanelApp(WISH, theme=remembered_theme()).theme == ANSI.name


async def test_a_theme_of_textual_has_our_colours_too(home: Path) -> None:
    living(home, cards=3)
    app = panel()
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.view is not None)

        app.theme = "solarized-light"
        await pilot.pause(0.1)

        assert app.theme_variables["series-0"] == LIGHT.variables["series-0"]
        assert "card 2" in screen_text(pilot)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"theme": 3}', '{"theme": "of another version"}'])
def test_a_file_that_says_nothing_useful_is_as_good_as_none(text: str) -> None:
    taste_file().parent.mkdir(parents=True)
    taste_file().write_text(text)

    assert PanelApp(WISH, theme=remembered_theme()).theme == DARK.name


def test_what_is_remembered_is_a_small_json_file() -> None:
    remember_theme(LIGHT.name)

    assert json.loads(taste_file().read_text()) == {"theme": "t5panel-light"}


async def test_without_colours_every_screen_still_says_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living(home, cards=3)
    monkeypatch.setenv("NO_COLOR", "1")
    app = panel()
    async with app.run_test(size=(120, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.view is not None)

        strips = app.screen._compositor.render_strips()
        tones = {
            colour.get_truecolor()
            for strip in strips
            for segment in strip
            if segment.style is not None
            for colour in (segment.style.color, segment.style.bgcolor)
            if colour is not None
        }

        assert {len(set(tone)) for tone in tones} == {1}, "greys alone"
        assert "━ ━ ━ card 2" in screen_text(pilot)
