"""VRAM per card before the start: what a run's step needs, what stands beside it on the card, and whether that fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from t5panel.contract.memory_table import minor
from t5panel.contract.shapes import Shape, is_builtin
from t5panel.plan.cards import AMPERE_WORKSPACE, HOPPER_PROCESSORS, cublas_workspace, processors_of
from t5panel.plan.context import Context
from t5panel.plan.machine import CardFacts
from t5panel.plan.need import Need
from t5panel.plan.step import OptimizerName, TrainingStep, check_kernel
from t5panel.plan.table import UNKNOWN, NoTableError
from t5panel.plan.zero import Zero, check_settings

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

Verdict = Literal["fits", "tight", "no"]
LENGTH_ROUNDING = 8
"""Our batches are padded to a multiple of it."""
OPTIMIZERS: Mapping[str, OptimizerName] = {
    "adamw_torch": "adamw_foreach",
    "adamw_torch_fused": "adamw_fused",
    "adafactor": "adafactor",
}


@dataclass(frozen=True, slots=True)
class CardMemory:
    """One card: what it has left for us, what a rank needs there, and the context beside it, and at most; bytes."""

    index: int
    capacity: int
    context: int
    context_most: int
    context_basis: str
    need: Need

    @property
    def expected(self) -> int:
        """What the card will show as used."""
        return self.need.reserved + self.context

    @property
    def low(self) -> int:
        """With less it cannot run."""
        return self.need.low + self.context

    @property
    def high(self) -> int:
        """With so much it needs no luck."""
        return self.need.high + self.context_most

    @property
    def verdict(self) -> Verdict:
        """`tight`: the blocks fit, but not all the segments that the allocator would like."""
        if self.high <= self.capacity:
            return "fits"
        return "tight" if self.low <= self.capacity else "no"


def card_memory(need: Need, card: CardFacts, context: Context) -> CardMemory:
    """A rank's need on a card; its capacity is what others leave of it."""
    return CardMemory(card.index, card.total - card.used, context.size, context.most, context.basis, need)


def training_step(spec: RunSpec, shape: Shape, versions: Mapping[str, str], cards: Iterable[CardFacts]) -> TrainingStep:
    """The step that our trainers run for a spec on some cards, at its longest rows.

    Raises: NoTableError for heads or settings of DeepSpeed whose memory nobody has looked at.
    """
    train, data, names = spec.train, spec.data, [card.name for card in cards]
    check_kernel(shape, spec.model.attn_implementation)
    zero = _zero(spec) if spec.method == "deepspeed" else None
    return TrainingStep(
        shape,
        train.per_device_train_batch_size,
        padded(data.max_source_length),
        padded(data.max_target_length),
        precision="bf16" if zero else "autocast" if train.bf16 else "fp32",
        attention=spec.model.attn_implementation,
        checkpointing=train.gradient_checkpointing,
        dropout=train.dropout_rate != 0,
        loss="summed",
        optimizer=OPTIMIZERS[train.optim],
        accumulation=train.gradient_accumulation_steps,
        wrapper="zero" if zero else "ddp-view" if spec.num_gpus > 1 else "none",
        zero=zero,
        fresh=spec.model.from_scratch or is_builtin(spec.model.name_or_path),
        loop="deepspeed" if spec.method == "llamafactory" else spec.method,
        workspace=max(map(cublas_workspace, names), default=AMPERE_WORKSPACE),
        processors=max(
            (processors_of(card.name) for card in cards), key=attrgetter("count"), default=HOPPER_PROCESSORS
        ),
        transformers=minor(versions["transformers"]),
    )


def _zero(spec: RunSpec) -> Zero:
    config = spec.deepspeed or {}
    if not spec.train.bf16:
        raise NoTableError.of("deepspeed in fp32", UNKNOWN, "train.bf16=true")
    kind = config.get("data_types", {}).get("grad_accum_dtype")
    if kind not in (None, "bf16"):
        what = f"deepspeed.data_types.grad_accum_dtype={kind}"
        raise NoTableError.of(what, UNKNOWN, "left out, it is bf16")
    check_settings(config)
    return Zero.from_config(config, spec.num_gpus)


def padded(length: int) -> int:
    """A length in tokens as our batches have it."""
    return -(-length // LENGTH_ROUNDING) * LENGTH_ROUNDING
