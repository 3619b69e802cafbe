"""Tokenised rows from memory-mapped files, in an order that any rank can compute at any step, padded into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from t5panel.contract.spec import RunSpec
from t5panel.trainers.loss import IGNORED
from t5panel.trainers.order import permute
from t5panel.trainers.store import store_meta

PAD = 0
MULTIPLE = 8
"""Lengths are padded to a multiple of 8: tensor cores and SDPA's bias want it."""
SPLIT_KEY = 0x7E57
"""Fixed, so that runs of different seeds are evaluated on the same held-out rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One tokenised pair: 1-D integer arrays, each ending in the end-of-sequence token."""

    source: NDArray[np.integer]
    target: NDArray[np.integer]


class TokenStore(Dataset[Row]):
    """The tokenised rows in one folder of the token cache: mapped from the files, never read into the process."""

    def __init__(self, folder: Path) -> None:
        meta = store_meta(folder)
        self._rows: int = meta["rows"]
        self._sides = {side: _Side(folder, side, np.dtype(meta["dtype"])) for side in ("source", "target")}

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> Row:
        return Row(self._sides["source"][index], self._sides["target"][index])


class _Side:
    """One column of token ids: a flat array and where each row ends."""

    def __init__(self, folder: Path, side: str, dtype: np.dtype[np.integer]) -> None:
        self._tokens = np.memmap(folder / f"{side}.tokens", dtype=dtype, mode="r")
        self._ends = np.memmap(folder / f"{side}.ends", dtype=np.int64, mode="r")

    def __getitem__(self, index: int) -> NDArray[np.integer]:
        begin = 0 if index == 0 else int(self._ends[index - 1])
        return self._tokens[begin : int(self._ends[index])]


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows are trained on and which are held out; without a validation store the held-out ones are train's."""

    train: TokenStore
    evaluation: TokenStore
    train_rows: int
    eval_rows: int
    held_out: int
    """Rows of `train` that are never trained on."""

    def train_row(self, position: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers of positions 0..train_rows-1, behind the held-out ones."""
        return permute(np.asarray(position, dtype=np.int64) + self.held_out, len(self.train), SPLIT_KEY)

    def eval_row(self, position: int) -> int:
        """Row number of a held-out position."""
        if self.held_out == 0:
            return position
        return int(permute(np.asarray(position, dtype=np.int64), len(self.train), SPLIT_KEY))


def open_split(train: Path, validation: Path | None, max_eval_samples: int) -> Split:
    """The rows of a run. Without a validation folder, up to `max_eval_samples` and a tenth of the rows are held out."""
    store = TokenStore(train)
    if validation is not None:
        evaluation = TokenStore(validation)
        return Split(store, evaluation, len(store), min(len(evaluation), max_eval_samples), 0)
    held_out = min(max_eval_samples, len(store) // 10)
    return Split(store, store, len(store) - held_out, held_out, held_out)


def total_steps(spec: RunSpec, train_rows: int) -> int:
    """Optimizer steps of a run: max_steps, or enough for num_train_epochs, rounded up."""
    if spec.train.max_steps is not None:
        return spec.train.max_steps
    return max(1, int(np.ceil(spec.train.num_train_epochs * train_rows / spec.effective_batch)))


def rows_of_step(split: Split, *, step: int, effective_batch: int, seed: int) -> NDArray[np.int64]:
    """Row numbers of optimizer step `step` (0-based), shape (effective_batch,).

    The rows are one endless stream, every epoch in an order of its own; steps cut it into equal pieces.
    """
    positions = np.arange(step * effective_batch, (step + 1) * effective_batch, dtype=np.int64)
    epochs, offsets = np.divmod(positions, split.train_rows)
    shuffled = np.empty_like(offsets)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        shuffled[here] = permute(offsets[here], split.train_rows, hash_of(seed, int(epoch)))
    return split.train_row(shuffled)


def hash_of(seed: int, epoch: int) -> int:
    """A 64-bit key from a seed and an epoch. Source: splitmix64's increment."""
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 1) % 2**64


class RankBatches(Sampler[list[int]]):
    """The micro-batches of one rank from a step on: micro-batch j of a step takes the ranks' slices side by side."""

    def __init__(self, split: Split, spec: RunSpec, *, rank: int, first_step: int, last_step: int) -> None:
        self._split, self._spec, self._rank = split, spec, rank
        self._first, self._last = first_step, last_step

    def __len__(self) -> int:
        return (self._last - self._first) * self._spec.train.gradient_accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        train = self._spec.train
        size, world = train.per_device_train_batch_size, self._spec.num_gpus
        for step in range(self._first, self._last):
            rows = rows_of_step(self._split, step=step, effective_batch=self._spec.effective_batch, seed=train.seed)
            for micro in rows.reshape(train.gradient_accumulation_steps, world, size)[:, self._rank]:
                yield micro.tolist()


def collate(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Rows as one padded batch of int64 tensors.

    input_ids and attention_mask are (rows, source); labels, padded with -100, and decoder_input_ids, the labels
    shifted right behind the start token 0, are (rows, target).
    """
    source, target = (_padded_length([getattr(row, side) for row in rows]) for side in ("source", "target"))
    input_ids = torch.full((len(rows), source), PAD)
    labels = torch.full((len(rows), target), IGNORED)
    for index, row in enumerate(rows):
        input_ids[index, : len(row.source)] = torch.from_numpy(row.source.astype(np.int64))
        labels[index, : len(row.target)] = torch.from_numpy(row.target.astype(np.int64))
    attention_mask = (torch.arange(source) < torch.tensor([[len(row.source)] for row in rows])).long()
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels,
        "decoder_input_ids": shift_right(labels),
    }


def shift_right(labels: Tensor) -> Tensor:
    """Decoder inputs of labels (rows, target): start token 0 first, padding where a label is ignored."""
    shifted = torch.full_like(labels, PAD)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == IGNORED, PAD)


def train_loader(split: Split, spec: RunSpec, *, rank: int, first_step: int, last_step: int) -> DataLoader[Row]:
    """The micro-batches of one rank, `gradient_accumulation_steps` for each optimizer step."""
    return DataLoader(
        split.train,
        batch_sampler=RankBatches(split, spec, rank=rank, first_step=first_step, last_step=last_step),
        collate_fn=collate,
        num_workers=spec.train.dataloader_num_workers,
        pin_memory=spec.device == "cuda",
        # Of its own: the default generator is dropout's, and drawing from it would make a resumed run differ.
        generator=torch.Generator(),
    )


def _padded_length(arrays: Sequence[NDArray[np.integer]]) -> int:
    longest = max(len(array) for array in arrays)
    return -(-longest // MULTIPLE) * MULTIPLE
