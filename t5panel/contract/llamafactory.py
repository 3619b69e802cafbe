"""RunSpec → what LLaMA-Factory reads: its YAML, its register of data sets and its DeepSpeed JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t5panel.contract.deepspeed_keys import FILLED_FROM_TRAIN
from t5panel.contract.layout import RunDir
from t5panel.contract.shapes import is_builtin

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

NEVER = 10**9
TRAIN, HELD_OUT = "train", "held_out"
"""Names in the register: of a spec's own rows and of its validation rows."""


def arguments_file(run: RunDir) -> Path:
    """The YAML that LLaMA-Factory is given."""
    return run.config / "llamafactory.yaml"


def register_file(run: RunDir) -> Path:
    """The register of data sets, written when the data is prepared: its columns are known then."""
    return run.config / "dataset_info.json"


def engine_file(run: RunDir) -> Path:
    """DeepSpeed's JSON."""
    return run.config / "deepspeed.json"


def output_folder(run: RunDir) -> Path:
    """Where LLaMA-Factory writes what is its own: trainer_log.jsonl, its summaries."""
    return run.path / "llamafactory"


def fresh_model(run: RunDir) -> Path:
    """Config and tokenizer of a model that starts at random, left by the preparation."""
    return run.cache / "model"


def starts_at_random(spec: RunSpec) -> bool:
    """Whether a run begins with random weights."""
    return spec.model.from_scratch or is_builtin(spec.model.name_or_path)


def files_of(spec: RunSpec, run: RunDir) -> Mapping[Path, str]:
    """What LLaMA-Factory reads of a run, by path."""
    import yaml

    files = {arguments_file(run): yaml.safe_dump(arguments(spec, run), sort_keys=False)}
    if spec.deepspeed is not None:
        files[engine_file(run)] = json.dumps(engine_settings(spec), indent=1) + "\n"
    return files


def arguments(spec: RunSpec, run: RunDir) -> dict[str, Any]:
    """Every argument of a run but `max_steps` of one that counts epochs, which takes the number of rows.

    When to log, evaluate and save is said by t5panel at each step, so that all methods do it alike. Of a decoder-only
    model all else is LLaMA-Factory's own way, which `llamafactory` of the spec may change.
    """
    special = _decoder(spec, run) if spec.model.decoder_only else {**_model(spec, run), **_data(spec, run)}
    return {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        **special,
        **_training(spec),
        **({"deepspeed": str(engine_file(run))} if spec.deepspeed is not None else {}),
        "output_dir": str(output_folder(run)),
        "overwrite_output_dir": True,
        **{key: value for key, value in (spec.llamafactory or {}).items() if value is not None},
    }


def _model(spec: RunSpec, run: RunDir) -> dict[str, Any]:
    fresh = starts_at_random(spec)
    return {
        "model_name_or_path": str(fresh_model(run)) if fresh else spec.model.name_or_path,
        "train_from_scratch": fresh,
        "flash_attn": "disabled" if spec.model.attn_implementation == "eager" else "sdpa",
        "disable_gradient_checkpointing": not spec.train.gradient_checkpointing,
        "use_reentrant_gc": False,
    }


def _data(spec: RunSpec, run: RunDir) -> dict[str, Any]:
    own = {} if has_own_register(spec) else {"dataset_dir": str(run.config), "dataset": TRAIN}
    if spec.data.validation is not None:
        own["eval_dataset"] = HELD_OUT
    longest = max(spec.data.max_source_length, spec.data.max_target_length)
    return {**own, "template": "default", "cutoff_len": longest, "packing": False}


def tokenized_folder(run: RunDir) -> Path:
    """The rows of a decoder-only model, as LLaMA-Factory keeps them."""
    return run.cache / "tokenized"


def _decoder(spec: RunSpec, run: RunDir) -> dict[str, Any]:
    data = _data(spec, run)
    del data["template"], data["packing"]  # its own: the tokenizer's template, and packed rows in stage pt alone
    return {
        **data,
        "model_name_or_path": spec.model.name_or_path,
        "train_from_scratch": spec.model.from_scratch,
        "disable_gradient_checkpointing": not spec.train.gradient_checkpointing,
        "cutoff_len": decoder_cutoff(spec),
        "tokenized_path": str(tokenized_folder(run)),
    }


def decoder_cutoff(spec: RunSpec) -> int:
    """Tokens of prompt and answer together that LLaMA-Factory keeps of a decoder-only model's row."""
    own = (spec.llamafactory or {}).get("cutoff_len")
    return int(own) if own else spec.data.max_source_length + spec.data.max_target_length


def has_own_register(spec: RunSpec) -> bool:
    """Whether the user names data sets of a dataset_info.json of their own."""
    return "dataset" in (spec.llamafactory or {})


def _training(spec: RunSpec) -> dict[str, Any]:
    train = spec.train
    return {
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "per_device_eval_batch_size": train.per_device_eval_batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": train.lr_scheduler_type,
        "warmup_steps": train.warmup_steps,
        "weight_decay": train.weight_decay,
        "adam_beta1": train.adam_beta1,
        "adam_beta2": train.adam_beta2,
        "adam_epsilon": train.adam_epsilon,
        # Infinity: not clipped, but measured. DeepSpeed measures anyway, and knows 0.
        "max_grad_norm": train.max_grad_norm or (math.inf if spec.deepspeed is None else 0.0),
        **({"max_steps": train.max_steps} if train.max_steps else {"num_train_epochs": train.num_train_epochs}),
        "optim": train.optim,
        "bf16": train.bf16,
        "seed": train.seed,
        "dataloader_num_workers": train.dataloader_num_workers,
        "generation_max_length": train.generation_max_length,
        "logging_strategy": "no",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_nan_inf_filter": False,
        "ignore_data_skip": not spec.model.decoder_only,  # our rows begin at the step that is resumed
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
        "disable_tqdm": True,
        "report_to": "none",
        # With DeepSpeed accelerate 1.11 must find out by itself: told so, it leaves DeepSpeed out without a word.
        "use_cpu": spec.device == "cpu" and spec.deepspeed is None,
    }


def engine_settings(spec: RunSpec) -> dict[str, Any]:
    """The user's DeepSpeed JSON; what `train` decides is "auto", which the Trainer fills in from its arguments."""
    given = {key: value for key, value in (spec.deepspeed or {}).items() if key not in FILLED_FROM_TRAIN}
    return {
        **given,
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto" if spec.model.decoder_only else False},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": NEVER,
    }


def register(columns: Mapping[str, tuple[str, str]], folders: Mapping[str, Path]) -> str:
    """The register of data sets: their folders, and their columns of prompt and response."""
    entries = {
        name: {"file_name": str(folders[name]), "columns": {"prompt": prompt, "response": response}}
        for name, (prompt, response) in columns.items()
    }
    return json.dumps(entries, indent=1) + "\n"
