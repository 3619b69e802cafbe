"""The table of the installed versions: every kind of step, compiled on many cores."""

from __future__ import annotations

import itertools
import lzma
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec
import torch
import transformers

from t5panel.contract.memory_table import Loss, Precision, Section, Table, minor, table_name
from t5panel.trainers.simulator.compile import Part, compile_kind, section_of
from t5panel.trainers.simulator.step import Kind

LOSSES: dict[Precision, tuple[Loss, ...]] = {
    "autocast": ("summed", "model", "trainer", "chunked", "one-chunk"),
    "bf16": ("summed", "model", "trainer", "chunked", "one-chunk"),
    "fp32": ("summed", "model"),
}
ARCHITECTURES = (
    {"model_type": "t5", "gated": False, "tied": True},  # T5
    {"model_type": "t5", "gated": True, "tied": True},  # v1.1, mT5 and ByT5 from random weights
    {"model_type": "t5", "gated": True, "tied": False},  # v1.1, mT5 and ByT5 as published
    {"model_type": "t5", "gated": False, "tied": False},
    {"model_type": "umt5", "gated": True, "tied": True},
    {"model_type": "umt5", "gated": True, "tied": False},
)


def kinds() -> Iterator[Kind]:
    """Every kind of step that a table holds. Without dropout only the losses of plain loops.

    Under ZeRO-3 only what is run: our trainers, which always pad, and the study's loop, which always drops out.
    """
    for precision, losses in LOSSES.items():
        for loss, architecture, attention, padded, checkpointing, dropout in itertools.product(
            losses, ARCHITECTURES, ("sdpa", "eager"), (True, False), (True, False), (True, False)
        ):
            if not dropout and loss not in ("summed", "model"):
                continue
            run = (loss == "summed" and padded) or (loss == "model" and dropout)
            for sharded in (False, True) if precision == "bf16" and run else (False,):
                yield Kind(
                    precision=precision,
                    attention=attention,  # type: ignore[arg-type]
                    padded=padded,
                    checkpointing=checkpointing,
                    dropout=dropout,
                    loss=loss,
                    sharded=sharded,
                    **architecture,  # type: ignore[arg-type]
                )


def build(wanted: list[Kind], jobs: int) -> Table:
    """The table of some kinds."""
    sections: dict[Section, int] = {}
    labels: dict[str, int] = {}
    found: dict[str, dict[str, int]] = {}
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
    with ProcessPoolExecutor(jobs, spawn, initializer=_settle) as pool:
        for kind, compiled in zip(wanted, pool.map(_compiled, wanted, chunksize=4), strict=True):
            if isinstance(compiled, str):
                sys.stderr.write(f"left out: {kind.key}: {compiled}\n")
                continue
            numbers = {name: section_of(part, labels) for name, part in compiled.items()}
            found[kind.key] = {name: sections.setdefault(part, len(sections)) for name, part in numbers.items()}
    return Table(minor(transformers.__version__), (minor(torch.__version__),), tuple(map(_raw, sections)), found)


def _settle() -> None:
    """One thread a process, and a DeepSpeed that neither looks for a card nor loads torch's compiler."""
    torch.set_num_threads(1)
    os.environ |= {"DS_ACCELERATOR": "cpu", "TORCHDYNAMO_DISABLE": "1"}


def _raw(section: Section) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(section))


def _compiled(kind: Kind) -> Mapping[str, Part] | str:
    try:
        return compile_kind(kind)
    except Exception as error:  # noqa: BLE001 - one kind must not cost the others
        return f"{type(error).__name__}: {error}"


def write(table: Table, folder: Path) -> Path:
    """Write a table under its name. One that another torch gave before and that is equal gains this torch's version."""
    path = folder / table_name(table.transformers)
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        before = msgspec.json.decode(lzma.decompress(path.read_bytes()), type=Table)
        if (before.sections, before.kinds) == (table.sections, table.kinds):
            table = msgspec.structs.replace(table, torch=tuple(sorted({*before.torch, *table.torch})))
    path.write_bytes(lzma.compress(msgspec.json.encode(table)))
    return path
