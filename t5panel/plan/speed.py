"""Samples per second, time, energy and money before a start: a range with its basis, never above the roofline.

A step on a card takes the longer of what its host needs to launch the kernels and what the card needs for the matrix
products and for moving the rest through its memory. The constants were fitted to stock T5 loops measured on one H100
(torch 2.11, transformers 5.17 and 5.23, t5-base and v1_1-base) and are carried to other cards by peak and bandwidth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from t5panel.contract.deepspeed_keys import is_offloaded
from t5panel.contract.shapes import Shape
from t5panel.contract.words import Method
from t5panel.plan.cards import CardPeaks
from t5panel.plan.flops import Lengths, Paid, forward_flops

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

JOULES_PER_KWH = 3.6e6


class Span(msgspec.Struct, frozen=True):
    """A quantity at its best and at its worst: seconds, or a factor of them."""

    fast: float
    slow: float

    @property
    def middle(self) -> float:
        """The geometric mean."""
        return math.sqrt(self.fast * self.slow)

    def times(self, factor: float) -> Span:
        """Both ends multiplied."""
        return Span(self.fast * factor, self.slow * factor)


MATRIX_SHARE = Span(0.95, 0.60)
"""Of the peak that T5's matrix products reach: 0.67 on the H100, where power bounds them; consumer cards run above the
clock that their peak is stated for."""
TRAFFIC = Span(0.80, 1.25)
"""Around the bytes of `_traffic`: the spread of the measured loops."""
RESIDUAL_BYTES, FEED_FORWARD_BYTES, LOGIT_BYTES = 180.0, 100.0, 60.0
"""Memory traffic of forward and backward: per element of a sublayer's residual, of the feed-forward's inside, of the
logits. Under autocast residual, norms and logits are float32, and every product casts its inputs."""
GATED = 4.0
"""Inside of a gated feed-forward against a plain one, in traffic."""
SCORE_BYTES: dict[Literal["sdpa", "eager"], float] = {"sdpa": 30.0, "eager": 125.0}
"""Per attention score and head: eager keeps float32 scores and probabilities, sdpa the bias and its gradient."""
DROPOUT = 1.15
"""Traffic with dropout against none: 1.10 to 1.16."""
RECOMPUTED_TRAFFIC = 1.3
"""Traffic with checkpointing against none: one more forward."""
WEIGHT_BYTES = Span(8.0, 24.0)
"""Per parameter, forward and backward: cast to bf16 and read by each, the gradient added to what is there."""
BF16_WEIGHTS_TRAFFIC = Span(0.7, 1.0)
"""DeepSpeed's bf16 engine keeps residual and weights in bf16: 0.72 of autocast's step in the one loop measured."""
FP32_TRAFFIC = Span(1.0, 1.6)
"""Without autocast: no casts, and twice the bytes elsewhere. Not measured."""

LAUNCH_SECONDS = Span(4.3e-3, 8.5e-3)
"""Host time of forward and backward per transformer block, whatever the batch: some 200 kernels each."""
LAUNCH_AGAIN = 1.9
"""Launches with checkpointing against none."""
ENGINE_LAUNCHES: dict[int, Span] = {0: Span(1.2, 1.4), 1: Span(1.2, 1.4), 2: Span(1.2, 1.4), 3: Span(3.0, 3.5)}
"""DeepSpeed's hooks on every parameter, by ZeRO stage, against a plain loop."""
OPTIMIZER_BYTES = Span(40.0, 80.0)
"""Per parameter and step: fused AdamW reads and writes 28 bytes, clipping 12."""
ADAFACTOR_SECONDS = Span(1e-3, 3e-3)
"""Per transformer block and step: a Python loop over all tensors."""
CPU_ADAM_SECONDS = Span(1e-9, 8e-9)
"""Per parameter that a rank owns, optimizer offloaded, the way to the host included: 1.3 to 2.3 ns measured."""
LINK_SHARE = 1 / 16
"""Of a link's peak at worst: cards without peer access, in slots of fewer lanes. No run on several cards was timed."""

SAME, OTHER = 1.1, 1.27
"""Spread around a measurement: of the same work, and carried to other work.

Source: nine in ten of 992 pairs of measured loops, each foretold from the other, are closer than that.
"""


class Workload(msgspec.Struct, frozen=True):
    """All that decides how fast a run trains, besides the card."""

    shape: Shape
    paid: Paid
    method: Method
    zero_stage: int
    offload: bool
    world_size: int
    batch: int
    accumulation: int
    bf16: bool
    checkpointing: bool
    attention: Literal["sdpa", "eager"]
    dropout: bool
    adafactor: bool

    @property
    def effective_batch(self) -> int:
        """Rows per optimizer step."""
        return self.batch * self.accumulation * self.world_size

    @property
    def flops(self) -> float:
        """Model FLOP of one row, forward and backward, recomputation not counted."""
        return forward_flops(self.shape, self.paid).training

    @property
    def blocks(self) -> int:
        """Transformer blocks of both stacks."""
        return self.shape.num_layers + self.shape.num_decoder_layers


class Measured(msgspec.Struct, frozen=True):
    """What an earlier run on this machine reached."""

    run_id: str
    time: float
    """When it was created, in unix seconds."""
    card: str
    workload: Workload
    samples_per_second: float


class Estimate(msgspec.Struct, frozen=True):
    """How long `samples` rows take and what they cost; without a rate only why there is none."""

    samples: int
    basis: str
    samples_per_second: tuple[float, float] | None = None
    """Lowest and highest, all cards together."""
    roofline: float | None = None
    """Samples per second that the cards' peak and bandwidth allow at most."""
    efficiency: tuple[float, float] | None = None
    """Model FLOP against the cards' peak (MFU), lowest and highest."""
    watts: float = 0.0
    """All cards at their power limits."""
    price: float | None = None
    """Per kWh."""

    @property
    def middle(self) -> float | None:
        """The geometric mean of the two rates."""
        if self.samples_per_second is None:
            return None
        return math.sqrt(self.samples_per_second[0] * self.samples_per_second[1])

    def seconds(self, rate: float | None) -> float | None:
        """Training time at a rate: steps alone, without evaluations and checkpoints."""
        return None if rate is None else self.samples / rate

    def kwh(self, rate: float | None) -> float | None:
        """Energy of the cards at their power limit; the rest of the machine comes on top."""
        seconds = self.seconds(rate)
        return None if seconds is None else seconds * self.watts / JOULES_PER_KWH

    def cost(self, rate: float | None) -> float | None:
        """Money for that energy; None without a price."""
        energy = self.kwh(rate)
        return None if energy is None or self.price is None else energy * self.price


def workload_of(spec: RunSpec, shape: Shape, lengths: Lengths) -> Workload:
    """What a spec trains, on rows of these lengths."""
    train = spec.train
    return Workload(
        shape=shape,
        paid=lengths.paid(train.per_device_train_batch_size),
        method=spec.method,
        zero_stage=spec.zero_stage,
        offload=is_offloaded(spec.zero_optimization, "offload_optimizer"),
        world_size=spec.num_gpus,
        batch=train.per_device_train_batch_size,
        accumulation=train.gradient_accumulation_steps,
        bf16=train.bf16,
        checkpointing=train.gradient_checkpointing,
        attention=spec.model.attn_implementation,
        dropout=train.dropout_rate != 0,
        adafactor=train.optim == "adafactor",
    )


def estimate(
    work: Workload,
    card: CardPeaks,
    *,
    samples: int,
    price: float | None = None,
    measured: tuple[Measured, ...] = (),
) -> Estimate:
    """The range of a workload on cards of one kind, from a run measured on them where there is one."""
    nearest = _nearest(work, card, measured)
    seconds = step_seconds(work, card) if nearest is None else _scaled(work, card, nearest)
    floor = floor_seconds(work, card)
    rows = work.effective_batch
    rates = rows / max(seconds.slow, floor), rows / max(seconds.fast, floor)
    peak = work.world_size * _peak(work, card)
    return Estimate(
        samples=samples,
        basis=_basis(work, card, nearest),
        samples_per_second=rates,
        roofline=rows / floor,
        efficiency=(rates[0] * work.flops / peak, rates[1] * work.flops / peak),
        watts=work.world_size * card.power,
        price=price,
    )


def floor_seconds(work: Workload, card: CardPeaks) -> float:
    """The roofline: no optimizer step is faster than its FLOP at peak, or its least traffic at full bandwidth.

    The least traffic: every weight of a product read in bf16 by each forward and each backward, and by the optimizer
    AdamW's 28 bytes or Adafactor's 12 for each parameter that the rank updates.
    Source: Williams, Waterman and Patterson 2009, Roofline.
    """
    forward = forward_flops(work.shape, work.paid)
    flops = work.batch * work.accumulation * (forward.training + (forward.blocks if work.checkpointing else 0.0))
    shape = work.shape
    multiplied = shape.parameters - (0 if shape.tied else shape.vocab_size * shape.d_model)
    update = 0.0 if work.offload else (12 if work.adafactor else 28) * _owned(work)
    traffic = work.accumulation * 2 * (2 if work.bf16 else 4) * multiplied + update
    return max(flops / _peak(work, card), traffic / card.bandwidth)


def step_seconds(work: Workload, card: CardPeaks) -> Span:
    """One optimizer step, from the constants above alone."""
    launch, device = _launch(work), _device(work, card)
    # What the host is late with shows even where the card is the slower of the two.
    micro = Span(max(launch.fast, device.fast), max(launch.slow, device.slow + launch.fast / 2))
    wire, update = _wire_bytes(work), _update(work, card)
    return Span(
        max(work.accumulation * micro.fast, wire / card.link) + update.fast,
        work.accumulation * micro.slow + wire / (card.link * LINK_SHARE) + update.slow,
    )


def _launch(work: Workload) -> Span:
    """Host seconds to launch one forward and backward."""
    engine = ENGINE_LAUNCHES[work.zero_stage] if _has_engine(work) else Span(1.0, 1.0)
    factor = work.blocks * (LAUNCH_AGAIN if work.checkpointing else 1.0)
    return Span(LAUNCH_SECONDS.fast * engine.fast, LAUNCH_SECONDS.slow * engine.slow).times(factor)


def _device(work: Workload, card: CardPeaks) -> Span:
    """Card seconds of one forward and backward: matrix products, and traffic of everything between them."""
    forward = forward_flops(work.shape, work.paid)
    flops = work.batch * (forward.training + (forward.blocks if work.checkpointing else 0.0))
    at_peak, moving = flops / _peak(work, card), work.batch * _traffic(work) / card.bandwidth
    width = FP32_TRAFFIC if not work.bf16 else BF16_WEIGHTS_TRAFFIC if _has_engine(work) else Span(1.0, 1.0)
    weights = WEIGHT_BYTES.times(work.shape.parameters / card.bandwidth)
    return Span(
        at_peak / MATRIX_SHARE.fast + moving * TRAFFIC.fast * width.fast + weights.fast,
        at_peak / MATRIX_SHARE.slow + moving * TRAFFIC.slow * width.slow + weights.slow,
    )


def _traffic(work: Workload) -> float:
    """Bytes that one row's forward and backward move besides the matrix products."""
    shape, paid = work.shape, work.paid
    encoder, decoder = shape.num_layers * paid.source, shape.num_decoder_layers * paid.target
    residual = (2 * encoder + 3 * decoder) * shape.d_model
    inside = (encoder + decoder) * shape.d_ff * (GATED if shape.gated else 1.0)
    scores = shape.num_heads * (
        shape.num_layers * paid.source_squared + shape.num_decoder_layers * (paid.target_squared + paid.product)
    )
    moved = (
        RESIDUAL_BYTES * residual
        + FEED_FORWARD_BYTES * inside
        + SCORE_BYTES[work.attention] * scores
        + LOGIT_BYTES * shape.vocab_size * paid.target
    )
    return moved * (DROPOUT if work.dropout else 1.0) * (RECOMPUTED_TRAFFIC if work.checkpointing else 1.0)


def _update(work: Workload, card: CardPeaks) -> Span:
    """Seconds of the optimizer, once a step."""
    if work.offload:
        return CPU_ADAM_SECONDS.times(_owned(work))
    moving = OPTIMIZER_BYTES.times(_owned(work) / card.bandwidth)
    host = ADAFACTOR_SECONDS.times(work.blocks if work.adafactor else 0.0)
    return Span(moving.fast + host.fast, moving.slow + host.slow)


def _wire_bytes(work: Workload) -> float:
    """Bytes a card sends per optimizer step.

    DDP and ZeRO-0 and 1 reduce once a step, ZeRO-2 and 3 after every backward; ZeRO-3 gathers the weights for each
    forward and each backward, 1 and 2 once a step. Source: ZeRO paper, section 7; a ring sends (n - 1) / n of what it
    reduces or gathers.
    """
    shape, micro_steps = work.shape, work.accumulation
    width = 2 if _has_engine(work) and work.bf16 else 4
    match work.zero_stage:
        case 0:
            passes = 2
        case 1:
            passes = 3
        case 2:
            passes = micro_steps + 1
        case _:
            passes = 3 * micro_steps
    return passes * width * shape.parameters * (work.world_size - 1) / work.world_size


def _owned(work: Workload) -> float:
    """Parameters that one rank updates."""
    return work.shape.parameters / (work.world_size if work.zero_stage else 1)


def _has_engine(work: Workload) -> bool:
    return work.method in ("deepspeed", "llamafactory")


def _peak(work: Workload, card: CardPeaks) -> float:
    return card.bf16 if work.bf16 else card.fp32


def _nearest(work: Workload, card: CardPeaks, measured: tuple[Measured, ...]) -> Measured | None:
    """The newest run on such cards that is most like this one; they come newest first."""
    here = [run for run in measured if run.card == card.name]
    return max(here, key=lambda run: _likeness(run.workload, work), default=None)


def _likeness(one: Workload, other: Workload) -> int:
    names = ("method", "checkpointing", "bf16", "attention", "world_size", "zero_stage", "shape", "batch", "paid")
    return sum(getattr(one, name) == getattr(other, name) for name in names)


def _scaled(work: Workload, card: CardPeaks, run: Measured) -> Span:
    """Seconds of a step as long as the measured run was against its own estimate."""
    took = run.workload.effective_batch / run.samples_per_second
    ratio = took / step_seconds(run.workload, card).middle
    spread = SAME if run.workload == work else OTHER
    middle = step_seconds(work, card).middle * ratio
    return Span(middle / spread, middle * spread)


def _basis(work: Workload, card: CardPeaks, run: Measured | None) -> str:
    """Where a rate comes from, in words."""
    if run is not None:
        peak = run.workload.world_size * _peak(run.workload, card)
        share = run.samples_per_second * run.workload.flops / peak
        like = "the same work" if run.workload == work else "carried over from other settings"
        return f"measured here by {run.run_id}: {run.samples_per_second:.1f} samples/s, {share:.1%} of peak; {like}"
    words = f"stock T5 loops measured on one H100, carried to {card.name} by its peak and bandwidth"
    return f"{words}; several cards not measured" if work.world_size > 1 else words
