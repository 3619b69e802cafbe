"""What a supervisor sees of its run: the ranks' records, the machine's readings, and the alerts that follow."""

from __future__ import annotations

import contextlib
import time

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import (
    CardUse,
    Checkpoint,
    Metric,
    Phase,
    RankId,
    RankSample,
    RunInfo,
    Sample,
    Start,
    Status,
    Step,
)
from t5panel.launch.exits import Exits
from t5panel.monitor.evidence import read_free_disk, read_pressure
from t5panel.monitor.hardware import Nvml, host_memory, process_memory, proportional_memory
from t5panel.monitor.proc import describe, is_alive, marked
from t5panel.monitor.sockets import Listener, listeners_of
from t5panel.monitor.tail import Tail
from t5panel.monitor.watchdogs import Alert, Surroundings, Watchdogs

PSS_EVERY = 60
STRANGER_BYTES = 256 * 2**20
"""Of a card in use by a process of others; a desktop takes less."""
_WATCHED = (b'{"kind":"status"', b'{"kind":"step"', b'{"kind":"start"', b'{"kind":"checkpoint"')


class Observer:
    """Follows one start of the ranks after the other. Reads; never writes and never decides."""

    def __init__(self, run: RunDir, info: RunInfo) -> None:
        self._run, self._cards = run, info.cards
        self._nvml = Nvml()
        self._decoder = msgspec.json.Decoder(Metric)
        self._ticks = 0
        self.last_sample: Sample | None = None
        self._world = int(info.spec.get("num_gpus", 1))
        self.exits = Exits(self._world)
        self.begin(time.monotonic())

    def begin(self, now: float) -> None:
        """The ranks are about to start: forget those of an earlier start."""
        self._metrics = Tail(self._run.metrics, from_end=True)
        self._dogs = Watchdogs()
        self._dogs.began(now)
        self._beats: tuple[int, ...] = ()
        self.exits.close()
        self.exits = Exits(self._world)
        self.vram_before = self.vram()
        """Bytes in use on each card without the ranks."""
        self._vram_highest = dict(self.vram_before)
        self.ranks: tuple[RankId, ...] = ()
        self.ports: frozenset[Listener] = frozenset()
        """What the run's processes have listened on since this start."""
        self._connected = (0, False)
        self.work: Phase = "starting"
        """What the ranks said they do, also while they are asked to stop."""
        self.step = 0
        """The newest step they told of."""
        self.began_steps = False
        self.finite = True

    def follow(self, now: float) -> list[Alert]:
        """Read what the ranks wrote since the last call."""
        self._follow_ranks()
        alerts = []
        for line in self._metrics.lines():
            if line.startswith(_WATCHED):
                with contextlib.suppress(msgspec.DecodeError):  # a line that a dying writer left torn
                    alerts += self._take(self._decoder.decode(line), now)
        beats = self._read_beats()
        if self.began_steps and self._beats and beats != self._beats:
            alerts += self._dogs.beat(now)
        self._beats = beats
        self._follow_ports()
        return [*alerts, *self._dogs.tick(now)]

    def note_exits(self) -> None:
        """See how ranks ended, at the moment of their end."""
        self._follow_ranks()
        self.exits.note()

    def sample(self, now: float) -> tuple[Sample, list[Alert]]:
        """The machine as it is, and what that means."""
        self._ticks += 1
        used, limit = host_memory()
        ranks = [found for rank in self.ranks if (found := self._rank_sample(rank)) is not None]
        sample = Sample(time.time(), self._nvml.cards(self._cards), tuple(ranks), used, limit)
        for card in sample.cards:
            self._vram_highest[card.index] = max(card.used, self._vram_highest.get(card.index, 0))
        self.last_sample = sample
        around = Surroundings(read_pressure()[1], read_free_disk(self._run.checkpoints))
        return sample, self._dogs.sample(sample, around, now)

    def vram(self) -> dict[int, int]:
        """Bytes in use on each of the run's cards."""
        return {card.index: card.used for card in self._nvml.cards(self._cards)} if self._cards else {}

    def card_use(self) -> tuple[CardUse, ...]:
        """Of each of the run's cards that answered when the ranks were about to start."""
        return tuple(CardUse(index, used, self._vram_highest[index]) for index, used in self.vram_before.items())

    def stranger(self) -> str:
        """A process that holds memory of one of the run's cards while no rank of it lives; empty without one."""
        for card in self._cards:
            for process in self._nvml.processes(card):
                if process.used is None or process.used > STRANGER_BYTES:
                    held = f" and holds {process.used / 2**20:,.0f} MiB" if process.used else ""
                    return f"{describe(process.pid)} runs on card {card}{held}"
        return ""

    def _follow_ranks(self) -> None:
        paths = list(self._run.ranks.glob("[0-9]*"))
        if len(self.ranks) < len(paths):
            decoded = (msgspec.json.decode(path.read_bytes(), type=RankId) for path in paths)
            self.ranks = tuple(sorted(decoded, key=lambda rank: rank.rank))
            self.exits.watch(self.ranks)

    def _follow_ports(self) -> None:
        """Look when ranks have come, and when their first step has connected them all: it takes 20 ms (measured)."""
        connected = (len(self.ranks), self.step > 0)
        if connected != self._connected:
            self._connected = connected
            self.ports |= listeners_of(marked(self._run))

    def _read_beats(self) -> tuple[int, ...]:
        """When each rank last touched its file, as it does at every step; a number to compare, not a time."""
        found = []
        for rank in self.ranks:
            with contextlib.suppress(OSError):
                found.append((self._run.ranks / str(rank.rank)).stat().st_mtime_ns)
        return tuple(found)

    def _take(self, metric: Metric, now: float) -> list[Alert]:
        match metric:
            case Step():
                self.step, self.finite = metric.step, metric.loss is not None
                return self._dogs.step(metric, now)
            case Start():
                self.step, self.began_steps = metric.step, True
                return self._dogs.began(now, max_steps=metric.max_steps)
            case Status():
                self.step, self.work = metric.step, metric.phase
                return self._dogs.went_on(now) if metric.phase == "running" else self._dogs.paused(now)
            case Checkpoint():
                self._dogs.checkpoint(metric.bytes)
        return []

    def _rank_sample(self, rank: RankId) -> RankSample | None:
        memory = process_memory(rank.pid) if is_alive(rank.pid, rank.start_time) else None
        if memory is None:
            return None
        # One rank per tick and seldom: reading PSS holds the rank's memory map.
        turn = self._ticks % PSS_EVERY == PSS_EVERY // 2 + rank.rank
        return RankSample(rank.rank, rank.pid, memory[0], proportional_memory(rank.pid) if turn else None, memory[1])
