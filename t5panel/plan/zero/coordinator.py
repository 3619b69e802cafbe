"""When stage 3 has which weights on the card: fetched, prefetched and released as the modules run."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from t5panel.plan.zero.card import BF16, COMPUTE, GATHER, Card
from t5panel.plan.zero.settings import Zero

Status = Literal["away", "flying", "here"]


@dataclass
class _Gather:
    """An all-gather of several parameters in one flat buffer (PP:1329); the buffer goes with the last waiter."""

    params: list[int]
    flat: object
    waiting: int
    complete: bool = False


class Coordinator:
    """PartitionedParameterCoordinator (PC). The first pass is recorded; from the second on its order is known."""

    def __init__(self, zero: Zero, card: Card, sizes: Sequence[int], modules: Mapping[str, Sequence[int]]) -> None:
        self.zero, self.card, self.sizes, self.modules = zero, card, sizes, modules
        self.parts = [-(-n // zero.world) for n in sizes]
        """Elements of a rank's part of every parameter."""
        self.strangers = {  # modules that read a weight of a child's and are not known for it yet, by the child
            name: parent
            for name in modules
            if set(modules[name]) & set(modules.get(parent := name.rpartition(".")[0], ()))
        }
        self.stream = GATHER if zero.overlaps else COMPUTE
        self.persistent = self._persistent()
        self.data: list[object] = [None] * len(sizes)
        self.kept: dict[int, object] = {}  # parameter -> storage that a recomputed block saved
        self.status: list[Status] = ["away"] * len(sizes)
        self.flying: dict[int, _Gather | None] = {}
        self.active: list[set[str]] = [set() for _ in sizes]
        self.backward: dict[str, None] = {}  # modules in backward, in order
        self.mode: Literal["invalid", "record", "complete"] = "invalid"
        self.modules_seen: list[str] = []
        self.queue: deque[tuple[int, int]] = deque()
        self.trace: list[tuple[int, int]] = []
        self.distance: list[int] = []  # elements that the modules before each one read
        self.uses: list[list[int]] = [[] for _ in sizes]  # turns at which each parameter is read
        self.decided: dict[tuple[str, int], set[int]] = {}
        self.fetched_for: dict[int, int] = {}
        self.turn = 0
        self.available = 0

    def begin_pass(self) -> None:
        """PC:211 reset_step, at the start of every forward pass."""
        self._land()
        if self.mode == "invalid":
            self.mode = "record"
        elif self.mode == "record":
            self.mode = "complete"
            self._learn()
        self.queue = deque(self.trace)
        self.fetched_for = {}
        self.turn = 0
        self.available = 0

    def _learn(self) -> None:
        """PC:205: who reads what, in the order of the first pass."""
        self.distance = [0]
        for turn, name in enumerate(self.modules_seen):
            params = sorted(self.modules.get(name, ()))
            self.trace += [(p, turn) for p in params]
            self.distance.append(self.distance[-1] + sum(self.sizes[p] for p in params))
            for p in params:
                self.uses[p].append(turn)

    def run(self, hook: str, name: str) -> None:
        """A module's hook fires."""
        if hook in ("pre_forward", "pre_backward"):
            if hook == "pre_backward":
                self.backward[name] = None
            self._fetch(name)
        elif hook == "kept":
            for p in self.modules[name]:
                self.kept[p] = self.data[p]
        elif hook == "freed":
            for p in self.modules[name]:
                self._forget(p)
        else:
            if hook == "post_backward":
                self.backward.pop(name, None)
            self._release_module(name)

    def end_pass(self) -> None:
        """PC:574: modules whose hook after backward never fired (embeddings)."""
        for p in list(self.kept):
            self._forget(p)
        while self.backward:
            name, _ = self.backward.popitem()
            for p in self._weights_of(name):
                self.active[p].discard(name)
                if p not in self.persistent:
                    self._release(p)

    def release_all(self) -> None:
        """S3:3322 _partition_all_parameters, before the optimizer steps."""
        for p in list(self.flying):
            self._wait(p)
        for p in range(len(self.sizes)):
            self.active[p].clear()
            self._release(p)

    def gather_persistent(self) -> None:
        """S3:2840 _post_step; PP:2028 views if there is one rank."""
        kept = [p for p in sorted(self.persistent) if self.status[p] == "away"]
        if self.zero.world > 1 or self.zero.offload_param or len(kept) == 1:
            self._gather_now(kept)
        for p in kept:
            self.status[p] = "here"

    def touch(self, p: int) -> None:
        """Gather a parameter and release it at once."""
        self._gather_now([p])
        self._release_data(p)

    def _persistent(self) -> set[int]:
        """parameter_offload.py:317."""
        kept: set[int] = set()
        numel = 0
        for p, n in enumerate(self.sizes):
            if n <= self.zero.param_persistence_threshold and n + numel <= self.zero.model_persistence_threshold:
                kept.add(p)
                numel += n
        return kept

    def _born(self, elements: int, stream: int) -> object:
        return self.card.born(BF16 * elements, stream, part="weights")

    def _gather_now(self, params: Sequence[int], stream: int = COMPUTE) -> None:
        """PP:2028, and PP:2131 for one alone: gathered at once, a buffer each that is the parameter itself."""
        local = [self.parts[p] for p in params] if self.zero.offload_param else []
        before = [self._born(elements, stream) for elements in local] if len(params) > 1 else []
        for p in params:
            self.data[p] = self._born(self.parts[p] * self.zero.world, stream)
        self.card.dies(*before or [self._born(elements, stream) for elements in local])

    def _release_data(self, p: int) -> None:
        if self.kept.get(p) is not self.data[p]:
            self.card.dies(self.data[p])
        self.data[p] = None

    def _forget(self, p: int) -> None:
        storage = self.kept.pop(p)
        if storage is not self.data[p]:
            self.card.dies(storage)

    def _all_gather(self, params: Iterable[int]) -> None:
        """PC:603 __all_gather_params_."""
        away = sorted(p for p in params if self.status[p] == "away")
        if not away:
            return
        self.available += sum(self.sizes[p] for p in away)
        for p in away:
            self.status[p] = "flying"
        if self.zero.world == 1:
            for p in away:
                self.data[p] = self._born(self.sizes[p], self.stream) if self.zero.offload_param else None
                self.flying[p] = None
        elif len(away) == 1:  # PP:1373 _all_gather_sequential: the buffer becomes the parameter
            self._gather_now(away, self.stream)
            self.flying[away[0]] = None
        else:  # PP:1329 _all_gather_dtype
            flat = self._born(self.zero.world * sum(self.parts[p] for p in away), self.stream)
            local = [self.parts[p] for p in away] if self.zero.offload_param else []
            self.card.dies(*[self._born(n, self.stream) for n in local])
            handle = _Gather(away, flat, len(away))
            for p in away:
                self.flying[p] = handle

    def _wait(self, p: int) -> None:
        """PP:761 AllGatherCoalescedHandle.wait: the first waiter copies all parameters out of the flat buffer."""
        handle = self.flying.pop(p)
        if handle is None:
            self.status[p] = "here"
            return
        if not handle.complete:
            for q in handle.params:
                self.data[q] = self._born(self.sizes[q], self.stream)
                self.status[q] = "here"
            handle.complete = True
        handle.waiting -= 1
        if handle.waiting == 0:
            self.card.dies(handle.flat)

    def _release(self, p: int) -> None:
        """PC:640 __release_param."""
        if self.status[p] == "here" and not self.active[p]:
            self._release_data(p)
            self.status[p] = "away"
            self.available -= self.sizes[p]

    def _land(self) -> None:
        for p in list(self.flying):
            self._wait(p)
            self._release(p)

    def _fetch(self, name: str) -> None:
        """PC:298 fetch_sub_module."""
        self._read_by_parent(name)
        params = self._weights_of(name)
        if self.mode == "record":
            self.modules_seen.append(name)
        self._all_gather(params)
        for p in params:
            self.active[p].add(name)
            if p in self.flying:
                self._wait(p)
        if self.mode == "complete":
            self._prefetch(params)
            self.turn += 1

    def _weights_of(self, name: str) -> Sequence[int]:
        return () if name in self.strangers.values() else self.modules.get(name, ())

    def _read_by_parent(self, name: str) -> None:
        """parameter_offload.py:76: who reads a weight that is away gathers it, and counts as its user from then on."""
        params = self.modules.get(name, ())
        if name in self.strangers and all(self.status[p] == "away" for p in params):
            del self.strangers[name]
            self._gather_now(params)
            for p in params:
                self.status[p] = "here"

    def _prefetch(self, params: Sequence[int]) -> None:
        """PC:415: what the next modules need, up to `prefetch_bucket_size` elements at every module."""
        new = {p for p in params if self.fetched_for.get(p, -1) < self.turn}
        popped: set[int] = set()
        while self.queue and len(popped) < len(new):
            p, last = self.queue.popleft()
            self.fetched_for[p] = last
            popped.add(p)
        limit = min(self.zero.max_live_parameters - self.available, self.zero.prefetch_bucket_size)
        ahead: set[int] = set()
        numel = 0
        while self.queue and numel < limit:
            p, last = self.queue.popleft()
            self.fetched_for[p] = max(self.fetched_for.get(p, -1), last)
            if self.status[p] == "away" and p not in ahead:
                ahead.add(p)
                numel += self.sizes[p]
        if numel:
            self._all_gather(ahead)

    def _release_module(self, name: str) -> None:
        """PC:519 release_sub_module."""
        params = self._weights_of(name)
        release = self._releasable(name, params) if self.mode == "complete" else set(params)
        for p in params:
            self.active[p].discard(name)
            if p in release:
                self._release(p)

    def _releasable(self, name: str, params: Sequence[int]) -> set[int]:
        """PC:654 __params_to_release: what is decided for a turn once is so for good."""
        key = name, self.turn
        if key not in self.decided:
            self.decided[key] = {
                p
                for p in params
                if p not in self.persistent and self.fetched_for.get(p, -1) <= self.turn and not self._is_read_soon(p)
            }
        return self.decided[key]

    def _is_read_soon(self, p: int) -> bool:
        """Whether fewer than `max_reuse_distance` elements are read before it is read again."""
        later = bisect_left(self.uses[p], self.turn)
        if later == len(self.uses[p]):
            return False
        return self.distance[self.uses[p][later]] - self.distance[self.turn] < self.zero.max_reuse_distance
