"""Models start where a fresh or a trained T5 should start."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors.torch
import torch
from transformers import T5ForConditionalGeneration

from t5panel.contract.shapes import SHAPES
from t5panel.contract.spec import RunSpec, TrainSpec
from t5panel.trainers.deepspeed import engine_config
from t5panel.trainers.manual import load_weights
from t5panel.trainers.model import build_model, config_of
from t5panel.trainers.optim import build_optimizer

CPU = torch.device("cpu")


def spec_of(name: str, *, from_scratch: bool = False, **train: Any) -> RunSpec:  # noqa: ANN401
    return RunSpec.model_validate(
        {
            "method": "manual",
            "launcher": "torchrun",
            "model": {"name_or_path": name, "from_scratch": from_scratch},
            "train": {"gradient_checkpointing": False, **train},
        }
    )


def first_loss(model: Any) -> float:  # noqa: ANN401
    """Mean loss per token of a model on random tokens, without dropout."""
    torch.manual_seed(0)
    ids = torch.randint(3, 300, (4, 32))
    with torch.no_grad():
        return float(model.eval()(input_ids=ids, labels=ids.flip(0)).loss)


@pytest.mark.parametrize("name", ["tiny", "t5-small", "mt5-small", "umt5-small"])
def test_a_fresh_model_starts_near_a_uniform_guess(name: str) -> None:
    model = build_model(spec_of(f"builtin:{name}"), CPU)

    assert first_loss(model) < math.log(SHAPES[name].vocab_size) + 1.5


@pytest.fixture
def untied(tmp_path: Path) -> Path:
    """A folder as T5 v1.1 and mT5 are published: a head of its own, unscaled outputs, an old config."""
    torch.manual_seed(1)
    folder = tmp_path / "untied"
    T5ForConditionalGeneration(config_of(SHAPES["tiny"])).save_pretrained(folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = 0.05 * torch.randn_like(weights["shared.weight"])
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config["scale_decoder_outputs"]
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return folder


def test_a_published_head_is_kept_saved_and_resumed(untied: Path, tmp_path: Path) -> None:
    tuned = build_model(spec_of(str(untied)), CPU)
    with torch.no_grad():
        tuned.lm_head.weight.add_(1)
    tuned.save_pretrained(tmp_path / "checkpoint")

    resumed = build_model(spec_of(str(untied)), CPU)
    load_weights(resumed, tmp_path / "checkpoint")

    assert not tuned.config.scale_decoder_outputs
    assert torch.equal(resumed.lm_head.weight, tuned.lm_head.weight)
    assert torch.equal(resumed.shared.weight, tuned.shared.weight)
    assert not torch.equal(resumed.lm_head.weight, resumed.shared.weight)


def test_from_scratch_takes_the_shape_but_neither_weights_nor_the_unscaled_head(untied: Path) -> None:
    trained = build_model(spec_of(str(untied)), CPU)
    fresh = build_model(spec_of(str(untied), from_scratch=True), CPU)

    assert fresh.config.d_model == trained.config.d_model == 64
    assert not torch.equal(
        fresh.encoder.block[0].layer[0].SelfAttention.q.weight, trained.encoder.block[0].layer[0].SelfAttention.q.weight
    )
    assert first_loss(fresh) < math.log(384) + 1.5


def test_checkpointing_recomputes_every_block(untied: Path) -> None:
    model = build_model(spec_of(str(untied), gradient_checkpointing=True), CPU)
    calls: list[int] = []
    for block in (*model.encoder.block, *model.decoder.block):
        block.layer[-1].register_forward_pre_hook(lambda *_: calls.append(1))

    ids = torch.randint(3, 300, (2, 8))
    model(input_ids=ids, labels=ids).loss.backward()

    assert len(calls) == 2 * (2 + 2)


def test_training_builds_no_key_value_cache_and_dropout_is_the_specs(untied: Path) -> None:
    model = build_model(spec_of(str(untied), dropout_rate=0.25), CPU)

    ids = torch.randint(3, 300, (2, 8))
    output = model(input_ids=ids, labels=ids)

    assert output.past_key_values is None
    assert model.encoder.dropout.p == 0.25


def test_deepspeed_gets_what_train_says_and_nothing_automatic() -> None:
    spec = RunSpec.model_validate(
        {
            "method": "deepspeed",
            "launcher": "deepspeed",
            "train": {"max_grad_norm": 0.0},
            "deepspeed": {
                "train_batch_size": "auto",
                "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto", "overlap_comm": True},
            },
        }
    )

    config = engine_config(spec)

    assert config["gradient_clipping"] == 0.0
    assert config["zero_optimization"] == {"stage": 2, "overlap_comm": True}
    assert "auto" not in str(config)


@pytest.mark.parametrize(("optim", "fused"), [("adamw_torch_fused", True), ("adamw_torch", None)])
def test_adamw_is_fused_or_as_torch_chooses(
    optim: Literal["adamw_torch_fused", "adamw_torch"], fused: bool | None
) -> None:
    optimizer = build_optimizer(torch.nn.Linear(2, 2), TrainSpec(optim=optim))

    assert (optimizer.defaults["fused"], optimizer.defaults["foreach"]) == (fused, None)
