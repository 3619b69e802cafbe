"""The model picker: what is chosen is what the run trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from t5panel.tui.screens.model_picker import ModelPicker
from t5panel.tui.screens.setup import SetupScreen

from .panels import THREE_NAMED_CARDS, panel, planned, screen_text, until

SIZE = (120, 40)
T5 = {"model_type": "t5", "vocab_size": 32128, "d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}


def fill_cache(cache: Path) -> None:
    """A hub cache with a T5, a BERT, and a T5 without weights."""
    for name, config, files in (
        ("google-t5--t5-base", T5, ("model.safetensors", "tokenizer.json")),
        ("google-bert--bert-base", {"model_type": "bert"}, ("model.safetensors",)),
        ("google--mt5-large", {**T5, "model_type": "mt5"}, ()),
    ):
        folder = cache / f"models--{name}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        for file in files:
            (folder / file).write_bytes(b"x" * 5_000_000)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache, and a folder of one's own beside it."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", "hf")
    fill_cache(tmp_path / "hf" / "hub")
    return tmp_path / "hf" / "hub"


async def opened(pilot: Pilot[None]) -> None:
    """The picker is open and lists what there is."""
    await planned(pilot)
    await pilot.press("m")
    await until(pilot, lambda: isinstance(pilot.app.screen, ModelPicker))
    await until(pilot, lambda: "num_layers" in screen_text(pilot))


@pytest.mark.usefixtures("cache")
async def test_it_lists_shapes_and_downloads_with_their_size_and_begins_at_the_present_one() -> None:
    async with panel(THREE_NAMED_CARDS).run_test(size=SIZE) as pilot:
        await opened(pilot)

        text = screen_text(pilot)

        assert "builtin:t5-large  738M" in text
        assert "google-t5/t5-base  223M" in text
        assert "✗ google-bert/bert-base" in text
        assert "223M parameters  t5" in text
        assert "starts from random weights" in text


@pytest.mark.usefixtures("cache")
async def test_a_downloaded_model_is_taken_and_one_that_cannot_be_trained_says_why() -> None:
    async with panel(THREE_NAMED_CARDS).run_test(size=SIZE) as pilot:
        await opened(pilot)
        picker = pilot.app.screen
        assert isinstance(picker, ModelPicker)
        names = [row.model.name if row.model else "" for row in picker._rows]

        options = picker.query_one(OptionList)
        options.highlighted = names.index("google-bert/bert-base")
        await pilot.press("enter")
        still_there = isinstance(pilot.app.screen, ModelPicker)
        await until(pilot, lambda: "a bert model" in screen_text(pilot))
        options.highlighted = names.index("google-t5/t5-base")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))

        assert still_there
        wish = pilot.app.screen._draft.wish  # type: ignore[attr-defined]
        assert wish.overrides == {"model.name_or_path": "google-t5/t5-base"}


@pytest.mark.usefixtures("cache")
async def test_folders_are_walked_to_a_model_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "models" / "mine"
    own.mkdir(parents=True)
    (own / "config.json").write_text(json.dumps(T5))
    (own / "model.safetensors").write_bytes(b"x")
    (own / "tokenizer.json").write_text("{}")
    async with panel(THREE_NAMED_CARDS).run_test(size=SIZE) as pilot:
        await opened(pilot)
        picker = pilot.app.screen
        assert isinstance(picker, ModelPicker)

        options = picker.query_one(OptionList)
        options.highlighted = next(place for place, row in enumerate(picker._rows) if row.name == "models/")
        await pilot.press("right")
        await until(pilot, lambda: any(row.model and row.model.name == str(own) for row in picker._rows))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))

        wish = pilot.app.screen._draft.wish  # type: ignore[attr-defined]
        assert wish.overrides == {"model.name_or_path": str(own)}
