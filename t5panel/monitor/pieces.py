"""Where the steps of a run stand in its metrics file, so that a few of them are read without the rest."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from t5panel.contract.reading import decoded
from t5panel.contract.records import Evaluation, Metric, Start, Step

PIECE = 1 << 18
"""Bytes between two known places."""


class Pieces:
    """Known places of a metrics file, each with a step: no row before the place is later than that step."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._offsets = array("q")

    def note(self, step: int, offset: int) -> None:
        """A line at this byte is of this step; kept when it is far enough from the place before."""
        if not self._offsets or offset - self._offsets[-1] >= PIECE:
            self._steps.append(step)
            self._offsets.append(offset)

    def restart(self, step: int, offset: int) -> None:
        """Steps after this one are void; the new ones stand behind this byte."""
        size = bisect_right(self._steps, step)
        del self._steps[size:], self._offsets[size:]
        self._steps.append(step)
        self._offsets.append(offset)

    @property
    def arrays(self) -> tuple[array[int], array[int]]:
        """All of them, to be kept."""
        return self._steps, self._offsets

    @classmethod
    def restored(cls, steps: array[int], offsets: array[int], end: int) -> Pieces:
        """From kept arrays, of a file read up to the byte `end`.

        Raises: ValueError when they cannot be of one.
        """
        if len(steps) != len(offsets) or not 0 <= min(offsets, default=0) <= max(offsets, default=0) <= end:
            raise ValueError("not the places of a file")
        pieces = cls()
        pieces._steps, pieces._offsets = steps, offsets
        return pieces

    def span(self, low: float, high: float) -> tuple[int, int | None]:
        """Bytes that hold all rows from one step to another; None for the end of the file."""
        begin, end = max(0, bisect_left(self._steps, low) - 1), bisect_right(self._steps, high)
        return (self._offsets[begin] if self._offsets else 0), (
            self._offsets[end] if end < len(self._offsets) else None
        )


def split(block: bytes) -> Iterator[bytes]:
    """A block of whole lines in parts of about PIECE bytes, of whole lines each."""
    begin = 0
    while begin < len(block):
        end = block.find(b"\n", begin + PIECE) + 1 or len(block)
        yield block[begin:end]
        begin = end


def read_steps(path: Path, pieces: Pieces, low: float, high: float) -> list[Step]:
    """The records of steps from `low` to `high` that no later start made void; none when the file cannot be read."""
    return [found for found in _read(path, pieces, low, high) if isinstance(found, Step)]


def read_evaluation(path: Path, pieces: Pieces, step: int) -> Evaluation | None:
    """The evaluation at a step with its answers; None when there is none or the file cannot be read."""
    found = [done for done in _read(path, pieces, step, step) if isinstance(done, Evaluation)]
    return found[-1] if found else None


def _read(path: Path, pieces: Pieces, low: float, high: float) -> list[Step | Evaluation]:
    begin, end = pieces.span(low, high)
    try:
        with path.open("rb") as file:
            file.seek(begin)
            block = file.read() if end is None else file.read(max(0, end - begin))
    except OSError:
        return []
    metrics, _ = decoded(block[: block.rfind(b"\n") + 1], msgspec.json.Decoder(Metric))
    return [found for found in _standing(metrics) if low <= found.step <= high]


def _standing(metrics: Sequence[Metric]) -> list[Step | Evaluation]:
    standing: list[Step | Evaluation] = []
    for metric in metrics:
        if isinstance(metric, (Step, Evaluation)):
            standing.append(metric)
        elif isinstance(metric, Start):
            while standing and standing[-1].step > metric.step:
                standing.pop()
    return standing
