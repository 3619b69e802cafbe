"""Which keys of a LLaMA-Factory YAML t5panel passes on, and which it decides itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PASSED = frozenset(
    {
        *("dataset", "dataset_dir", "eval_dataset", "media_dir", "mix_strategy", "interleave_probs"),
        *("max_samples", "val_size", "preprocessing_num_workers", "preprocessing_batch_size", "overwrite_cache"),
        *("default_system", "cache_dir", "model_revision", "hf_hub_token", "trust_remote_code", "use_fast_tokenizer"),
        *("low_cpu_mem_usage", "print_param_status", "plot_loss", "include_num_input_tokens_seen"),
        *("include_effective_tokens_per_second", "ddp_timeout", "dataloader_pin_memory", "run_name"),
    }
)
"""What `llamafactory:` in a preset may hold. All else of a T5 run is decided by the other parts of a spec."""

SAME_FOR_T5 = (None, "default", "empty")
"""Templates that change nothing: none is made for T5."""

NEEDED = {
    "stage": ("sft", "any other stage trains an encoder-decoder as if it were a decoder"),
    "do_train": (True, "t5panel trains"),
    "finetuning_type": ("full", "adapters were not tested with an encoder-decoder"),
    "packing": (False, "rows packed into one would be read by the encoder together"),
    "neat_packing": (False, "rows packed into one would be read by the encoder together"),
    "train_on_prompt": (False, "the prompt would be in the answer"),
    "mask_history": (False, "T5 learns from one prompt and one answer"),
    "fp16": (False, "it overflows in T5; use bf16"),
    "pure_bf16": (False, "it was not tested with T5; use bf16"),
    "streaming": (False, "rows are tokenised once, and mapped from files"),
    "resume_from_checkpoint": (None, "t5panel resume RUN goes on with a run"),
}
"""Keys that must have one value for a T5, with the reason: else it would be trained as a causal model is."""

DECIDED = frozenset(
    {
        *("model_name_or_path", "train_from_scratch", "disable_gradient_checkpointing", "deepspeed", "use_cpu", "bf16"),
        *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "seed"),
        *("learning_rate", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
        *("max_grad_norm", "num_train_epochs", "max_steps", "dataloader_num_workers", "do_train", "do_eval"),
        *("logging_strategy", "logging_steps", "eval_strategy", "eval_steps", "save_strategy", "save_steps"),
        *("save_total_limit", "save_only_model", "load_best_model_at_end", "do_predict", "predict_with_generate"),
        *("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "tokenized_path", "streaming", "report_to"),
        *("remove_unused_columns", "logging_nan_inf_filter", "ignore_data_skip", "disable_tqdm", "push_to_hub"),
        *("use_mca", "use_hyper_parallel", "use_v1_kernels"),
    }
)
"""What it may not hold for a decoder-only model, where every other key is LLaMA-Factory's."""
STAGES = ("sft", "pt", "dpo", "kto")
"""Stages of a decoder-only model. LLaMA-Factory itself cannot resume the others."""


def faults_of(
    method: str, settings: Mapping[str, Any] | None, *, attention: str, validation: str | None, decoder_only: bool
) -> Iterator[str]:
    """What is wrong with the LLaMA-Factory side of a spec, as sentences."""
    given = settings or {}
    if method != "llamafactory":
        if settings is not None:
            yield f"llamafactory settings have no effect on method {method!r}; remove them"
        return
    if not decoder_only and attention != "eager":
        yield "LLaMA-Factory's transformers has only eager attention for T5; set model.attn_implementation to eager"
    for key in sorted(set(given) & DECIDED):
        yield f"llamafactory.{key} is not passed on: the other parts of a preset decide it"
    if given.get("stage", "sft") not in STAGES:
        yield f"llamafactory.stage {given['stage']} cannot be resumed by LLaMA-Factory; use {', '.join(STAGES)}"
    if validation is not None and "dataset" in given:
        yield "data.validation goes with data.train; beside llamafactory.dataset set llamafactory.eval_dataset"


def t5_faults(settings: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What an encoder-decoder cannot have of what a decoder-only model can: dotted key and sentence."""
    given = settings or {}
    for key in sorted(set(given) - PASSED):
        needed, reason = NEEDED.get(key, (given[key], ""))
        if key == "template" and given[key] in SAME_FOR_T5:
            continue
        if given[key] != needed:
            yield f"llamafactory.{key}", f"is {given[key]}, for an encoder-decoder: {reason}"
        else:
            yield (
                f"llamafactory.{key}",
                "is not passed on: T5 has no use for it, or another part decides it",
            )
