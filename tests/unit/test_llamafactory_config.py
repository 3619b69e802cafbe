"""A LLaMA-Factory YAML as people have it: taken unchanged, or with every needed change named at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from t5panel.contract.environments import constraints_file
from t5panel.contract.layout import RunDir
from t5panel.contract.llamafactory import arguments, engine_settings, files_of
from t5panel.contract.llamafactory_keys import NEEDED, PASSED
from t5panel.errors import Fault, UsageError
from t5panel.llamafactory_config import DEFAULTS, OURS, RENAMED, TRAIN_KEYS, Config
from t5panel.llamafactory_config import read_config as read_any
from t5panel.presets import load_preset
from t5panel.session import Wish, prospect

RUN = RunDir(Path("/runs/one"))
KEYS = set(constraints_file("llamafactory").with_name("llamafactory-keys.txt").read_text().split())
USERS: dict[str, Any] = {
    "model_name_or_path": "google-t5/t5-base",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "full",
    "deepspeed": "ds_z2.json",
    "dataset_dir": "data",
    "dataset": "mine",
    "template": "default",
    "cutoff_len": 512,
    "packing": False,
    "preprocessing_num_workers": 4,
    "output_dir": "runs/t5base",
    "overwrite_output_dir": True,
    "logging_steps": 10,
    "save_steps": 500,
    "save_total_limit": 3,
    "plot_loss": True,
    "report_to": "none",
    "include_num_input_tokens_seen": True,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "learning_rate": 3.0e-4,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "max_grad_norm": 1.0,
    "bf16": True,
    "disable_gradient_checkpointing": True,
    "ddp_timeout": 180000000,
    "val_size": 0.02,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "per_device_eval_batch_size": 8,
}
"""The kind of file that trains T5-base on three cards."""
ENGINE = {"train_batch_size": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 2}}


def read_config(path: str) -> Config:
    """What a YAML asks for, where nothing is known of its model."""
    return read_any(path, lambda _name, _download: None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a user has a data set, its register and DeepSpeed's JSON."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.json").write_text('[{"instruction": "a", "input": "b", "output": "c"}]')
    (tmp_path / "data/dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    (tmp_path / "ds_z2.json").write_text(json.dumps(ENGINE))
    return tmp_path


def config(folder: Path, **changes: object) -> str:
    """The path of the user's YAML with other values; None leaves a key out."""
    body = {key: value for key, value in {**USERS, **changes}.items() if value is not None}
    (folder / "mine.yaml").write_text(yaml.safe_dump(body))
    return str(folder / "mine.yaml")


def test_a_usual_yaml_is_taken_unchanged(folder: Path) -> None:
    read = read_config(config(folder))

    spec = load_preset("llamafactory", read.overrides).spec
    given = arguments(spec, RUN)

    kept = {*USERS} - {*OURS, "deepspeed", "logging_steps", "save_steps", "save_total_limit", "eval_strategy"}
    kept -= {"eval_steps", "dataset_dir"}  # and its template is the one that changes nothing
    assert {key: given[key] for key in kept} == {key: USERS[key] for key in kept}
    assert given["dataset_dir"] == str(folder / "data")
    assert (spec.train.logging_steps, spec.train.save_steps, spec.train.eval_steps) == (10, 500, 500)
    assert spec.deepspeed == {"zero_optimization": {"stage": 2}}
    assert spec.data.train == str(folder / "data/mine.json")
    assert [note.split()[0] for note in read.notes] == ["output_dir", "overwrite_output_dir"]


def test_outdated_names_are_taken_and_told(folder: Path) -> None:
    read = read_config(
        config(
            *(folder,),
            eval_strategy=None,
            evaluation_strategy="steps",
            warmup_steps=None,
            warmup_ratio=0.1,
            deepspeed=None,
        )
    )

    assert (read.overrides["train.eval_steps"], read.overrides["train.warmup_steps"]) == (500, 0.1)
    assert read.overrides["deepspeed"] is None
    assert "evaluation_strategy is outdated: taken as eval_strategy: steps" in read.notes
    assert "warmup_ratio is outdated: taken as warmup_steps: 0.1" in read.notes


def test_a_yaml_of_a_decoder_is_llamafactorys_own_business(folder: Path) -> None:
    theirs = {"finetuning_type": "lora", "lora_rank": 8, "template": "qwen", "packing": True, "train_on_prompt": True}
    others = {"optim": "paged_adamw_8bit", "predict_with_generate": True, "learning_rat": 1}
    decoder = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}

    with pytest.raises(UsageError) as error:
        read_any(config(folder, **theirs, **others), lambda _name, _download: decoder)
    read = read_any(config(folder, **theirs, optim="paged_adamw_8bit"), lambda _name, _download: decoder)
    spec = load_preset("llamafactory", read.overrides).spec
    given = arguments(spec, RUN)

    assert [fault.where.rpartition(": ")[2] for fault in error.value.faults] == ["learning_rat"]
    assert spec.model.decoder_only
    assert {key: given[key] for key in (*theirs, "optim")} == {**theirs, "optim": "paged_adamw_8bit"}
    assert (given["cutoff_len"], given["stage"], given["ignore_data_skip"]) == (512, "sft", False)
    assert (spec.train.learning_rate, spec.train.eval_steps) == (3.0e-4, 500)


def test_keys_for_decoders_wait_in_a_preset_until_the_model_is_looked_at() -> None:
    assert load_preset("llamafactory", {"llamafactory.lora_rank": 8}).spec.llamafactory == {"lora_rank": 8}


@pytest.mark.parametrize(("changes", "asked"), [({}, [False]), ({"template": "qwen"}, [False, True])])
def test_the_hub_is_asked_what_a_model_is_only_where_no_t5_can_be_meant(
    folder: Path, changes: dict[str, object], asked: list[bool]
) -> None:
    downloads: list[bool] = []

    read_any(config(folder, **changes), lambda _name, download: downloads.append(download))

    assert downloads == asked


def test_a_stage_that_llamafactory_cannot_resume_is_refused(folder: Path) -> None:
    decoder = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}

    with pytest.raises(UsageError, match=r"stage ppo cannot be resumed by LLaMA-Factory"):
        load_preset("llamafactory", read_any(config(folder, stage="ppo"), lambda _name, _download: decoder).overrides)


def test_what_was_of_llmtuner_is_taken_told_or_named(folder: Path) -> None:
    read = read_config(config(folder, packing=None, sft_packing=False, save_safetensors=True))
    with pytest.raises(UsageError) as error:
        read_config(config(folder, command="deepspeed --num_gpus=3 -m llmtuner.cli train mine.yaml"))

    assert "sft_packing is outdated: taken as packing: False" in read.notes
    assert "save_safetensors is outdated and has no effect: weights are always saved as safetensors" in read.notes
    [fault] = error.value.faults
    assert fault.message.startswith("names llmtuner, as LLaMA-Factory was called until 0.7")
    assert fault.hint == "remove it: t5panel starts LLaMA-Factory 0.9.5 itself"


def test_every_needed_change_is_named_at_once(folder: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_config(
            config(folder, learning_rat=1, packing=True, stage="pt", quantization_bit=4, dataset="yours", fp16=True)
        )

    places = [fault.where.rpartition(": ")[2] for fault in error.value.faults]
    assert places == ["learning_rat", "stage", "packing", "fp16", "dataset", "quantization_bit"]
    assert error.value.faults[0].hint == "did you mean learning_rate?"
    assert all(fault.hint for fault in error.value.faults)


@pytest.mark.parametrize(("key", "value"), [("stage", "pt"), ("packing", True), ("train_on_prompt", True)])
def test_a_start_that_would_train_a_t5_as_a_decoder_is_refused_with_the_reason(
    folder: Path, key: str, value: object
) -> None:
    with pytest.raises(UsageError) as error:
        read_config(config(folder, **{key: value}))

    [fault] = error.value.faults
    assert NEEDED[key][1] in fault.message


@pytest.mark.parametrize(("key", "value"), [("stage", "pt"), ("packing", True), ("finetuning_type", "lora")])
def test_a_preset_that_would_train_a_t5_as_a_decoder_is_refused_with_the_reason(key: str, value: object) -> None:
    with pytest.raises(UsageError) as error:
        prospect(Wish("llamafactory", {f"llamafactory.{key}": value}))

    [fault] = error.value.faults
    assert fault == Fault(f"llamafactory.{key}", f"is {value}, for an encoder-decoder: {NEEDED[key][1]}")


def test_a_template_for_chats_has_no_effect_on_a_t5_and_is_told(folder: Path) -> None:
    read = read_config(config(folder, template="qwen"))

    assert arguments(load_preset("llamafactory", read.overrides).spec, RUN)["template"] == "default"
    assert "template: qwen has no effect: T5 reads the prompt as it is" in read.notes


def test_a_setting_of_llamafactory_is_refused_by_other_methods(folder: Path) -> None:
    with pytest.raises(UsageError, match="llamafactory settings have no effect on method 'manual'"):
        load_preset("manual", read_config(config(folder, deepspeed=None)).overrides)


def test_a_key_that_another_part_decides_is_refused() -> None:
    with pytest.raises(UsageError, match=r"llamafactory\.learning_rate is not passed on"):
        load_preset("llamafactory", {"llamafactory": {"learning_rate": 1}})


def test_every_key_that_is_named_here_is_one_of_llamafactory() -> None:
    spec = load_preset("llamafactory").spec

    named = {*TRAIN_KEYS, *DEFAULTS, *NEEDED, *OURS, *PASSED, *RENAMED.values(), *arguments(spec, RUN)}

    assert sorted(named - KEYS) == []
    assert set(RENAMED) & KEYS <= {"warmup_ratio"}  # that one still parses, with a warning


def test_the_run_directory_holds_what_llamafactory_reads() -> None:
    spec = load_preset("llamafactory", {"device": "cuda"}).spec

    files = files_of(spec, RUN)
    given = yaml.safe_load(files[RUN.config / "llamafactory.yaml"])
    engine = json.loads(files[RUN.config / "deepspeed.json"])

    assert given["deepspeed"] == "/runs/one/config/deepspeed.json"
    assert given["model_name_or_path"] == "/runs/one/cache/model"
    assert engine["gradient_clipping"] == engine["train_micro_batch_size_per_gpu"] == "auto"
    assert engine == engine_settings(spec)
