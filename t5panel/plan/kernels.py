"""What CUDA kernels and Adafactor's arithmetic take for a moment, which no tensor of the program shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FLOAT = 4
WARP, MAX_THREADS = 32, 512
LEAST_PER_THREAD, MOST_PER_THREAD = 16, 256


@dataclass(frozen=True, slots=True)
class Processors:
    """A card's streaming multiprocessors, and the threads that one of them holds."""

    count: int
    threads: int


def column_sum_buffer(rows: int, columns: int, processors: Processors) -> int:
    """Bytes that a sum or mean over the rows of a contiguous matrix takes while several blocks share a column.

    Source: setReduceConfig and ReduceConfig::global_memory_size in aten/src/ATen/native/cuda/Reduce.cuh of torch 2.11;
    measured: 138,412,032 bytes for 32,128 rows of 768 columns on 132 processors.
    """
    width = next(each for each in (4, 2, 1) if columns % each == 0)
    across, most = columns // width, MAX_THREADS // width
    lanes = min(_power(across, most), WARP)
    height = min(_power(rows, most), most // lanes)
    lanes = min(_power(across, most), most // height)
    if rows < min(height * LEAST_PER_THREAD, MOST_PER_THREAD):
        return 0
    each, blocks = -(-rows // height), -(-across // lanes)
    wanted = processors.count * (processors.threads // (lanes * height))
    if each < MOST_PER_THREAD or blocks > wanted:
        return 0
    shares = max(min(-(-wanted // blocks), -(-each // LEAST_PER_THREAD)), -(-each // MOST_PER_THREAD))
    return FLOAT * columns * shares * lanes * width if shares > 1 else 0


def _power(length: int, most: int) -> int:
    """The largest power of two that is no more than either."""
    return 1 << (min(length, most).bit_length() - 1)


def adafactor_moments(shapes: Iterable[tuple[int, ...]], *, half: bool, processors: Processors) -> Iterator[list[int]]:
    """Sizes that live together at each high moment of Adafactor's step, weight by weight; `half`: bfloat16 weights.

    Source: transformers.optimization.Adafactor.step. The update of a weight lives until that of the next is there.
    """
    before = 0
    for lengths in shapes:
        size = FLOAT
        for length in lengths:
            size *= length
        copies = [size, size] if half else []  # the gradient and the weight in float32
        yield [before, *copies, size, size]
        if len(lengths) == 2:
            rows, columns = lengths
            yield [*copies, size, FLOAT * columns, column_sum_buffer(rows, columns, processors)]
            yield [*copies, size, FLOAT * rows, FLOAT * columns, size]
        before = size
