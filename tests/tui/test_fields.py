"""The form is made from RunSpec, and gives back what RunSpec takes."""

from __future__ import annotations

import pytest

from t5panel.errors import UsageError
from t5panel.presets import flat_keys, load_preset
from t5panel.tui.fields import CHOSEN_ELSEWHERE, PRICE, SAMPLES, FormField, form_fields, read, text_of, value_at

FIELDS = {field.key: field for field in form_fields(sharded=True)}


def test_every_setting_of_a_run_can_be_reached() -> None:
    keys = {key for key, _ in flat_keys()} - set(CHOSEN_ELSEWHERE)

    assert keys <= set(FIELDS)


def test_batch_and_accumulation_come_first() -> None:
    assert [field.label for field in form_fields(sharded=False)][:3] == [
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "num_gpus",
    ]


def test_every_setting_explains_itself() -> None:
    assert [field.key for field in FIELDS.values() if not field.help] == []


@pytest.mark.parametrize("preset", ["deepspeed", "trainer", "manual"])
def test_what_the_form_shows_reads_back_as_the_same_preset(preset: str) -> None:
    spec = load_preset(preset).spec
    settings = [field for field in form_fields(sharded=preset == "deepspeed") if field.key not in (PRICE, SAMPLES)]
    shown = {field: text_of(value_at(spec, field.key)) for field in settings}

    again = load_preset(preset, {field.key: read(field, text) for field, text in shown.items()})

    assert again.spec == spec


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.learning_rate", "3e-4", 3e-4),
        ("train.per_device_train_batch_size", "0x", "0x"),
        ("train.max_steps", "", None),
        ("data.prompt_column", "12", "12"),
        ("gpus", "0,2", [0, 2]),
        ("train.bf16", "true", True),
        ("deepspeed.zero_optimization.stage", "3", 3),
        ("device", "cpu", "cpu"),
    ],
)
def test_a_typed_text_has_the_type_of_its_setting(key: str, text: str, value: object) -> None:
    assert read(FIELDS[key], text) == value


def test_a_text_that_is_no_value_at_all_is_a_fault_with_its_place() -> None:
    field: FormField = FIELDS["deepspeed"]

    with pytest.raises(UsageError, match="deepspeed"):
        read(field, "{zero_optimization: [")
