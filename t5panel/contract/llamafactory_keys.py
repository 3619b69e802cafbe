"""Which keys of a LLaMA-Factory YAML t5panel passes on, and which it decides itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PASSED = frozenset(
    {
        *("dataset", "dataset_dir", "eval_dataset", "media_dir", "template", "mix_strategy", "interleave_probs"),
        *("max_samples", "val_size", "preprocessing_num_workers", "preprocessing_batch_size", "overwrite_cache"),
        *("default_system", "cache_dir", "model_revision", "hf_hub_token", "trust_remote_code", "use_fast_tokenizer"),
        *("low_cpu_mem_usage", "print_param_status", "plot_loss", "include_num_input_tokens_seen"),
        *("include_effective_tokens_per_second", "ddp_timeout", "dataloader_pin_memory", "run_name"),
    }
)
"""What `llamafactory:` in a preset may hold. All else of a T5 run is decided by the other parts of a spec."""


def faults_of(
    method: str, settings: Mapping[str, Any] | None, *, attention: str, validation: str | None
) -> Iterator[str]:
    """What is wrong with the LLaMA-Factory side of a spec, as sentences."""
    if method != "llamafactory":
        if settings is not None:
            yield f"llamafactory settings have no effect on method {method!r}; remove them"
        return
    if attention != "eager":
        yield "LLaMA-Factory's transformers has only eager attention for T5; set model.attn_implementation to eager"
    for key in sorted(set(settings or {}) - PASSED):
        yield f"llamafactory.{key} is not passed on: the other parts of a preset decide it, or T5 has no use for it"
    if validation is not None and "dataset" in (settings or {}):
        yield "data.validation goes with data.train; beside llamafactory.dataset set llamafactory.eval_dataset"
