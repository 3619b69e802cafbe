"""The loss of all methods: cross-entropy summed over target tokens, normalised once per optimizer step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100
Batch = Mapping[str, Tensor]


def summed_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Sum of the cross-entropy over a batch's target tokens, a float32 scalar.

    `batch` holds input_ids and attention_mask (rows, source), decoder_input_ids and labels (rows, target); labels of
    -100 do not count. The sum, not the mean, so that a mean per token over ranks and accumulation can be formed.
    """
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=batch["decoder_input_ids"],
    ).logits
    return cross_entropy_sum(logits, batch["labels"])


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy in float32; logits (rows, target, vocabulary), labels (rows, target).

    Without gradients row by row: float32 copies of all logits of a large vocabulary would not fit beside the model.
    """
    if torch.is_grad_enabled():
        return _summed(logits.flatten(0, 1), labels.flatten())
    return torch.stack([_summed(row, label) for row, label in zip(logits, labels, strict=True)]).sum()


def _summed(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")


def target_tokens(batch: Batch) -> int:
    """Target tokens that count in a batch. Call it on a CPU batch: on a GPU it would wait for the device."""
    return int((batch["labels"] != IGNORED).sum())


def to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """A batch on a device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
