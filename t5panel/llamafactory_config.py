"""A LLaMA-Factory YAML of the user's own → overrides of the preset `llamafactory`, and what is taken otherwise."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from t5panel.contract.deepspeed_keys import FILLED_FROM_TRAIN
from t5panel.contract.environments import constraints_file
from t5panel.contract.llamafactory_keys import NEEDED, PASSED, SAME_FOR_T5
from t5panel.contract.model_files import is_decoder
from t5panel.contract.paths import user_path
from t5panel.contract.spec import TrainSpec
from t5panel.errors import Fault, UsageError
from t5panel.presets import read_document

DEFAULTS: Mapping[str, Any] = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "num_train_epochs": 3.0,
    "max_grad_norm": 1.0,
    "logging_steps": 500,
    "save_steps": 500,
    "seed": 42,
    "bf16": False,
    "optim": "adamw_torch_fused",
    "cutoff_len": 2048,
    "disable_gradient_checkpointing": False,
}
"""What LLaMA-Factory 0.9.5 with transformers 5.6.0 takes where a YAML says nothing, and our presets take otherwise."""

TRAIN_KEYS = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "learning_rate"),
    *("lr_scheduler_type", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("max_grad_norm", "num_train_epochs", "max_steps", "logging_steps", "save_total_limit", "seed", "bf16", "optim"),
    *("dataloader_num_workers", "generation_max_length"),
)
"""Keys that have the same name and meaning in `train`."""

CHOICES = {name: (None, *get_args(TrainSpec.model_fields[name].annotation)) for name in ("lr_scheduler_type", "optim")}
"""Values of those that are settings of all methods."""

RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "warmup_ratio": "warmup_steps",
    "no_cuda": "use_cpu",
    "dev_ratio": "val_size",
    "sft_packing": "packing",
    "prompt_template": "template",
    "checkpoint_dir": "adapter_name_or_path",
    "num_layer_trainable": "freeze_trainable_layers",
    "name_module_trainable": "freeze_trainable_modules",
    "dpo_beta": "pref_beta",
    "dpo_loss": "pref_loss",
    "dpo_ftx": "pref_ftx",
}
"""Names of earlier versions, and those that took their place with the same values."""

GONE = {
    "save_safetensors": "weights are always saved as safetensors",
    "include_tokens_per_second": "tokens per second are always recorded",
    "disable_version_checking": "the versions are those that were tested",
    "reserved_label_len": "prompt and answer are cut each by itself",
}
"""Keys of earlier versions that have none in their place, with what holds now."""
EARLIER = "llmtuner"
"""LLaMA-Factory's package until 0.7."""

OURS = {
    "output_dir": "a run has a folder of its own; --run-dir names it",
    "overwrite_output_dir": "a run has a folder of its own",
    "report_to": "records are t5panel's; t5panel export writes event files of TensorBoard",
    "logging_dir": "records are t5panel's",
    "logging_strategy": "the loss is recorded every logging_steps",
    "logging_first_step": "the loss is recorded every logging_steps",
    "do_eval": "held-out rows are evaluated whenever there are any",
    "do_predict": "every evaluation answers some held-out rows",
    "predict_with_generate": "every evaluation answers some held-out rows",
    "flash_attn": "T5 has only eager attention in LLaMA-Factory's transformers",
    "use_reentrant_gc": "checkpointing is not re-entrant",
    "ddp_find_unused_parameters": "a T5 has none",
    "remove_unused_columns": "rows are token ids",
    "save_only_model": "a checkpoint can always be resumed",
    "load_best_model_at_end": "every checkpoint kept stays as it is",
    "metric_for_best_model": "every checkpoint kept stays as it is",
    "greater_is_better": "every checkpoint kept stays as it is",
    "disable_tqdm": "progress is t5panel's",
    "push_to_hub": "nothing leaves this machine",
}
"""Keys that t5panel decides itself, with what it does."""


DECODER_NEEDED = {name: NEEDED[name] for name in ("do_train", "streaming", "resume_from_checkpoint")}
_LEFT_TO_IT = ("flash_attn", "use_reentrant_gc", "ddp_find_unused_parameters")
DECODER_OURS = {name: text for name, text in OURS.items() if name not in _LEFT_TO_IT} | dict.fromkeys(
    ("do_predict", "predict_with_generate"), "t5panel trains; llamafactory-cli predicts"
)
"""The same for a decoder-only model, which all else is left to LLaMA-Factory of."""


@dataclass
class _Reading:
    """One YAML being taken apart."""

    left: dict[str, Any]
    found: dict[str, Any] = field(default_factory=dict)
    passed: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    decoder_only: bool = False

    def take(self, key: str) -> Any:  # noqa: ANN401 - any YAML value
        """The value of a key, or LLaMA-Factory's default; it is done with."""
        return self.left.pop(key, DEFAULTS.get(key))


@dataclass(frozen=True)
class Config:
    """What a YAML asks for."""

    overrides: Mapping[str, Any]
    """Dotted keys of a spec, with LLaMA-Factory's own defaults where the YAML says nothing."""
    notes: tuple[str, ...]
    """What is outdated, or decided otherwise."""


def read_config(name: str, config_of: Callable[[str, bool], Mapping[str, Any] | None]) -> Config:
    """A LLaMA-Factory YAML as overrides of a preset.

    `config_of` gives a model's config.json where it can be had, the second word: also by a download. That is asked for
    only where a T5 could not be meant.

    Raises: UsageError with every key that is unknown or cannot be had with the model.
    """
    path = user_path(name, "--config")
    if not path.is_file():
        raise UsageError.of("--config", f"no file {name}")
    reading = _Reading(dict(read_document(path)))
    if (model := reading.left.get("model_name_or_path")) is not None:
        config = config_of(str(model), False)
        if config is None and _is_for_decoders(reading.left):
            config = config_of(str(model), True)
        reading.decoder_only = config is not None and is_decoder(config)
    for step in (_rename, _refuse_unknown, _need, _leave_to_us, _take_model, _take_training, _take_engine, _take_data):
        step(reading)
    (_pass_rest if reading.decoder_only else _refuse_rest)(reading)
    if reading.faults:
        raise UsageError(Fault(f"{name}: {fault.where}", fault.message, fault.hint) for fault in reading.faults)
    if reading.passed:
        reading.found["llamafactory"] = reading.passed
    return Config(reading.found, tuple(reading.notes))


def _is_for_decoders(settings: Mapping[str, Any]) -> bool:
    """Whether a YAML says what makes no sense for a T5."""
    needed = any(settings.get(key, value) != value for key, (value, _) in NEEDED.items())
    return needed or settings.get("template") not in SAME_FOR_T5 or any("lora" in key for key in settings)


def _rename(reading: _Reading) -> None:
    for old, new in RENAMED.items():
        if old not in reading.left:
            continue
        value = reading.left.pop(old)
        if new in reading.left:
            reading.faults.append(Fault(old, f"is an old name of {new}, which is there too", f"remove {old}"))
        else:
            reading.left[new] = value
            reading.notes.append(f"{old} is outdated: taken as {new}: {value}")


def _refuse_unknown(reading: _Reading) -> None:
    for key in sorted(GONE.keys() & reading.left.keys()):
        del reading.left[key]
        reading.notes.append(f"{key} is outdated and has no effect: {GONE[key]}")
    known = constraints_file("llamafactory").with_name("llamafactory-keys.txt").read_text(encoding="utf-8").split()
    for key in sorted(set(reading.left) - set(known)):
        value = reading.left.pop(key)
        if EARLIER in f"{key} {value}":
            message = (
                f"names {EARLIER}, as LLaMA-Factory was called until 0.7: that one does not start with today's packages"
            )
            reading.faults.append(Fault(key, message, "remove it: t5panel starts LLaMA-Factory 0.9.5 itself"))
            continue
        close = difflib.get_close_matches(key, known, 1, 0.6)
        hint = f"did you mean {close[0]}?" if close else "remove it"
        reading.faults.append(Fault(key, "is no key of LLaMA-Factory 0.9.5", hint))


def _need(reading: _Reading) -> None:
    for key, (needed, reason) in (DECODER_NEEDED if reading.decoder_only else NEEDED).items():
        value = reading.left.pop(key, needed)
        if value != needed and value is not None:
            reading.faults.append(Fault(key, f"is {value}: {reason}", f"set {key}: {json.dumps(needed)}"))


def _leave_to_us(reading: _Reading) -> None:
    for key, instead in (DECODER_OURS if reading.decoder_only else OURS).items():
        if key in reading.left and reading.left.pop(key) not in (False, None, "none", "auto", "disabled"):
            reading.notes.append(f"{key} has no effect: {instead}")


def _take_model(reading: _Reading) -> None:
    if (name := reading.take("model_name_or_path")) is None:
        reading.faults.append(Fault("model_name_or_path", "is missing"))
    reading.found |= {
        "model.name_or_path": name,
        "model.from_scratch": bool(reading.take("train_from_scratch")),
        "train.gradient_checkpointing": not reading.take("disable_gradient_checkpointing"),
    }
    longest = reading.take("cutoff_len")
    if reading.decoder_only:
        reading.found["model.decoder_only"] = True
        reading.passed["cutoff_len"] = longest
    else:
        reading.found |= {"data.max_source_length": longest, "data.max_target_length": longest}
    if reading.take("use_cpu"):
        reading.found["device"] = "cpu"


def _take_training(reading: _Reading) -> None:
    for key in TRAIN_KEYS:
        if reading.decoder_only and reading.left.get(key) not in CHOICES.get(key, (reading.left.get(key),)):
            continue  # one of LLaMA-Factory's many
        if (value := reading.take(key)) is not None:
            reading.found[f"train.{key}"] = value
    if reading.found.get("train.max_steps", 1) <= 0:
        del reading.found["train.max_steps"]
    for what, usual in (("eval", "no"), ("save", "steps")):
        strategy, steps = reading.left.pop(f"{what}_strategy", usual), reading.take(f"{what}_steps")
        if strategy in ("no", False):  # YAML 1.1 reads a bare `no` as false
            steps = None
        elif strategy != "steps":
            hint = f"set {what}_strategy: steps and {what}_steps"
            reading.faults.append(Fault(f"{what}_strategy", f"{strategy} is not counted by t5panel", hint))
        elif steps is None:
            steps = reading.found["train.logging_steps"]  # so does the Trainer
        reading.found[f"train.{what}_steps"] = steps


def _take_engine(reading: _Reading) -> None:
    given = reading.left.pop("deepspeed", None)
    if isinstance(given, str):
        try:
            given = json.loads(user_path(given, "deepspeed").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reading.faults.append(Fault("deepspeed", f"{given} cannot be read: {error}", "the path of a JSON file"))
            given = None
    reading.found["deepspeed"] = given
    if isinstance(given, dict):
        reading.found["deepspeed"] = {key: value for key, value in given.items() if key not in FILLED_FROM_TRAIN}
        fixed = sorted(key for key in set(given) & set(FILLED_FROM_TRAIN) if "auto" not in json.dumps(given[key]))
        reading.notes += [f"deepspeed: {key} has no effect: the YAML's own keys decide it" for key in fixed]


def _take_data(reading: _Reading) -> None:
    for key in sorted(PASSED & set(reading.left)):
        reading.passed[key] = reading.left.pop(key)
    if not reading.decoder_only and (template := reading.left.pop("template", None)) not in SAME_FOR_T5:
        reading.notes.append(f"template: {template} has no effect: T5 reads the prompt as it is")
    folder = user_path(str(reading.passed.get("dataset_dir", "data")), "dataset_dir").absolute()
    reading.passed["dataset_dir"] = str(folder)
    names = reading.passed.get("dataset")
    if not names:
        reading.faults.append(Fault("dataset", "is missing", f"a name in {folder}/dataset_info.json"))
        return
    every = _names(names) + _names(reading.passed.get("eval_dataset"))
    files, faults = _registered(folder, every)
    reading.faults += faults
    reading.found["data.train"] = str(files[0] if len(files) == 1 else folder)


def _names(value: Any) -> list[str]:  # noqa: ANN401
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value or ())


def _registered(folder: Path, names: list[str]) -> tuple[list[Path], list[Fault]]:
    """The files of data sets in a register, and what is wrong there."""
    register = folder / "dataset_info.json"
    try:
        entries = json.loads(register.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [], [Fault("dataset_dir", f"{register} cannot be read: {error}", "the folder of dataset_info.json")]
    files, faults = list[Path](), list[Fault]()
    for name in names:
        entry = entries.get(name) if isinstance(entries, dict) else None
        if not isinstance(entry, dict):
            known = ", ".join(entries) if isinstance(entries, dict) else "no names"
            faults.append(Fault("dataset", f"{register} has no {name!r}", f"it has: {known}"))
        elif "file_name" in entry:
            file = folder / str(entry["file_name"])
            files.append(file)
            if not file.exists():
                faults.append(Fault("dataset", f"{name!r}: no file or folder {file}", f"see {register}"))
    return files, faults


def _pass_rest(reading: _Reading) -> None:
    """What t5panel does not decide of a decoder-only model."""
    reading.passed |= {key: value for key, value in reading.left.items() if value is not None}


def _refuse_rest(reading: _Reading) -> None:
    """What LLaMA-Factory knows and an encoder-decoder has not been tested with, unless it is switched off."""
    for key, value in sorted(reading.left.items()):
        if value not in (None, False, 0, "none", "no"):
            message = f"is not taken: t5panel has not tested {key} with an encoder-decoder"
            reading.faults.append(Fault(key, message, "remove it"))
