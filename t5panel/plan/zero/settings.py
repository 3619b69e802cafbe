"""The keys of `zero_optimization` that decide about memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from t5panel.contract.deepspeed_keys import is_offloaded
from t5panel.plan.table import UNKNOWN, NoTableError

KEYS = (
    "contiguous_gradients",
    "reduce_bucket_size",
    "overlap_comm",
    "reduce_scatter",
    "round_robin_gradients",
    "sub_group_size",
)
STAGE_3_KEYS = (
    "prefetch_bucket_size",
    "param_persistence_threshold",
    "model_persistence_threshold",
    "max_live_parameters",
    "max_reuse_distance",
)
"""In the JSON they may begin with `stage3_`."""
NOT_MODELLED: Mapping[str, object] = {
    "zero_hpz_partition_size": 1,
    "zero_quantized_weights": False,
    "zero_quantized_nontrainable_weights": False,
    "zero_quantized_gradients": False,
    "memory_efficient_linear": True,
    "leaf_module": None,
    "zenflow": None,
    **{
        f"{prefix}{name}": off
        for prefix in ("", "stage3_")
        for name, off in (
            ("module_granularity_threshold", 0),
            ("use_all_reduce_for_fetch_params", False),
            ("allgather_sequential", False),
        )
    },
}
"""Keys that change what stage 3 holds in a way that no rule here knows, and the values at which they do not."""


@dataclass(frozen=True)
class Zero:
    """The engine's settings, with DeepSpeed's names and defaults; sizes in elements. Source: runtime/zero/config.py."""

    stage: int
    world: int
    contiguous_gradients: bool = True
    reduce_bucket_size: int = 500_000_000
    overlap_comm: bool | None = None
    reduce_scatter: bool = True
    round_robin_gradients: bool = False
    offload_optimizer: bool = False
    offload_param: bool = False
    sub_group_size: int = 1_000_000_000
    prefetch_bucket_size: int = 50_000_000
    param_persistence_threshold: int = 100_000
    model_persistence_threshold: int = 2**63 - 1
    max_live_parameters: int = 1_000_000_000
    max_reuse_distance: int = 1_000_000_000
    micro_steps: int = 1
    """Passes before an optimizer step."""
    update: Literal["fused", "foreach", "loop"] = "fused"
    """AdamW's way: in place; with a copy of every tensor at once; with two copies of one after the other."""
    fp32_on_card: bool = False
    """The model comes to the engine in fp32 on the card, not in bf16 from the host."""
    embeddings_before: frozenset[int] = frozenset()
    """Weights before which the model has a copy of its first one, until all are there."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], world: int) -> Zero:
        """From DeepSpeed's JSON; "auto" means the default, as in our trainer."""
        given = {key: value for key, value in config.get("zero_optimization", {}).items() if value != "auto"}
        names = {key: key for key in (*KEYS, *STAGE_3_KEYS)} | {f"stage3_{key}": key for key in STAGE_3_KEYS}
        fields = {names[key]: _whole(value) for key, value in given.items() if key in names}
        for key in ("offload_optimizer", "offload_param"):
            fields[key] = is_offloaded(given, key)
        return cls(given.get("stage", 0), world, **fields)

    @property
    def overlaps(self) -> bool:
        """Communication has streams of its own; on by default in stage 3 only (config.py:overlap_comm_valid)."""
        return self.stage == 3 if self.overlap_comm is None else self.overlap_comm

    @property
    def keeps_gradients(self) -> bool:
        """They stay until the backward pass is over, and are reduced then."""
        return self.stage == 0 or (self.stage == 1 and not self.overlaps)


def check_settings(config: Mapping[str, Any]) -> None:
    """Raises: NoTableError for a setting of stage 3 in DeepSpeed's JSON whose memory is not known."""
    given = config.get("zero_optimization", {})
    changed = [key for key, off in NOT_MODELLED.items() if given.get(key, off) not in (off, "auto")]
    if changed and given.get("stage") == 3:
        what = ", ".join(f"deepspeed.zero_optimization.{key}" for key in changed)
        raise NoTableError.of(what, UNKNOWN, "left out, the memory of stage 3 is known")


def _whole(value: Any) -> Any:  # noqa: ANN401 - a JSON value
    """Sizes may be written as 5e8."""
    return int(value) if isinstance(value, float) else value
