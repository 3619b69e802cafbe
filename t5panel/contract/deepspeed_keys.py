"""DeepSpeed's own names: what its JSON may hold. It passes over a top-level key it does not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

FILLED_FROM_TRAIN = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16",
    "fp16",
    "optimizer",
    "scheduler",
    "steps_per_print",
)
"""Keys of DeepSpeed's JSON that `train` decides."""
TOP_LEVEL = frozenset(
    """
    activation_checkpointing aio autotuning bf16 bfloat16 checkpoint comet comms_logger communication_data_type
    compile csv_monitor data_efficiency data_types dataloader_drop_last datastates_ckpt disable_allgather
    disable_python_gc dump_state expert_parallel flops_profiler fp16 gradient_accumulation_steps
    gradient_allreduce_op gradient_clipping gradient_predivide_factor hybrid_engine log_level
    managed_gradient_accumulation memory_breakdown optimizer pipeline prescale_gradients scheduler
    seq_parallel_communication_data_type steps_per_print tensor_parallel tensorboard timers torch_autocast
    train_batch_size train_micro_batch_size_per_gpu use_data_before_expert_parallelism vocabulary_size
    wall_clock_breakdown wandb weight_quantization zero_allow_untested_optimizer zero_force_ds_cpu_optimizer
    zero_optimization
    """.split()  # noqa: SIM905 - fifty words in a list are unreadable
)
"""Source: what DeepSpeedConfig of deepspeed 0.19 asks for, less what it refuses as removed."""

ZERO = frozenset(
    """
    allgather_bucket_size allgather_partitions allgather_sequential compute_grad_norm contiguous_gradients
    cpu_offload cpu_offload_param cpu_offload_use_pin_memory elastic_checkpoint enable_sanity_checks
    gather_16bit_weights_on_model_save ignore_unused_parameters leaf_module legacy_stage1 load_from_fp32_weights
    log_trace_cache_warnings max_live_parameters max_reuse_distance memory_efficient_linear
    model_persistence_threshold module_granularity_threshold offload_optimizer offload_param overlap_comm
    override_module_apply param_persistence_threshold parameter_alignment pipeline_loading_checkpoint
    prefetch_bucket_size reduce_bucket_size reduce_scatter round_robin_gradients save_muon_momentum_buffer_in_memory
    stage stage3_allgather_sequential stage3_gather_16bit_weights_on_model_save
    stage3_gather_fp16_weights_on_model_save stage3_max_live_parameters stage3_max_reuse_distance
    stage3_model_persistence_threshold stage3_module_granularity_threshold stage3_param_persistence_threshold
    stage3_prefetch_bucket_size stage3_use_all_reduce_for_fetch_params sub_group_size
    use_all_reduce_for_fetch_params use_multi_rank_bucket_allreduce zenflow zero_hpz_partition_size
    zero_quantized_gradients zero_quantized_nontrainable_weights zero_quantized_weights
    """.split()  # noqa: SIM905 - fifty words in a list are unreadable
)
"""Source: fields and aliases of DeepSpeedZeroConfig, deepspeed 0.19."""

AUTO_SIZES = frozenset(
    {
        *("reduce_bucket_size", "allgather_bucket_size", "prefetch_bucket_size", "param_persistence_threshold"),
        *("stage3_prefetch_bucket_size", "stage3_param_persistence_threshold"),
    }
)
"""Keys of `zero_optimization` that may be `auto`, as in files made for Hugging Face: DeepSpeed's default is taken."""


def unknown_keys(config: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for every key that DeepSpeed does not know."""
    for key in config.keys() - TOP_LEVEL:
        yield _unknown(f"deepspeed.{key}", key, TOP_LEVEL)
    zero = config.get("zero_optimization")
    if isinstance(zero, Mapping):
        for key in zero.keys() - ZERO:
            yield _unknown(f"deepspeed.zero_optimization.{key}", key, ZERO)


def misplaced_autos(config: Mapping[str, Any], filled_in: tuple[str, ...]) -> Iterator[str]:
    """A sentence for every `auto` that nothing fills in."""
    allowed = {*filled_in, *(f"zero_optimization.{key}" for key in AUTO_SIZES), "zero_optimization.stage"}
    for key in _autos(config):
        if key not in allowed:
            yield f"deepspeed.{key} cannot be 'auto': nothing fills it in"


def is_offloaded(zero: Mapping[str, Any], key: str) -> bool:
    """Whether `offload_optimizer` or `offload_param` of `zero_optimization` moves something off the card."""
    return bool((zero.get(key) or {}).get("device", "none") != "none")


def escaping_paths(config: Mapping[str, Any], prefix: str = "deepspeed.") -> Iterator[str]:
    """A sentence for every text that would lead out of the run directory, in which the ranks work."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from escaping_paths(value, f"{prefix}{key}.")
        elif isinstance(value, str) and _leads_out(value):
            yield f"{prefix}{key} leads out of the run directory: name a folder in it; --run-dir puts the run elsewhere"


def _leads_out(text: str) -> bool:
    path = PurePath(text)
    return path.is_absolute() or ".." in path.parts or text.startswith("~")


def _autos(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if value == "auto":
            yield prefix + key
        elif isinstance(value, Mapping):
            yield from _autos(value, f"{prefix}{key}.")


def _unknown(place: str, key: str, known: frozenset[str]) -> str:
    import difflib

    close = difflib.get_close_matches(key, known, 1)
    return f"{place} is no key of DeepSpeed" + (f"; did you mean {close[0]!r}?" if close else "")
