"""The random generators of a rank, in a checkpoint and back."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed


def save_rng(folder: Path, rank: int) -> None:
    """Save this rank's random generators into a checkpoint."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state()
    torch.save(state, rng_file(folder, rank))


def load_rng(folder: Path, *, rank: int, seed: int, step: int) -> None:
    """Restore this rank's random generators; a rank that the saving run did not have gets a stream of its own."""
    path = rng_file(folder, rank)
    if not path.exists():
        set_seed(zlib.crc32(f"{seed} {rank} {step}".encode()))
        return
    with torch.serialization.safe_globals(_numpy_globals()):
        state = torch.load(path, weights_only=True)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        cuda = state["cuda"]
        # transformers' Trainer, which wrote this file in earlier versions, keeps one state per visible card.
        torch.cuda.random.set_rng_state(cuda[torch.cuda.current_device()] if isinstance(cuda, list) else cuda)


def rng_file(folder: Path, rank: int) -> Path:
    """Where a rank's random generators are saved."""
    return folder / f"rng_state_{rank}.pth"


def _numpy_globals() -> list[Any]:
    """What numpy's generator state is pickled from: enough for weights_only loading."""
    return [np.ndarray.__reduce__(np.empty(0))[0], np.ndarray, np.dtype, type(np.dtype(np.uint32))]
