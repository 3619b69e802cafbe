"""Presets: layering, faults and the shipped files."""

from __future__ import annotations

from pathlib import Path

import pytest

from t5panel.errors import UsageError
from t5panel.presets import load_preset, parse_assignments, preset_names
from t5panel.session import save_as
from t5panel.wish import Wish


@pytest.mark.parametrize(
    ("name", "formula"),
    [("manual", (2, 16, 96)), ("trainer", (16, 8, 384)), ("deepspeed", (8, 16, 384)), ("llamafactory", (8, 16, 384))],
)
def test_shipped_presets_carry_the_batch_settings_asked_for(name: str, formula: tuple[int, int, int]) -> None:
    spec = load_preset(name).spec

    assert (
        spec.train.per_device_train_batch_size,
        spec.train.gradient_accumulation_steps,
        spec.effective_batch,
    ) == formula
    assert spec.train.bf16
    assert spec.train.gradient_checkpointing


def test_shipped_presets_are_listed_in_a_fixed_order() -> None:
    assert preset_names()[:4] == ("deepspeed", "trainer", "manual", "llamafactory")


def test_every_fault_of_a_preset_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "method: manual\nlauncher: torchrun\nsummary: 3\n"
        "train: {per_device_train_batch_sise: 4, seed: -1, bf16: maybe}\n"
    )

    with pytest.raises(UsageError) as caught:
        load_preset(str(path))

    text = str(caught.value)
    assert "per_device_train_batch_sise: unknown key" in text
    assert "train.seed" in text
    assert "train.bf16" in text
    assert "summary" in text
    assert any("per_device_train_batch_size" in fault.hint for fault in caught.value.faults)


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert parse_assignments(["train.learning_rate=3e-4"]) == {"train.learning_rate": 3e-4}


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own presets."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "t5panel" / "presets"


def test_a_saved_preset_means_the_same_from_any_folder(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pairs.jsonl").write_text("{}\n")
    changes = {"data.train": "pairs.jsonl", "train.learning_rate": 3e-5, "deepspeed.zero_optimization.stage": 3}

    path = save_as("对话-v2", Wish("deepspeed", changes))
    monkeypatch.chdir("/")
    saved = load_preset("对话-v2")

    assert path == own_home / "对话-v2.yaml"
    edited = load_preset("deepspeed", changes, {"data.train": str(tmp_path / "pairs.jsonl")})
    assert saved.spec == edited.spec
    assert saved.spec.data.train == str(tmp_path / "pairs.jsonl")
    assert not saved.shipped
    assert preset_names()[-1] == "对话-v2"
    assert "per_device_eval_batch_size" not in path.read_text(encoding="utf-8")  # a default stays one


@pytest.mark.parametrize("name", ["deepspeed", "../elsewhere", "a/b", "", ".hidden", "two words"])
def test_a_name_that_cannot_be_one_saves_nothing(own_home: Path, name: str) -> None:
    with pytest.raises(UsageError):
        save_as(name, Wish("manual"))

    assert not own_home.exists()
