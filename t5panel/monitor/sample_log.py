"""All readings of a run's machine: the newest as they are, of all of them the energy. Read once, as the metrics are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.reading import decoded
from t5panel.contract.records import Sample
from t5panel.monitor.bookmark import WORTH_KEEPING, Place, keep_bookmark, read_bookmark
from t5panel.monitor.energy import EnergyMeter
from t5panel.monitor.tail import Tail

KEPT_SAMPLES = 3600
NEWEST_BYTES = 1 << 22
"""Before a bookmark: they hold an hour of readings of eight cards and eight ranks."""


class SampleBookmark(msgspec.Struct, frozen=True):
    """What was made of all readings before a place."""

    place: Place
    energy: EnergyMeter
    rejected: int


class SampleLog:
    """Grows with the readings of a run."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._decode = msgspec.json.Decoder(Sample)
        self._tail = Tail(run.samples)
        self.newest: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self.energy = EnergyMeter()
        self.rejected = 0
        self._kept = 0
        self._go_on()

    def blocks(self) -> Iterator[None]:
        """Read all that is new, a block at each step."""
        while block := self._tail.read():
            samples, rejected = decoded(block, self._decode)
            self.rejected += rejected
            self.newest.extend(samples)
            self.energy.add(samples)
            yield
            self._keep(max(WORTH_KEEPING, self._kept))
        self._keep(WORTH_KEEPING)

    @property
    def unread(self) -> float:
        """The share of the readings that is still to be read."""
        return self._tail.unread

    def _go_on(self) -> None:
        """Take over what another reader made of this very file."""
        found = read_bookmark(self._run.samples_bookmark, self._run.samples, SampleBookmark)
        if found is None:
            return
        mark, _ = found
        begin = max(0, mark.place.offset - NEWEST_BYTES)
        try:
            with self._run.samples.open("rb") as file:
                file.seek(begin)
                block = file.read(mark.place.offset - begin)
        except OSError:
            return
        self.newest.extend(decoded(block[block.find(b"\n") + 1 if begin else 0 :], self._decode)[0])
        self.energy, self.rejected, self._kept = mark.energy, mark.rejected, mark.place.offset
        self._tail = Tail(self._run.samples, inode=mark.place.inode, offset=mark.place.offset)

    def _keep(self, worth: int) -> None:
        if self._tail.offset - self._kept >= worth:
            self._kept = self._tail.offset
            keep_bookmark(
                self._run.samples_bookmark, self._tail, lambda place: SampleBookmark(place, self.energy, self.rejected)
            )
