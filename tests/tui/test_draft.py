"""A draft is edits laid over one another, and a command line that says the same."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5panel.presets import load_preset, parse_assignments
from t5panel.session import resolved_preset
from t5panel.tui.draft import Draft, check, command_line, laid_over
from t5panel.tui.fields import flow_yaml
from t5panel.wish import Wish

from .panels import NO_CARDS

STAGE = "deepspeed.zero_optimization.stage"
WHOLE = {"zero_optimization": {"stage": 2}}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=4
)


def test_what_is_edited_last_holds() -> None:
    draft = Draft(Wish("deepspeed"), "deepspeed").with_value(STAGE, 1).with_value("deepspeed", WHOLE)
    again = draft.with_value(STAGE, 3)

    assert load_preset("deepspeed", draft.wish.overrides).spec.zero_stage == 2
    assert load_preset("deepspeed", again.wish.overrides).spec.zero_stage == 3


def test_an_edit_holds_against_the_command_line_too() -> None:
    given_first = Wish("deepspeed", {STAGE: 1, "deepspeed": WHOLE})

    draft = Draft(given_first, "deepspeed").with_value(STAGE, 3)

    assert load_preset("deepspeed", draft.wish.overrides).spec.zero_stage == 3


def test_only_the_setting_and_its_parts_are_replaced() -> None:
    settings = {"data.train": "a", "data.train_on": "b", "data.train.part": 1}

    assert list(laid_over(settings, "data.train", "c").items()) == [("data.train_on", "b"), ("data.train", "c")]


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_any_value_reads_back_from_its_text(value: Any) -> None:  # noqa: ANN401
    assert parse_assignments([f"key={flow_yaml(value)}"]) == {"key": value}


@pytest.mark.parametrize(
    "text", ["3e-4", "12", "true", "~", "2020-01-01", "0x10", "a, b", " x ", "x\ny", "x\x85", "'", '"']
)
def test_a_text_stays_a_text(text: str) -> None:
    assert parse_assignments([f"key={flow_yaml([text, {text: text}])}"]) == {"key": [text, {text: text}]}


def test_the_line_starts_the_same_run_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    overrides = {
        "train.learning_rate": 3e-5,
        "train.max_steps": None,
        "train.bf16": False,
        "gpus": [0, 2],
        "num_gpus": 2,
        "data.train": "my rows.jsonl",
        "data.prompt_column": "3e-4",
        "deepspeed": {"zero_optimization": {"stage": 1}, "communication_data_type": "fp32"},
    }
    wish = Wish("deepspeed", overrides, Path("next run"))
    spec = resolved_preset(wish, NO_CARDS).spec

    words = shlex.split(command_line(wish, spec))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = [word for before, word in pairwise(words) if before == "--set"]

    assert words[:4] == ["t5panel", "--preset", "deepspeed", "--no-ui"]
    assert words[-2:] == ["--run-dir", str(tmp_path / "next run")]
    assert resolved_preset(Wish(words[2], parse_assignments(said)), NO_CARDS).spec == spec


def test_the_line_names_a_preset_file_by_its_whole_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("method: manual\nlauncher: torchrun\n")
    wish = Wish("./mine.yaml")

    line = command_line(wish, load_preset(wish.preset).spec)

    assert line == f"t5panel --preset {tmp_path}/mine.yaml --no-ui"


def test_several_faults_of_one_setting_are_all_told_in_their_order() -> None:
    config = {"train_batch_size": 8, "steps_per_print": 10}
    draft = Draft(Wish("deepspeed", {"deepspeed": config, "launcher": "accelerate"}), "deepspeed")

    checked = check(draft, NO_CARDS, ("launcher", "deepspeed"))

    assert list(checked.faults) == ["launcher", "deepspeed"]
    assert "deepspeed.train_batch_size is filled in" in checked.faults["deepspeed"].message
    assert "deepspeed.steps_per_print is filled in" in checked.faults["deepspeed"].message
