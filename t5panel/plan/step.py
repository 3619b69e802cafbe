"""One training step as memory sees it: the model's shape, the kind of step, sizes, optimizer and who shards what."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from t5panel.contract.memory_table import Loss, Precision, kind_key
from t5panel.contract.shapes import Shape
from t5panel.plan.cards import AMPERE_WORKSPACE, HOPPER_PROCESSORS
from t5panel.plan.kernels import FLOAT, Processors
from t5panel.plan.table import NoTableError
from t5panel.plan.zero import Zero

OptimizerName = Literal["adamw_fused", "adamw_foreach", "adamw_loop", "adamw_8bit", "adafactor"]
Attention = Literal["sdpa", "eager"]
Wrapper = Literal["none", "ddp", "ddp-view", "zero"]
"""Who gathers the gradients: nobody; DDP, with gradients beside its buckets or as views of them; DeepSpeed."""


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Everything that decides the memory of one card; lengths in tokens."""

    shape: Shape
    batch: int
    source: int
    target: int
    precision: Precision = "autocast"
    attention: Attention = "sdpa"
    padded: bool = True
    checkpointing: bool = False
    dropout: bool = True
    loss: Loss = "summed"
    optimizer: OptimizerName = "adamw_fused"
    accumulation: int = 1
    wrapper: Wrapper = "none"
    zero: Zero | None = None
    chunk: int = 0
    """Target tokens of a chunk of a chunked loss."""
    expandable_segments: bool = False
    fresh: bool = False
    """The model is built on the card from random weights, its tied embeddings one by one at first."""
    loop: Literal["bare", "manual", "trainer", "deepspeed"] = "bare"
    """Who trains: a loop that forgets its loss at once, or a method of ours."""
    workspace: int = AMPERE_WORKSPACE
    """Bytes of one cuBLAS workspace: the card decides it."""
    processors: Processors = HOPPER_PROCESSORS
    """Of the card: they decide how much a sum over many rows takes for a moment."""
    transformers: str = "5.23"

    @property
    def kind(self) -> str:
        """The step's name in a memory table."""
        return kind_key(
            precision=self.precision,
            attention=self.attention,
            padded=self.padded,
            checkpointing=self.checkpointing,
            dropout=self.dropout,
            gated=self.shape.gated,
            tied=self.shape.tied,
            loss=self.loss,
            model_type=self.shape.model_type,
            sharded=self.zero is not None and self.zero.stage == 3,
        )

    @property
    def lingers(self) -> bool:
        """Loop or engine has a name for the loss, so that its graph lives until that of the next pass is there."""
        return self.loop in ("manual", "deepspeed") or self.zero is not None

    @property
    def settles(self) -> bool:
        """Our trainers let a first backward pass of one row lay out DDP's buckets, in which gradients stay then."""
        return self.wrapper == "ddp-view" and self.loop != "bare"

    @property
    def width(self) -> int:
        """Bytes of one weight in the forward pass."""
        return 2 if self.precision == "bf16" else 4

    @property
    def values(self) -> dict[str, float]:
        """What the letters of a table's monomials stand for."""
        block = SUMMED_WIDTH if self.shape.d_kv <= SUMMED_WIDTH else 2 * SUMMED_WIDTH
        of_block = block / SUMMED_WIDTH * (1 + SUM_HEADER / (FLOAT * block**2))
        return {
            **lengths_of(self.shape),
            "b": self.batch,
            "s": self.source,
            "t": self.target,
            **{letter: _up(self.source, unit) for letter, unit in (("p", 8), ("P", 16), ("S", 32))},
            **{letter: _up(self.target, unit) for letter, unit in (("q", 8), ("Q", 16), ("T", 32))},
            "u": of_block * _up(self.source, block),
            "v": of_block * _up(self.target, block),
            "c": min(self.chunk, self.batch * self.target),
        }

    @property
    def workspaces(self) -> int:
        """Bytes of the cuBLAS workspaces that stay: of the thread that runs forward, and of autograd's."""
        return 2 * self.workspace

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Bytes of the batch on the card: ids, mask and labels, and decoder inputs where our trainers make them."""
        lengths = (self.source, self.source, *((self.target,) * (2 if self.loss == "summed" else 1)))
        return tuple(8 * self.batch * length for length in lengths)

    @property
    def has_single_block(self) -> bool:
        """Whether a stack has one block only, for which no table has sections."""
        return 1 in (self.shape.num_layers, self.shape.num_decoder_layers)

    def with_single_blocks_as(self, count: int) -> TrainingStep:
        """The step of a model whose stacks of one block have so many."""
        layers, decoder_layers = (
            count if blocks == 1 else blocks for blocks in (self.shape.num_layers, self.shape.num_decoder_layers)
        )
        return replace(self, shape=replace(self.shape, num_layers=layers, num_decoder_layers=decoder_layers))


def _up(length: int, unit: int) -> int:
    return -(-length // unit) * unit


SUMMED_WIDTH = 64
"""Of a head: attention's kernel sums the gradient of wider ones in blocks of twice as many rows and columns."""
SUM_HEADER = 16
"""Bytes of such a block beside its sums: a lock, a counter. Source: GradQTempStorage in torch's kernel_backward.h."""
HEAD_ALIGNMENT = 8
"""Source: check_head_dim_size_mem_efficient in torch's sdp_utils.cpp, bfloat16."""


def check_kernel(shape: Shape, attention: Attention) -> None:
    """Raises: NoTableError when scaled attention would take a kernel that no table was made with."""
    if attention == "sdpa" and shape.d_kv % HEAD_ALIGNMENT:
        what = f"no memory is known of scaled attention where d_kv is no multiple of {HEAD_ALIGNMENT}"
        raise NoTableError.of(f"d_kv {shape.d_kv}", what, "eager attention")


def embeddings_before(step: TrainingStep) -> frozenset[int]:
    """Before which weights a fresh model has another embedding: its encoder's and its decoder's first; none without."""
    return _firsts_of_stacks(step.shape) if step.fresh else frozenset()


@lru_cache(maxsize=64)
def _firsts_of_stacks(shape: Shape) -> frozenset[int]:
    names = [parameter.name for parameter in parameters_of(shape)]
    return frozenset(next(n for n, name in enumerate(names) if name.startswith(stack)) for stack in ("enc", "dec"))


@lru_cache(maxsize=64)
def sections_in_order(shape: Shape) -> tuple[tuple[str, range], ...]:
    """A table's sections in the order of a pass, each with the blocks that it stands for, in their order."""
    encoder, decoder = _ends(shape.num_layers), _ends(shape.num_decoder_layers)
    forward = [
        (f"F{letter}.{end}", blocks) for letter, ends in (("e", encoder), ("d", decoder)) for end, blocks in ends
    ]
    backward = [(f"B{name[1:]}", blocks[::-1]) for name, blocks in reversed(forward)]
    return (("begin", range(1)), *forward, ("loss", range(1)), *backward)


def _ends(count: int) -> tuple[tuple[str, range], ...]:
    """The templates of a stack's blocks; one that stands for no block is left out."""
    last = count - 1
    found = (
        ("first", range(1)),
        ("second", range(1, min(2, last))),
        ("middle", range(2, last)),
        ("last", range(last, count)),
    )
    return tuple((end, blocks) for end, blocks in found if blocks)


def lengths_of(shape: Shape) -> dict[str, int]:
    """The letters of a table's monomials that the model decides."""
    return {
        "h": shape.num_heads,
        "k": shape.d_kv,
        "d": shape.d_model,
        "f": shape.d_ff,
        "V": shape.vocab_size,
        "x": shape.num_layers - 2,
        "y": shape.num_decoder_layers - 2,
    }


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight by its name in the model, and its lengths."""

    name: str
    lengths: tuple[int, ...]
    elements: int = field(init=False)

    def __post_init__(self) -> None:
        product = 1
        for length in self.lengths:
            product *= length
        object.__setattr__(self, "elements", product)


@lru_cache(maxsize=64)
def parameters_of(shape: Shape) -> tuple[Parameter, ...]:
    """Every weight of a T5, in the order of `model.parameters()`. Source: modeling_t5.py of transformers."""
    model, inner = shape.d_model, shape.d_kv * shape.num_heads
    bias = ("relative_attention_bias.weight", (shape.relative_attention_num_buckets, shape.num_heads))
    projections = [(f"{name}.weight", (inner, model)) for name in "qkv"] + [("o.weight", (model, inner))]
    wide = [f"wi_{number}" for number in range(2)] if shape.gated else ["wi"]
    feed_forward = [(f"DenseReluDense.{name}.weight", (shape.d_ff, model)) for name in wide]
    feed_forward.append(("DenseReluDense.wo.weight", (model, shape.d_ff)))

    def block(stack: str, number: int) -> list[Parameter]:
        biased = number == 0 or shape.model_type == "umt5"
        layers: list[list[tuple[str, tuple[int, ...]]]] = [
            [(f"SelfAttention.{name}", lengths) for name, lengths in [*projections, *([bias] if biased else [])]]
        ]
        if stack == "decoder":
            layers.append([(f"EncDecAttention.{name}", lengths) for name, lengths in projections])
        layers.append(list(feed_forward))
        return [
            Parameter(f"{stack}.block.{number}.layer.{layer}.{name}", lengths)
            for layer, weights in enumerate(layers)
            for name, lengths in [*weights, ("layer_norm.weight", (model,))]
        ]

    found = [Parameter("shared.weight", (shape.vocab_size, model))]
    for stack, layers in (("encoder", shape.num_layers), ("decoder", shape.num_decoder_layers)):
        for number in range(layers):
            found += block(stack, number)
        found.append(Parameter(f"{stack}.final_layer_norm.weight", (model,)))
    if not shape.tied:
        found.append(Parameter("lm_head.weight", (shape.vocab_size, model)))
    return tuple(found)


def optimizer_groups(step: TrainingStep) -> list[list[int]]:
    """Numbers of the weights in each group of the optimizer. Ours decays matrices and not vectors; others have one."""
    lengths = [parameter.lengths for parameter in parameters_of(step.shape)]
    if step.loss != "summed":
        return [list(range(len(lengths)))]
    vectors = [number for number, each in enumerate(lengths) if len(each) < 2]
    return [[number for number in range(len(lengths)) if number not in set(vectors)], vectors]
