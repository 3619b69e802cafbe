"""The table of memory: what a training step allocates, section by section, with sizes as products of model dimensions.

Written by the simulator of the trainers, read by the plan. A section is a stretch of a step: before the first block,
one block forward or backward, the loss. Of each stack the first, the second, a middle and the last block are kept;
deeper models repeat the middle one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

WORKSPACE = "w"
"""Monomial of a cuBLAS workspace, whose size is the device's. It is allocated once and stays."""
SYMBOLS = "bsthkdfVpqPQSTuvcxy"
"""Letters of monomials: batch, source, target, heads, d_kv, d_model, d_ff, vocabulary; source and target rounded up to
8 (rows of SDPA's bias), to 16 (of its gradient), to 32 (its logsumexp) and to 64 (its sums, for heads of 64 elements at
most); target tokens of a chunk of the loss; middle blocks of the encoder (x) and of the decoder (y)."""

Precision = Literal["autocast", "bf16", "fp32"]
"""Mixed bfloat16 over float32 weights; everything in bfloat16; everything in float32."""
Loss = Literal["model", "trainer", "summed", "chunked", "one-chunk"]
"""Who computes the loss: the model; the model under HF Trainer; our trainers; checkpointed in chunks, or in one."""
Place = Literal["here", "before", "after", "first", "last", "middles"]
"""Which block of a stack is meant, seen from another: the same, a lower or a higher neighbour, an end, all between."""
HookName = Literal["pre_forward", "post_forward", "pre_backward", "post_backward", "kept", "freed"]
"""When ZeRO-3 brings the weights of a module or may take them away; from when and until when a recomputed block keeps
their storage, whoever takes them away."""
Polynomial = tuple[tuple[str, float], ...]
"""Monomials with their coefficients, in bytes."""


def kind_key(
    *,
    precision: Precision,
    attention: str,
    padded: bool,
    checkpointing: bool,
    dropout: bool,
    gated: bool,
    tied: bool,
    loss: Loss,
    model_type: str,
    sharded: bool = False,
) -> str:
    """The name of a kind of step: all that decides which operations run, but not how large they are."""
    flags = {
        "padded": padded,
        "checkpointing": checkpointing,
        "dropout": dropout,
        "gated": gated,
        "tied": tied,
        "sharded": sharded,
    }
    return " ".join((model_type, precision, attention, loss, *(name for name, on in flags.items() if on)))


def table_name(transformers: str) -> str:
    """The file of a version of transformers; only major and minor count."""
    return f"transformers-{minor(transformers)}.json.xz"


def minor(version: str) -> str:
    """`5.23` of `5.23.0` or `5.23.0.dev0+cpu`."""
    return ".".join(version.split(".")[:2])


class Birth(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    """A storage of coefficient times monomial bytes is allocated. `label` names it within its section."""

    coefficient: float
    monomial: str
    label: int


class Death(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Storages that were born in sections of a stack are freed, in the order of their labels."""

    stack: str
    place: Place
    labels: tuple[int, ...]


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A gradient is complete. `parameter` is its weight, named within its block."""

    stack: str
    place: Place
    label: int
    parameter: str


class Hook(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Under ZeRO-3 something happens to a module. `module` is named within its block; without a stack in full."""

    name: HookName
    stack: str
    place: Place
    module: str


class Sums(msgspec.Struct, frozen=True, array_like=True):
    """What a section adds up to, without its order."""

    change: Polynomial
    gradients: Polynomial
    """The part of the change that is gradients of weights."""
    peaks: tuple[Polynomial, ...]
    """The changes at which its peak may be."""


class Section(msgspec.Struct, frozen=True, array_like=True):
    """Births and deaths in order, and their sums."""

    events: tuple[Birth | Death | Ready | Hook, ...]
    kept: Sums
    """With the gradients it makes."""
    given: Sums
    """With gradients that go elsewhere at once: into buckets, or onto those of the batch before."""


class Table(msgspec.Struct, frozen=True):
    """All kinds of one version of transformers. Sections that are equal are stored once."""

    transformers: str
    torch: tuple[str, ...]
    """Versions of torch that were found to give this table."""
    sections: tuple[msgspec.Raw, ...]
    """Sections that are not decoded yet: a plan needs few of some thousands."""
    kinds: dict[str, dict[str, int]]
    """Kind → name of a section → its number: begin, loss; Fe, Fd, Be, Bd with .first, .second, .middle or .last."""

    def section(self, number: int) -> Section:
        """One of the sections."""
        return msgspec.json.decode(self.sections[number], type=Section)
