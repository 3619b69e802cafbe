"""Stages 1 and 2: the optimizer's states, and from stage 2 on the gradients, are split between the ranks."""

from __future__ import annotations

from collections.abc import Sequence

from t5panel.plan.zero.card import BF16, COMPUTE, FP32, FP64, REDUCE
from t5panel.plan.zero.engine import Engine, buckets


class Partitioned(Engine):
    """DeepSpeedZeroOptimizer (S12), with or without optimizer offload."""

    def start(self) -> None:
        """Flat weights of each group, and this rank's part of the master copy."""
        zero, card = self.zero, self.card
        self.contiguous = zero.contiguous_gradients or zero.offload_optimizer  # S12:305
        self.side = REDUCE if zero.overlaps else COMPUTE
        self.shards: list[int] = []  # elements of this rank's part of each group
        self.mine: list[list[int]] = []  # parameters of each group that touch it
        self.spans: dict[int, list[tuple[int, int]]] = {}  # parameter -> [(rank, elements)]
        weights = self.load()
        for group in self.groups:
            shard = self._flatten(group, weights)
            self.shards.append(shard)
            self.mine.append(self._split(group, shard))
        if zero.offload_optimizer:
            card.born(BF16 * max(self.sizes), part="buckets")  # S12:659 temp_grad_buffer_for_gpu_offload
        else:
            card.dies(*[card.born(FP32 * shard, part="optimizer") for shard in self.shards])  # S12:937
        self.attribute: dict[int, object] = {}  # parameter -> storage that its .grad keeps alive
        self.bucket: list[int] = []
        self.elements = 0
        self.buffers: list[object] = []
        self.set_up = False
        self.owned: list[object] = []  # flat buffers of this rank's gradients, one a pass; the first accumulates
        self.owned_now: object = None
        self.waiting: list[int] = []  # S12:2257 previous_reduced_grads
        card.mark("init")

    def _flatten(self, group: Sequence[int], weights: Sequence[object]) -> int:
        """One flat buffer in place of a group's weights; elements of a rank's part."""
        card = self.card
        card.empty_cache()  # S12:449
        align = 2 * self.zero.world
        flat = -(-sum(self.sizes[p] for p in group) // align) * align
        card.born(BF16 * flat, part="weights")  # S12:505
        card.dies(*[weights[p] for p in group])  # S12:534
        shard = flat // self.zero.world
        clone = card.born(BF16 * shard, part="weights")  # S12:560 detach().clone().to(device, fp32)
        if not self.zero.offload_optimizer:
            card.born(FP32 * shard, part="optimizer")
        card.dies(clone)
        return shard

    def _split(self, group: Sequence[int], shard: int) -> list[int]:
        """Note which ranks own what; the parameters that begin in this rank's part."""
        order, world = list(group), self.zero.world
        if self.zero.round_robin_gradients:  # S12:904
            order = [p for start in range(world) for p in order[start::world]]
        offset, mine = 0, []
        for p in order:
            end = offset + self.sizes[p]
            first, last = offset // shard, (end - 1) // shard
            self.spans[p] = [
                (rank, min(end, (rank + 1) * shard) - max(offset, rank * shard)) for rank in range(first, last + 1)
            ]
            if first == 0:
                mine.append(p)
            offset = end
        return mine

    def _owns(self, p: int) -> bool:
        return self.spans[p][0][0] == 0

    def gradient(self, parameter: int, key: object) -> None:
        """S12:2284 process_gradients: into the bucket, or kept to the end of the pass."""
        zero, card = self.zero, self.card
        if not self.set_up:  # S12:3256 setup_buckets
            self.set_up = True
            if self.contiguous:
                size = BF16 * zero.reduce_bucket_size
                self.buffers = [card.born(size, part="buckets") for _ in range(2 if zero.overlaps else 1)]
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
        for small in buckets(self._slices() if self.contiguous else [self.sizes[p] for p in self.bucket], limit):
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
        if self.owned_now is None:
            total = sum(self.sizes[q] for mine in self.mine for q in mine)
            self.owned_now = card.born(BF16 * total, self.side)  # S12:2192
        card.dies(self.attribute[p])
        self.attribute[p] = None

    def _share(self, p: int) -> int:
        return next(n for rank, n in self.spans[p] if rank == 0)

    def end_pass(self) -> None:
        """The last flush (S12:975 reduce_gradients, S12:1018 independent_gradient_partition_epilogue)."""
        card = self.card
        if self.zero.keeps_gradients and self.boundary:
            for group in self.groups:
                for p in group:
                    if p in self.attribute:
                        self._add(p)
        if self.zero.stage == 1 and not self.boundary:  # gradients and buckets stay for the next micro step
            return
        self._flush()
        self.set_up = False
        self._clear_waiting()
        if self.owned_now is not None:
            self.owned.append(self.owned_now)
            self.owned_now = None
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
        """S12:3018: the norm of each gradient, then AdamW on a flat fp32 copy of each group's."""
        zero, card = self.zero, self.card
        if zero.offload_optimizer:
            return
        for mine in self.mine:
            for p in mine:  # S12:2684 the norm, in fp64
                card.blip(FP64 * self._share(p))
        for g, mine in enumerate(self.mine):
            flat = card.born(BF16 * self.shards[g]) if len(mine) > 1 else None  # S12:3117
            gradient = card.born(FP32 * self.shards[g])  # S12:3118
            card.dies(flat)
            if g == len(self.mine) - 1:
                card.dies(*self.owned)
                self.owned = []
            self.adamw(g, [self.shards[g]])
            card.dies(gradient)
