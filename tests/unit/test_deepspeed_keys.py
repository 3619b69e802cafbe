"""DeepSpeed's JSON: every key is DeepSpeed's own, and `auto` stands only where something fills it in."""

from __future__ import annotations

from typing import Any

import pytest

from t5panel.contract.deepspeed_keys import AUTO_SIZES, TOP_LEVEL, ZERO
from t5panel.errors import UsageError
from t5panel.presets import load_preset


class Asked(dict[str, Any]):
    """A config that notes which of its keys is asked for."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content)
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        """As a dict does."""
        self.names.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401
        self.names.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.names.add(str(key))
        return super().__contains__(key)

    def keys(self) -> Any:  # noqa: ANN401
        """So that `key in config.keys()` is noted too."""
        return self

    def __copy__(self) -> Asked:
        return self


def test_the_keys_are_those_that_the_installed_deepspeed_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime import config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    asked = Asked({"train_batch_size": 2, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1})
    config.DeepSpeedConfig(asked)
    fields = DeepSpeedZeroConfig.model_fields

    assert asked.names - set(config._REMOVED_TOP_LEVEL_CONFIG_KEYS) == TOP_LEVEL
    assert {name for key, field in fields.items() for name in (key, field.alias) if name} == ZERO
    assert ZERO >= AUTO_SIZES


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("zero_optimizaton.stage", 3, "deepspeed.zero_optimizaton is no key of DeepSpeed; did you mean 'zero_optimi"),
        ("zero_optimization.stge", 3, "zero_optimization.stge is no key of DeepSpeed; did you mean 'stage'?"),
        ("zero_optimization.stage", "auto", "stage must be 0, 1, 2 or 3, not 'auto'"),
        ("zero_optimization.offload_optimizer", "cpu", "offload_optimizer must be a mapping such as {device: cpu}"),
        ("zero_optimization.overlap_comm", "auto", "deepspeed.zero_optimization.overlap_comm cannot be 'auto'"),
        ("prescale_gradients", "auto", "deepspeed.prescale_gradients cannot be 'auto'"),
        ("tensorboard", {"enabled": "auto"}, "deepspeed.tensorboard.enabled cannot be 'auto'"),
        ("steps_per_print", 10, "deepspeed.steps_per_print is filled in from train.*"),
    ],
)
def test_a_key_that_deepspeed_would_pass_over_is_refused(key: str, value: object, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_preset("deepspeed", {f"deepspeed.{key}": value})

    assert words in str(caught.value)


@pytest.mark.parametrize("key", ["train_batch_size", "bf16", "zero_optimization.reduce_bucket_size", "steps_per_print"])
def test_auto_is_taken_where_it_is_filled_in(key: str) -> None:
    assert load_preset("deepspeed", {f"deepspeed.{key}": "auto"}).spec.zero_stage == 2
