"""A pseudo-random permutation of any size without memory: ten million rows shuffled without ten million numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6


def permute(index: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Where a keyed permutation of 0..size-1 sends `index`; same shape.

    Source: a Feistel network (Luby and Rackoff 1988) on the next power of four, walked until the value is below `size`
    (cycle walking, Black and Rogaway 2002).
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    value = index.astype(np.uint64)
    value = _feistel(value, half, key)
    while (outside := value >= size).any():
        value = np.where(outside, _feistel(value, half, key), value)
    return value.astype(np.int64)


def _feistel(value: NDArray[np.uint64], half: int, key: int) -> NDArray[np.uint64]:
    mask = np.uint64(2**half - 1)
    left, right = value >> np.uint64(half), value & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (_mix(right, key, number) & mask)
    return (left << np.uint64(half)) | right


def _mix(value: NDArray[np.uint64], key: int, number: int) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea and Flood 2014) over a value, a key and a round number."""
    with np.errstate(over="ignore"):
        mixed = value + np.uint64((key + number * 0x9E3779B97F4A7C15) % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
