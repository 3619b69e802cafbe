"""What DeepSpeed's ZeRO engine allocates on one card, event by event.

Reads the tape of a forward and backward pass of a bf16 model and adds what the engine (deepspeed 0.19.8, bf16 with an
fp32 master copy, AdamW) puts on the card of rank 0: flat weights, master copy, moments, gradient buckets, flush copies,
gathered parameters, temporaries of the optimizer step. Sizes are bytes as requested, unrounded. No torch, no deepspeed.

Tape events, in the order in which the pass produces them:
    ("+", key, bytes)          a storage is born; gradients too
    ("-", key)                 it dies; deaths of gradients are ignored, the engine owns them
    ("grad", parameter, key)   the gradient of parameter number `parameter` is complete and lies in storage `key`
    ("module", hook, name)     pre_forward, post_forward, pre_backward, post_backward of a module (stage 3 reads them)
A key that outlives its pass and is no gradient (a workspace) is born once and stays.

Card events, the result:
    Event(+1, key, bytes, stream)   birth      Event(-1, key, 0, stream)   death
    Event(0, "empty_cache", 0, 0)   segments without a live block go back to the driver
    Event(0, mark, 0, 0)            "init", "forward i", "backward i", "step i", "end i" for step i = 0, 1, ...
Streams: 0 compute, 1 all-gather, 2 reduction. The caching allocator keeps a pool of segments per stream.

Line numbers are those of deepspeed 0.19.8; S12 = runtime/zero/stage_1_and_2.py, S3 = runtime/zero/stage3.py,
PP = runtime/zero/partition_parameters.py, PC = runtime/zero/partitioned_param_coordinator.py,
UF = runtime/fp16/unfused_optimizer.py, EN = runtime/engine.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

BF16, FP32, FP64 = 2, 4, 8
COMPUTE, GATHER, REDUCE = 0, 1, 2
ALLREDUCE_ELEMENTS = 500_000_000  # EN:151, stage 0 only
SHARES = 32
TapeEvent = tuple[Any, ...]


class Event(NamedTuple):
    """A birth (+1), a death (-1), or a mark (0) on the card."""

    kind: int
    key: object
    size: int = 0
    stream: int = COMPUTE


@dataclass(frozen=True)
class Zero:
    """The keys of `zero_optimization` that decide about memory, with DeepSpeed's defaults (runtime/zero/config.py)."""

    stage: int
    world: int
    contiguous_gradients: bool = True
    reduce_bucket_size: int = 500_000_000
    overlap_comm: bool | None = None
    reduce_scatter: bool = True
    round_robin_gradients: bool = False
    offload_optimizer: bool = False
    offload_param: bool = False
    sub_group_size: int = 1_000_000_000
    prefetch_bucket_size: int = 50_000_000
    param_persistence_threshold: int = 100_000
    model_persistence_threshold: int = 2**63 - 1
    max_live_parameters: int = 1_000_000_000
    max_reuse_distance: int = 1_000_000_000
    micro_steps: int = 1
    clip: bool = True
    foreach: bool = False
    fp32_on_card: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any], world: int, **more: Any) -> Zero:  # noqa: ANN401
        """From DeepSpeed's JSON; "auto" means the default, as in the trainer. `more`: the other fields by name."""
        given = {k: v for k, v in config.get("zero_optimization", {}).items() if v != "auto"}
        plain = (
            "contiguous_gradients",
            "reduce_bucket_size",
            "overlap_comm",
            "reduce_scatter",
            "round_robin_gradients",
            "sub_group_size",
        )
        stage3 = (
            "prefetch_bucket_size",
            "param_persistence_threshold",
            "model_persistence_threshold",
            "max_live_parameters",
            "max_reuse_distance",
        )

        keys: dict[str, Any] = {k: given[k] for k in plain if k in given}
        for key in stage3:
            for name in (key, "stage3_" + key):
                if name in given:
                    keys[key] = given[name]
        for key in ("offload_optimizer", "offload_param"):
            keys[key] = (given.get(key) or {}).get("device", "none") != "none"
        for key, value in keys.items():
            if isinstance(value, float):
                keys[key] = int(value)
        clip = config.get("gradient_clipping", 1.0)
        return cls(given.get("stage", 0), world, clip=clip == "auto" or clip > 0, **keys, **more)

    @property
    def overlaps(self) -> bool:
        """Communication on its own stream; on by default in stage 3 only (config.py:overlap_comm_valid)."""
        return self.stage == 3 if self.overlap_comm is None else self.overlap_comm


@dataclass
class Card:
    """The events of one card so far."""

    events: list[Event] = field(default_factory=list)
    _stream_of: dict[object, int] = field(default_factory=dict)
    _serial: Iterable[int] = field(default_factory=count)

    def born(self, size: int, stream: int = COMPUTE, key: object = None) -> object:
        """A new storage of `size` bytes; returns its key."""
        key = ("engine", next(self._serial)) if key is None else key  # type: ignore[call-overload]
        self._stream_of[key] = stream
        self.events.append(Event(1, key, size, stream))
        return key

    def dies(self, *keys: object) -> None:
        """Free storages; None and keys already free are skipped."""
        for key in keys:
            if key in self._stream_of:
                self.events.append(Event(-1, key, 0, self._stream_of.pop(key)))

    def blip(self, size: int, stream: int = COMPUTE) -> None:
        """A temporary: born and freed at once."""
        self.dies(self.born(size, stream))

    def lives(self, key: object) -> bool:
        """Whether a storage with this key is allocated."""
        return key in self._stream_of

    def mark(self, name: str) -> None:
        """Note a place in the order of events."""
        self.events.append(Event(0, name))

    def empty_cache(self) -> None:
        """Give unused segments back."""
        self.events.append(Event(0, "empty_cache"))


def engine_events(
    zero: Zero,
    sizes: Sequence[int],
    passes: Sequence[Sequence[TapeEvent]],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    modules: Mapping[str, Sequence[int]] | None = None,
    steps: int = 3,
) -> list[Event]:
    """All events on the card of rank 0, from `deepspeed.initialize` to the end of `steps` optimizer steps.

    sizes    elements of every parameter, in the order of `model.parameters()`
    passes   the tape of the first forward and backward pass, and of any later one
    groups   parameter numbers per optimizer group (default: one group of all)
    modules  module name -> numbers of the parameters it reads itself (stage 3); T5's feed-forward modules read the
             weight of their `wo` before they call it, so it counts as theirs too (PC:44)
    """
    order = [list(group) for group in groups] if groups is not None else [list(range(len(sizes)))]
    engine = _ENGINES[zero.stage](zero, list(sizes), order, dict(modules or {}))
    engine.start()
    card = engine.card
    for step in range(steps):
        for micro in range(zero.micro_steps):
            tape = passes[0 if step == micro == 0 else -1]
            card.mark(f"forward {step}")
            engine.begin_pass(boundary=micro == zero.micro_steps - 1)
            _replay(engine, tape, (step, micro), f"backward {step}")
            engine.end_pass()
        card.mark(f"step {step}")
        engine.step()
        card.mark(f"end {step}")
    return card.events


def _replay(engine: Engine, tape: Sequence[TapeEvent], turn: tuple[int, int], backward: str) -> None:
    died = {event[1] for event in tape if event[0] == "-"}
    gradients = {event[2] for event in tape if event[0] == "grad"}
    stays = {event[1] for event in tape if event[0] == "+" and event[1] not in died and event[1] not in gradients}
    ready: set[object] = set()
    card = engine.card
    for event in tape:
        kind, key = event[0], event[1]
        if kind == "+":
            name = ("tape", key) if key in stays else (turn, key)
            if not card.lives(name):
                card.born(event[2], key=name)
        elif kind == "-":
            if key not in ready:
                card.dies((turn, key))
        elif kind == "grad":
            ready.add(event[2])
            engine.gradient(key, (turn, event[2]))
        elif kind == "module":
            engine.module(key, event[2])
        elif kind == "phase":
            card.mark(backward)


@dataclass
class Engine(ABC):
    """One stage of the engine: told what the pass does, it allocates and frees on its card."""

    zero: Zero
    sizes: list[int]
    groups: list[list[int]]
    modules: dict[str, Sequence[int]]
    card: Card = field(default_factory=Card)
    boundary: bool = True
    _moments: dict[object, bool] = field(default_factory=dict)

    def load(self) -> list[object]:
        """Weights of the model on the card, one storage a parameter (EN:1862 casts, EN:2093 moves)."""
        if not self.zero.fp32_on_card:
            return [self.card.born(BF16 * n) for n in self.sizes]
        full = [self.card.born(FP32 * n) for n in self.sizes]
        weights = []
        for n, old in zip(self.sizes, full, strict=True):
            weights.append(self.card.born(BF16 * n))
            self.card.dies(old)
        return weights

    def adamw(self, name: object, sizes: Sequence[int]) -> None:
        """A step of torch's AdamW over fp32 tensors: moments at the first one, a temporary each if it is not fused."""
        if not self._moments.get(name):
            for n in sizes:
                self.card.born(FP32)
                self.card.born(FP32 * n)
                self.card.born(FP32 * n)
            self._moments[name] = True
        if self.zero.foreach:
            self.card.dies(*[self.card.born(FP32 * n) for n in sizes])

    @abstractmethod
    def start(self) -> None:
        """`deepspeed.initialize`."""

    def begin_pass(self, *, boundary: bool) -> None:
        """A forward pass starts; `boundary` if an optimizer step follows its backward pass."""
        self.boundary = boundary

    @abstractmethod
    def gradient(self, parameter: int, key: object) -> None:
        """The gradient of a parameter is complete."""

    def module(self, hook: str, name: str) -> None:  # noqa: B027 - only stage 3 listens
        """A module's hook fires."""

    @abstractmethod
    def end_pass(self) -> None:
        """The backward pass is over."""

    @abstractmethod
    def step(self) -> None:
        """The optimizer steps."""


class Plain(Engine):
    """Stage 0: FP16_UnfusedOptimizer over every parameter (EN:2321), a flattened all-reduce after the backward pass."""

    def start(self) -> None:
        card = self.card
        self.load()
        order = [self.sizes[p] for group in self.groups for p in group]
        for n in order:  # UF:74 p.clone().float()
            clone = card.born(BF16 * n)
            card.born(FP32 * n)
            card.dies(clone)
        self.grads: dict[int, object] = {}
        low = [card.born(BF16 * n) for n in order]  # UF:413
        high = [card.born(FP32 * n) for n in order]  # UF:419
        self.adamw("all", order)
        card.dies(*low, *high)
        card.mark("init")

    def gradient(self, parameter: int, key: object) -> None:
        if parameter in self.grads:
            self.card.dies(key)
        else:
            self.grads[parameter] = key

    def end_pass(self) -> None:
        if not self.boundary or self.zero.world == 1:
            return
        for bucket in _buckets(self.sizes, ALLREDUCE_ELEMENTS):  # EN:3828 allreduce_no_retain
            if len(bucket) > 1:
                self.card.blip(BF16 * sum(bucket))

    def step(self) -> None:
        card = self.card
        high = []
        for group in self.groups:
            for p in group:  # utils.py:578 get_weight_norm
                card.blip(FP32 * self.sizes[p])
            high += [card.born(FP32 * self.sizes[p]) for p in group]  # UF:222
        self.adamw("all", [self.sizes[p] for group in self.groups for p in group])
        card.dies(*high)
        card.dies(*[self.grads[i] for i in range(len(self.sizes)) if i in self.grads])
        self.grads = {}


class Partitioned(Engine):
    """Stages 1 and 2: DeepSpeedZeroOptimizer (S12), with or without optimizer offload."""

    def start(self) -> None:
        zero, card = self.zero, self.card
        self.contiguous = zero.contiguous_gradients or zero.offload_optimizer  # S12:305
        self.side = REDUCE if zero.overlaps else COMPUTE
        self.shard: list[int] = []
        self.spans: dict[int, list[tuple[int, int]]] = {}  # parameter -> [(rank, elements)]
        self.mine: list[list[int]] = []
        self.group_of = {p: g for g, group in enumerate(self.groups) for p in group}
        weights = self.load()
        for group in self.groups:
            card.empty_cache()  # S12:449
            total = sum(self.sizes[p] for p in group)
            align = 2 * zero.world
            flat = -(-total // align) * align
            card.born(BF16 * flat)  # S12:505
            card.dies(*[weights[p] for p in group])  # S12:534
            shard = flat // zero.world
            clone = card.born(BF16 * shard)  # S12:560 detach().clone().to(device, fp32)
            if not zero.offload_optimizer:
                card.born(FP32 * shard)
            card.dies(clone)
            self.shard.append(shard)
            self._split(group, shard)
        if zero.offload_optimizer:
            card.born(BF16 * max(self.sizes))  # S12:659 temp_grad_buffer_for_gpu_offload
        else:
            card.dies(*[card.born(FP32 * shard) for shard in self.shard])  # S12:937
        self.attribute: dict[int, object] = {}  # parameter -> storage its .grad keeps alive
        self.bucket: list[int] = []
        self.elements = 0
        self.buffers: list[object] = []
        self.set_up = False
        self.owned: list[object] = []  # flat buffers of this rank's gradients, one a pass; the first accumulates
        self.buffer_now: object = None
        self.waiting: list[int] = []  # S12:2257 previous_reduced_grads
        card.mark("init")

    def _split(self, group: Sequence[int], shard: int) -> None:
        order, world = list(group), self.zero.world
        if self.zero.round_robin_gradients:  # S12:904
            order = [p for start in range(world) for p in order[start::world]]
        offset, mine = 0, []
        for p in order:
            end = offset + self.sizes[p]
            first, last = offset // shard, (end - 1) // shard
            spans = [(r, min(end, (r + 1) * shard) - max(offset, r * shard)) for r in range(first, last + 1)]
            self.spans[p] = spans
            if first == 0:
                mine.append(p)
            offset = end
        self.mine.append(mine)

    def _owns(self, p: int) -> bool:
        return self.spans[p][0][0] == 0

    def gradient(self, parameter: int, key: object) -> None:
        """S12:2284 process_gradients."""
        zero, card = self.zero, self.card
        if not self.set_up:  # S12:3256 setup_buckets
            self.set_up = True
            if self.contiguous:
                self.buffers = [card.born(BF16 * zero.reduce_bucket_size) for _ in range(2 if zero.overlaps else 1)]
        if parameter in self.attribute:
            card.dies(key)
        else:
            self.attribute[parameter] = key
        if zero.stage == 2 or (zero.overlaps and self.boundary):
            self._add(parameter)

    def _add(self, p: int) -> None:
        """S12:1428 reduce_independent_p_g_buckets_and_remove_grads."""
        card, n = self.card, self.sizes[p]
        if self.elements + n > self.zero.reduce_bucket_size:
            self._flush()
        if self.contiguous:
            if n > self.zero.reduce_bucket_size:
                if self.zero.offload_optimizer:
                    copy = card.born(BF16 * n)
                    card.dies(self.attribute[p])
                    self.attribute[p] = copy
            else:
                card.dies(self.attribute[p])  # now a view of the bucket
                self.attribute[p] = None
        self.elements += n
        self.bucket.append(p)

    def _flush(self) -> None:
        """S12:2200 reduce_ipg_grads."""
        self._reduce()
        for p in self.bucket:
            if self._owns(p):
                if self.contiguous:
                    self._keep(p)
            elif self.zero.stage == 2:
                if self.zero.overlaps and not self.contiguous:
                    self.waiting.append(p)
                else:
                    self.card.dies(self.attribute.pop(p))
        self.bucket, self.elements = [], 0

    def _reduce(self) -> None:
        """S12:1546 allreduce_and_scatter, S12:2468 allreduce_no_retain: a flat copy, but one tensor alone is a view."""
        if self.contiguous and not self.zero.reduce_scatter:  # S12:1640 in place
            return
        limit = self.zero.reduce_bucket_size if self.contiguous else self.elements
        for small in _buckets(self._slices() if self.contiguous else [self.sizes[p] for p in self.bucket], limit):
            if not self.contiguous and self.zero.overlaps:
                self._clear_waiting()
            if len(small) > 1:
                self.card.blip(BF16 * sum(small), self.side)

    def _clear_waiting(self) -> None:
        self.card.dies(*[self.attribute.pop(p) for p in self.waiting])
        self.waiting = []

    def _slices(self) -> list[int]:
        """S12:1648: the bucket cut at the partition borders, neighbours of one rank merged."""
        merged: list[tuple[int, int]] = []
        for p in self.bucket:
            for rank, n in self.spans[p]:
                if merged and merged[-1][0] == rank:
                    merged[-1] = (rank, merged[-1][1] + n)
                else:
                    merged.append((rank, n))
        return [n for _, n in merged]

    def _keep(self, p: int) -> None:
        """S12:2144 copy_grads_in_partition."""
        card = self.card
        if self.zero.offload_optimizer:
            if self.boundary:
                n = self._share(p)
                card.blip(FP64 * n)  # S12:1886 the norm
                card.blip(FP32 * n)  # S12:1900
                card.dies(self.attribute.pop(p))
            return
        if self.buffer_now is None:
            total = sum(self.sizes[q] for mine in self.mine for q in mine)
            self.buffer_now = card.born(BF16 * total, self.side)  # S12:2192
        card.dies(self.attribute[p])
        self.attribute[p] = None

    def _share(self, p: int) -> int:
        return next(n for rank, n in self.spans[p] if rank == 0)

    def end_pass(self) -> None:
        """S12:975 reduce_gradients and S12:1018 independent_gradient_partition_epilogue."""
        card = self.card
        if self.zero.stage == 1 and self.boundary and not self.zero.overlaps:
            for group in self.groups:
                for p in group:
                    if p in self.attribute:
                        self._add(p)
        if self.zero.stage == 1 and not self.boundary:  # gradients and buckets stay for the next micro step
            return
        self._flush()
        self.set_up = False
        self._clear_waiting()
        if self.buffer_now is not None:
            self.owned.append(self.buffer_now)
            self.buffer_now = None
        if not self.contiguous:
            self.owned += [self.attribute.pop(p) for mine in self.mine for p in mine if p in self.attribute]
        card.dies(*self.buffers)  # S12:922
        self.buffers = []
        if self.contiguous and len(self.owned) > 1:
            card.dies(*self.owned[1:])  # added into the first
            del self.owned[1:]
        card.dies(*self.attribute.values())
        self.attribute = {}

    def step(self) -> None:
        """S12:3018 step."""
        zero, card = self.zero, self.card
        if zero.offload_optimizer:
            return
        for mine in self.mine:
            for p in mine:  # S12:2684 the norm, in fp64
                card.blip(FP64 * self._share(p))
        for g, mine in enumerate(self.mine):
            flat = card.born(BF16 * self.shard[g]) if len(mine) > 1 else None  # S12:3117
            gradient = card.born(FP32 * self.shard[g])  # S12:3118
            card.dies(flat)
            if g == len(self.mine) - 1:
                card.dies(*self.owned)
                self.owned = []
            self.adamw(g, [self.shard[g]])
            card.dies(gradient)


@dataclass
class _Gather:
    """An all-gather of several parameters in one flat buffer (PP:1329); the buffer goes with the last waiter."""

    params: list[int]
    flat: object
    waiting: int
    complete: bool = False


class Sharded(Engine):
    """Stage 3: DeepSpeedZeroOptimizer_Stage3 (S3) and the parameter coordinator (PC)."""

    def start(self) -> None:
        zero, card, world = self.zero, self.card, self.zero.world
        self.part = [-(-n // world) for n in self.sizes]
        self.gather_stream = GATHER if zero.overlaps else COMPUTE
        self.reduce_stream = REDUCE if zero.overlaps else COMPUTE
        self.data: list[object] = self.load()
        shards = []
        for p, part in enumerate(self.part):  # PP:1836
            if not zero.offload_param:
                shards.append(card.born(BF16 * part))
            card.dies(self.data[p])
            self.data[p] = None
        self.persistent = self._persistent()
        total = sum(self.part)
        if not zero.offload_param:  # S3:960 defragment, zero/utils.py:215
            card.dies(*shards)
            card.empty_cache()
            card.born(BF16 * total)
        self.sub_groups = [sub for group in self.groups for sub in self._sub_groups(group)]
        if not zero.offload_optimizer:  # S3:1170, the name `converted` holds the last one until the next is there
            converted: object = None
            for sub in self.sub_groups:
                n = sum(self.part[p] for p in sub)
                last, converted = converted, card.born(FP32 * n)
                card.dies(last)
                card.born(FP32 * n)
            card.dies(converted)
        if not zero.offload_optimizer:
            card.blip(FP32 * max(sum(self.part[p] for p in sub) for sub in self.sub_groups))  # S3:1306
        if zero.contiguous_gradients:
            card.born(BF16 * zero.reduce_bucket_size)  # S3:782
        if not zero.offload_optimizer:
            card.born(BF16 * total)  # S3:791 grad_partitions_flat_buffer
        for p in (p for group in self.groups for p in group):  # S3:1502 all_gather, partition: to reach the grad node
            self._gather_now([p])
            self._release_data(p)
        self.status = ["away"] * len(self.sizes)  # away, flying, here
        self.flying: dict[int, _Gather | None] = {}
        self.active: list[set[str]] = [set() for _ in self.sizes]
        self.backward: dict[str, None] = {}  # modules in backward, in order
        self.mode = "invalid"
        self.modules_seen: list[str] = []
        self.queue: deque[tuple[int, int]] = deque()
        self.trace: list[tuple[int, int]] = []
        self.fetched_for: dict[int, int] = {}
        self.turn = 0
        self.available = 0
        self.attribute: dict[int, object] = {}
        self.bucket: list[int] = []
        self.elements = 0
        card.mark("init")

    def _persistent(self) -> set[int]:
        kept: set[int] = set()
        numel = 0
        for p, n in enumerate(self.sizes):  # parameter_offload.py:317
            if n <= self.zero.param_persistence_threshold and n + numel <= self.zero.model_persistence_threshold:
                kept.add(p)
                numel += n
        return kept

    def _sub_groups(self, group: Sequence[int]) -> list[list[int]]:
        """S3:1210 _create_fp16_sub_groups."""
        if self.zero.sub_group_size >= sum(self.part[p] for p in group):
            return [list(group)]
        subs: list[list[int]] = [[]]
        numel = 0
        for p in group:
            subs[-1].append(p)
            numel += self.part[p]
            if numel >= self.zero.sub_group_size:
                subs.append([])
                numel = 0
        return [sub for sub in subs if sub]

    # Parameters: fetch, prefetch, release

    def _gather_now(self, params: Sequence[int], stream: int = COMPUTE) -> None:
        """PP:2028 and PP:2131: gathered at once, a buffer each that is the parameter itself."""
        local = [self.card.born(BF16 * self.part[p], stream) for p in params] if self.zero.offload_param else []
        for p in params:
            self.data[p] = self.card.born(BF16 * self.part[p] * self.zero.world, stream)
        self.card.dies(*local)

    def _release_data(self, p: int) -> None:
        self.card.dies(self.data[p])
        self.data[p] = None

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
                self.data[p] = (
                    self.card.born(BF16 * self.sizes[p], self.gather_stream) if self.zero.offload_param else None
                )
                self.flying[p] = None
        elif len(away) == 1:  # PP:1373 _all_gather_sequential: the buffer becomes the parameter
            self._gather_now(away, self.gather_stream)
            self.flying[away[0]] = None
        else:  # PP:1329 _all_gather_dtype
            flat = self.card.born(BF16 * self.zero.world * sum(self.part[p] for p in away), self.gather_stream)
            local = [BF16 * self.part[p] for p in away] if self.zero.offload_param else []
            self.card.dies(*[self.card.born(n, self.gather_stream) for n in local])
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
                self.data[q] = self.card.born(BF16 * self.sizes[q], self.gather_stream)
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

    def begin_pass(self, *, boundary: bool) -> None:
        """PC:211 reset_step, at the start of every forward pass."""
        super().begin_pass(boundary=boundary)
        self._land()
        if self.mode == "invalid":
            self.mode = "record"
        elif self.mode == "record":
            self.mode = "complete"
            self.trace = [
                (p, turn) for turn, name in enumerate(self.modules_seen) for p in sorted(self.modules.get(name, ()))
            ]
        self.queue = deque(self.trace)
        self.fetched_for = {}
        self.turn = 0
        self.available = 0

    def _land(self) -> None:
        for p in list(self.flying):
            self._wait(p)
            self._release(p)

    def module(self, hook: str, name: str) -> None:
        if hook in ("pre_forward", "pre_backward"):
            if hook == "pre_backward":
                self.backward[name] = None
            self._fetch(name)
        else:
            if hook == "post_backward":
                self.backward.pop(name, None)
            self._release_module(name)

    def _fetch(self, name: str) -> None:
        """PC:298 fetch_sub_module."""
        if self.mode == "record":
            self.modules_seen.append(name)
        params = list(self.modules.get(name, ()))
        self._all_gather(params)
        for p in params:
            self.active[p].add(name)
            if p in self.flying:
                self._wait(p)
        if self.mode == "complete":
            self._prefetch(params)
            self.turn += 1

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
        params = self.modules.get(name, ())
        release = self._releasable(params) if self.mode == "complete" else set(params)
        for p in params:
            self.active[p].discard(name)
            if p in release:
                self._release(p)

    def _releasable(self, params: Sequence[int]) -> set[int]:
        """PC:654 __params_to_release: not what persists, is already prefetched for later, or is needed again soon."""
        release = {p for p in params if p not in self.persistent and self.fetched_for.get(p, -1) <= self.turn}
        numel = 0
        for later in self.modules_seen[self.turn :]:
            if not release or numel >= self.zero.max_reuse_distance:
                break
            for p in self.modules.get(later, ()):
                release.discard(p)
                numel += self.sizes[p]
        return release

    # Gradients

    def gradient(self, parameter: int, key: object) -> None:
        """S3:1569 reduce_independent_p_g_buckets_and_remove_grads."""
        n = self.sizes[parameter]
        if self.elements + n > self.zero.reduce_bucket_size and self.elements > 0:
            self._reduce()
        self.attribute[parameter] = key
        if self.zero.contiguous_gradients and self.elements + n <= self.zero.reduce_bucket_size:
            self.card.dies(key)  # S3:1630 now a view of the bucket
        self.bucket.append(parameter)
        self.elements += n

    def _reduce(self) -> None:
        """S3:1648 __reduce_and_partition_ipg_grads."""
        zero, card, side = self.zero, self.card, self.reduce_stream
        if not self.bucket:
            return
        bucket = sorted(self.bucket)
        alone = len(bucket) == 1 and self.sizes[bucket[0]] % zero.world == 0
        flat = None  # comm/coalesced_collectives.py:102
        if zero.contiguous_gradients and not zero.reduce_scatter and self.elements <= zero.reduce_bucket_size:
            bucket = list(self.bucket)  # S3:1885
            flat = card.born(BF16 * self.elements, side) if zero.world > 1 else None
        elif not alone:
            flat = card.born(BF16 * zero.world * sum(self.part[p] for p in bucket), side)
        for p in bucket:
            if zero.offload_optimizer:
                copy = card.born(BF16 * self.part[p], side)  # S3:2025 grad_buffer.to(device)
                if self.boundary:
                    card.blip(FP64 * min(self.part[p], 250_000_000), side)  # S3:1960
                    card.blip(FP32 * self.part[p], side)  # S3:1457
                card.dies(copy)
            card.dies(self.attribute.pop(p, None))
        card.dies(flat)
        self.bucket, self.elements = [], 0

    def end_pass(self) -> None:
        """S3:1407 the last flush; PC:574 modules whose hook after backward never fired (embeddings)."""
        self._reduce()
        while self.backward:
            name, _ = self.backward.popitem()
            for p in self.modules.get(name, ()):
                self.active[p].discard(name)
                if p not in self.persistent:
                    self._release(p)

    def step(self) -> None:
        """S3:2873 step."""
        zero, card = self.zero, self.card
        for p in list(self.flying):
            self._wait(p)
        for p in range(len(self.sizes)):  # S3:3322 _partition_all_parameters
            self.active[p].clear()
            self._release(p)
        if not zero.offload_optimizer:
            for sub in self.sub_groups:
                for p in sub:
                    card.blip(FP64 * self.part[p])  # S3:2456
            for i, sub in enumerate(self.sub_groups):
                n = sum(self.part[p] for p in sub)
                flat = card.born(BF16 * n) if len(sub) > 1 else None  # S3:2686
                gradient = card.born(FP32 * n)
                card.dies(flat)
                self.adamw(i, [n])
                card.dies(gradient)
        kept = [p for p in sorted(self.persistent) if self.status[p] == "away"]
        if zero.world > 1 or zero.offload_param or len(kept) == 1:  # S3:2840 _post_step; PP:2028 views if N is 1
            self._gather_now(kept)
        for p in kept:
            self.status[p] = "here"


_ENGINES: dict[int, type[Engine]] = {0: Plain, 1: Partitioned, 2: Partitioned, 3: Sharded}


def _buckets(sizes: Iterable[int], limit: int) -> list[list[int]]:
    """Consecutive sizes, a new bucket after each that takes the sum over `limit`."""
    buckets: list[list[int]] = [[]]
    for n in sizes:
        buckets[-1].append(n)
        if sum(buckets[-1]) > limit:
            buckets.append([])
    return [bucket for bucket in buckets if bucket]


# Without a replay


@dataclass(frozen=True)
class Pass:
    """What a pass of the pure bf16 model holds above its weights, in bytes; gradients count until they are ready.

    forward  peak of the forward pass
    head     peak of the backward pass up to its first gradient, the logits
    tail     peak of the rest of it
    fading   the most it holds at a moment when a gradient is ready, for equal shares of the gradients in their order
    kept     peak of the rest of it where every gradient stays (stages 0 and 1)
    work     workspaces and inputs, always there
    """

    forward: int
    head: int
    tail: int
    fading: tuple[int, ...]
    kept: int
    work: int

    def at(self, share: float) -> int:
        """Held when this share of the gradients is ready, the last one included; 0 when all are."""
        place = int(share * len(self.fading))
        return self.fading[place] if place < len(self.fading) else 0

    @classmethod
    def of(cls, tape: Sequence[TapeEvent], total: int, work: int) -> Pass:
        """From the tape of a pass that is not the first, for a model of `total` parameters."""
        sizes: dict[object, int] = {}
        fading = [0] * SHARES
        held = ready = forward = head = tail = kept = 0
        place = "forward"
        for event in tape:
            if event[0] == "+":
                sizes[event[1]] = event[2]
                held += event[2]
                if place == "forward":
                    forward = max(forward, held)
                elif place == "head":
                    head = max(head, held)
                else:
                    tail = max(tail, held)
                    kept = max(kept, held + ready)
            elif event[0] == "-":
                held -= sizes.pop(event[1], 0)
            elif event[0] == "phase":
                place = "head"
            elif event[0] == "grad":
                place = "tail"
                share = min(SHARES - 1, ready * SHARES // (BF16 * total))
                fading[share] = max(fading[share], held)
                size = sizes.pop(event[2], 0)
                held -= size
                ready += size
        return cls(forward, head, tail, tuple(fading), kept, work)


def candidates(zero: Zero, sizes: Sequence[int], held: Pass) -> dict[str, int]:
    """Requested bytes at the places where the peak of a steady step can lie; the largest is the peak.

    States, buckets and the step are exact; what the backward pass still holds at the first flush is read off `fading`.
    One optimizer group, `micro_steps` 1, contiguous gradients. Rounding and fragments are not in it.
    """
    total, shard = sum(sizes), -(-sum(sizes) // zero.world)
    owned = _owned(sizes, shard)
    bucket = BF16 * zero.reduce_bucket_size * (2 if zero.overlaps and zero.stage in (1, 2) else 1)
    copied = BF16 * min(total, zero.reduce_bucket_size) if zero.world > 1 or zero.stage == 3 else 0
    left = held.at(zero.reduce_bucket_size / total)  # at the first flush
    update = 2 * FP32 * shard if zero.foreach else (BF16 + FP32) * shard + BF16 * owned
    if zero.stage == 0:
        steady = 14 * total + held.work
        flat = BF16 * min(total, ALLREDUCE_ELEMENTS) if zero.world > 1 else 0
        above = {
            "forward": held.forward,
            "logits": held.head,
            "backward": held.kept,
            "reduction": BF16 * total + flat,
            "step": (BF16 + FP32) * total + (FP32 * total if zero.foreach else 0),
        }
    elif zero.stage in (1, 2):
        steady = BF16 * total + held.work + (BF16 * max(sizes) if zero.offload_optimizer else 3 * FP32 * shard)
        stays = zero.stage == 1 and not zero.overlaps
        above = {
            "forward": held.forward,
            "logits": held.head,
            "backward": bucket + (held.kept if stays else held.tail),
            "reduction": bucket + copied + (BF16 * total if stays and total > zero.reduce_bucket_size else left),
            "step": 0 if zero.offload_optimizer else update,
        }
    else:
        gathered = BF16 * min(total, zero.max_live_parameters) if zero.world > 1 or zero.offload_param else 0
        steady = held.work + (bucket if zero.contiguous_gradients else 0)
        steady += 0 if zero.offload_param else BF16 * shard
        steady += 0 if zero.offload_optimizer else (3 * FP32 + BF16) * shard
        above = {
            "forward": gathered + held.forward,
            "logits": gathered + held.head,
            "backward": gathered + held.tail,
            "reduction": copied
            + BF16 * max(sizes)
            + left
            + int(gathered * max(0.0, 1 - zero.reduce_bucket_size / total)),
            "step": 0 if zero.offload_optimizer else (BF16 + FP32) * min(shard, zero.sub_group_size),
        }
    return {place: steady + size for place, size in above.items()}


def _owned(sizes: Sequence[int], shard: int) -> int:
    """Elements of the parameters that begin in rank 0's share (the last one counts whole, S12:2186)."""
    total = 0
    for n in sizes:
        if total >= shard:
            break
        total += n
    return total
