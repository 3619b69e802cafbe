"""A decoder-only model: LLaMA-Factory trains it in its own way; it is watched, stopped and resumed like the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from t5panel.contract.layout import RunDir
from t5panel.contract.llamafactory import arguments_file, output_folder
from t5panel.contract.records import Start
from t5panel.errors import PreflightError
from t5panel.llamafactory_config import read_config
from t5panel.monitor.runs import read_info, read_result
from t5panel.plan.planning import NOT_CHECKED
from t5panel.preflight.models import config_of
from t5panel.render.plan import plan_json, plan_lines
from t5panel.session import Wish, prospect, resume, start
from t5panel.tui.plan_text import plan_parts
from tests.trainers.runs import (
    assert_finished,
    finish,
    last_evaluation,
    losses,
    metrics,
    steps,
    stop_after,
    write_pairs,
)

STEPS, STOP_AT = 96, 3  # enough to be stopped in time: a step takes some hundredths of a second
LETTERS = "abcdef"
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
YAML: dict[str, Any] = {
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 4,
    "lora_target": "all",
    "additional_target": "embed_tokens,lm_head",
    "template": "empty",
    "dataset": "words",
    "cutoff_len": 32,
    "val_size": 40,
    "output_dir": "somewhere",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 3e-2,
    "lr_scheduler_type": "cosine",
    "max_steps": STEPS,
    "logging_steps": 1,
    "bf16": False,
    "use_cpu": True,
}
"""An adapter of a causal model: what no T5 is given."""


def write_decoder(folder: Path) -> Path:
    """A random LLaMA of two layers, whose tokens are letters."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *LETTERS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - no secret
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": len(vocabulary), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    LlamaForCausalLM(LlamaConfig(max_position_embeddings=64, **sizes, **tokens)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wish(tmp_path_factory: pytest.TempPathFactory, llamafactory: str) -> Wish:
    """What a user's YAML asks for, on two ranks."""
    folder = tmp_path_factory.mktemp("decoder")
    write_decoder(folder / "model")
    write_pairs(folder / "words.jsonl", [("abc" * 3, "fed" * 2), ("fed" * 2, "abcabc")] * 212)
    columns = {"prompt": "prompt", "response": "response"}
    register = {"words": {"file_name": "words.jsonl", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(register))
    given = {**YAML, "model_name_or_path": str(folder / "model"), "dataset_dir": str(folder)}
    (folder / "mine.yaml").write_text(yaml.safe_dump(given))
    config = read_config(str(folder / "mine.yaml"), lambda name, _download: config_of(name, {}))
    return Wish(llamafactory, {**config.overrides, "num_gpus": 2, "train.save_steps": None}, folder / "run")


@pytest.fixture(scope="module")
def run(wish: Wish) -> RunDir:
    """A run that was stopped on its way and has gone on to its end on one rank."""
    started = start(prospect(wish))
    stop_after(started, STOP_AT)
    assert finish(started).state.phase == "stopped"
    resume(started, {"num_gpus": 1, "train.gradient_accumulation_steps": 4})  # as many rows in a step
    assert_finished(finish(started))
    return started


def test_it_is_told_that_no_memory_plan_was_made(wish: Wish, run: RunDir) -> None:
    info, seen = read_info(run), prospect(Wish(wish.preset, wish.overrides))

    assert (info.plan["memory"], info.plan["verdict"]) == (NOT_CHECKED, "unchecked")
    assert info.spec["model"]["decoder_only"]
    assert plan_json(seen.plan, seen.command)["memory"] == NOT_CHECKED
    lines = list(plan_lines(seen.plan, seen.command))
    assert any(line.startswith("verdict ") and line.endswith(NOT_CHECKED) for line in lines)
    assert any(line.endswith("up to 32 tokens, prompt and answer together") for line in lines)
    assert (" NOT CHECKED ", "bold reverse $warning") in list(plan_parts("", seen.plan, ()))


def test_it_learns_by_its_own_yaml(run: RunDir) -> None:
    given, curve = yaml.safe_load(arguments_file(run).read_text()), losses(run)

    assert {key: given[key] for key in ("finetuning_type", "lora_rank", "template", "cutoff_len")} == {
        key: YAML[key] for key in ("finetuning_type", "lora_rank", "template", "cutoff_len")
    }
    assert curve[-1] < curve[0] / 2
    assert (last_evaluation(run).eval_loss or curve[0]) < curve[0] / 2
    assert {step.target_tokens for step in steps(run)} == {16 * 6}  # of the answers alone


def test_it_goes_on_from_the_checkpoint_of_its_stop(run: RunDir) -> None:
    starts, result = [metric for metric in metrics(run) if isinstance(metric, Start)], read_result(run)
    logged = [json.loads(line) for line in (output_folder(run) / "trainer_log.jsonl").read_text().splitlines()]
    stopped_at = starts[1].step

    assert STOP_AT <= stopped_at < STEPS
    assert [start.world_size for start in starts] == [2, 1]
    assert [step.step for step in steps(run)] == list(range(1, STEPS + 1))
    assert (run.checkpoints / f"checkpoint-{STEPS}" / "adapter_model.safetensors").is_file()
    assert losses(run)[stopped_at] < 0.9 * losses(run)[0]
    assert {line["current_steps"]: line["loss"] for line in logged if "loss" in line}[STEPS] == pytest.approx(
        losses(run)[-1], abs=1e-3
    )
    assert result is not None
    assert result.loss_first == losses(run)[0]


def test_an_encoder_decoder_is_never_trained_as_a_decoder(wish: Wish, tmp_path: Path) -> None:
    config = {"model_type": "t5", "is_encoder_decoder": True, "vocab_size": 384, "architectures": ["T5Model"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").touch()
    overrides = {**wish.overrides, "model.name_or_path": str(tmp_path), "model.tokenizer": "builtin:tiny"}

    with pytest.raises(PreflightError) as error:
        start(prospect(Wish(wish.preset, overrides)))

    assert "model.decoder_only" in [fault.where for fault in error.value.faults]
    assert any("shown the answers" in fault.message for fault in error.value.faults)
