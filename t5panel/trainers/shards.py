"""The files of DeepSpeed's engine: read without running what is in them, written without leaving a rank behind."""

from __future__ import annotations

from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

CLASSES = (LossScaler, ZeroStageEnum, fragment_address)
"""All that ZeRO 0-3 in fp32 and bf16 pickles beside tensors; none of them acts when it is made."""


class ShardFiles(TorchCheckpointEngine):  # type: ignore[misc]
    """DeepSpeed's reader and writer of checkpoint files, with two faults of its own one cured.

    It unpickles whatever a file holds; and a rank that cannot write leaves `save_checkpoint` while the others wait for
    it in a barrier there. Here the error is kept for after it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._error: OSError | RuntimeError | None = None

    def load(self, path: str, map_location: Any = None) -> Any:  # noqa: ANN401
        """What a file holds. Raises: pickle.UnpicklingError for anything but tensors, numbers and CLASSES."""
        with torch.serialization.safe_globals(list(CLASSES)):
            return torch.load(path, map_location=map_location, weights_only=True)

    def save(self, state_dict: dict[str, Any], path: str) -> None:
        """Write a file, or keep the error."""
        try:
            super().save(state_dict, path)
        except torch.OutOfMemoryError:
            raise
        except (OSError, RuntimeError) as error:
            self._error = error

    def raise_first(self) -> None:
        """Raise what could not be written since the last call."""
        error, self._error = self._error, None
        if error is not None:
            raise error
