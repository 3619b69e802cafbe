"""All readings of a run's machine: the newest as they are, of all of them energy, peaks and mean power. Read once."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.reading import decoded
from t5panel.contract.records import Sample
from t5panel.monitor.bookmark import Place
from t5panel.monitor.energy import EnergyMeter
from t5panel.monitor.kept_tail import KeptTail
from t5panel.monitor.machine_use import MachineUse, UseSums
from t5panel.monitor.measured import Spans

KEPT_SAMPLES = 3600
NEWEST_BYTES = 1 << 22
"""They hold an hour of readings of eight cards and eight ranks."""


class SampleBookmark(msgspec.Struct, frozen=True):
    """What was made of all readings before a place."""

    place: Place
    energy: EnergyMeter
    sums: UseSums
    rejected: int


class SampleLog:
    """Grows with the readings of a run; peaks and power are those from `since` (unix seconds) on."""

    def __init__(self, run: RunDir, *, since: float = 0.0) -> None:
        self._run = run
        self._decode = msgspec.json.Decoder(Sample)
        self._tail = KeptTail(run.samples, run.samples_bookmark)
        self.newest: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self._shown = self._read_newest()
        """The byte up to which the newest are known."""
        self.energy = EnergyMeter()
        self.rejected = 0
        self._sums = UseSums(since)
        self._spans = Spans()
        self._go_on()

    def blocks(self, spans: Spans) -> Iterator[None]:
        """Read all that is new, a block at each step. `spans`: when steps were made, as far as that is known."""
        self._spans = spans
        self._sums.decide(spans)
        return self._tail.blocks(self._add, self._keeping)

    @property
    def unread(self) -> float:
        """The share of the readings that is still to be read."""
        return self._tail.unread

    @property
    def use(self) -> MachineUse:
        """The highest readings, and the mean power while steps were made."""
        return self._sums.use

    def _add(self, block: bytes, offset: int) -> None:
        samples, rejected = decoded(block, self._decode)
        self.rejected += rejected
        if offset >= self._shown:
            self.newest.extend(samples)
        elif offset + len(block) > self._shown:
            self.newest.extend(decoded(block[self._shown - offset :], self._decode)[0])
        self.energy.add(samples)
        self._sums.add(samples)
        self._sums.decide(self._spans)

    def _read_newest(self) -> int:
        """Those at the end of the file, which views show while the others are still read; the byte where they end."""
        try:
            with self._run.samples.open("rb") as file:
                begin = max(0, file.seek(0, 2) - NEWEST_BYTES)
                file.seek(begin)
                block = file.read()
        except OSError:
            return 0
        end = block.rfind(b"\n") + 1
        self.newest.extend(decoded(block[block.find(b"\n") + 1 if begin else 0 : end], self._decode)[0])
        return begin + end

    def _go_on(self) -> None:
        """Take over what another reader made of this very file."""
        found = self._tail.found(SampleBookmark)
        sums = found[0].sums.counted_from(self._sums.since) if found is not None else None
        if found is None or sums is None:
            return
        mark, _ = found
        self.energy, self.rejected, self._sums = mark.energy, mark.rejected, sums
        self._tail.go_on(mark.place)

    def _keeping(self, place: Place) -> tuple[SampleBookmark, tuple[array[Any], ...]]:
        return SampleBookmark(place, self.energy, self._sums, self.rejected), ()
