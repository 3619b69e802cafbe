"""What CUDA kernels and Adafactor's arithmetic take for a moment, which no tensor of the program shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

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


Turn = tuple[str, str, int]
"""A storage of so many bytes is born under a name (`+`) or dies (`-`), or the weight of that number gets `states`."""


def adafactor_turns(shapes: Iterable[tuple[int, ...]], *, half: bool, processors: Processors) -> Iterator[Turn]:
    """What Adafactor's step takes for a moment, weight by weight; `half`: bfloat16 weights.

    Source: transformers.optimization.Adafactor.step, and a run's events. Its names outlive a turn of the loop: the
    update of a weight goes when the next one's first is there, a copy in float32 when its name is given to another.
    """
    left: tuple[Turn, ...] = ()
    copies: tuple[Turn, ...] = ()
    for number, lengths in enumerate(shapes):
        size = FLOAT * prod(lengths)
        if half:
            yield from (*copies[:1], ("+", f"gradient {number}", size))
        yield ("states", "", number)
        if half:
            yield from (*copies[1:], ("+", f"weight {number}", size))
            copies = (("-", f"gradient {number}", 0), ("-", f"weight {number}", 0))
        yield from (("+", "square", size), ("+", f"first {number}", size), ("-", "square", 0), *left)
        left = (("-", f"first {number}", 0),)
        if len(lengths) == 2:
            rows, columns = (FLOAT * length for length in lengths)
            yield from (("+", "row", rows), ("-", "row", 0), ("+", "column", columns))
            if sums := column_sum_buffer(*lengths, processors):
                yield from (("+", "sums", sums), ("-", "sums", 0))
            yield from (("-", "column", 0), ("+", "row", rows), ("+", "column", columns))
            yield from (("+", f"second {number}", size), ("-", "row", 0), ("-", "column", 0), *left)
            left = (("-", f"second {number}", 0),)
        yield from (("+", "negative", size), ("-", "negative", 0))
    yield from (*copies, *left)


def highest(turns: Iterable[Turn]) -> int:
    """Most bytes that live together."""
    living: dict[str, int] = {}
    most = 0
    for kind, name, size in turns:
        if kind == "+":
            living[name] = size
            most = max(most, sum(living.values()))
        elif kind == "-":
            del living[name]
    return most
