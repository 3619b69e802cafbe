"""Stage 3: weights, gradients and optimizer states are split between the ranks."""

from __future__ import annotations

from collections.abc import Sequence

from t5panel.plan.zero.card import BF16, COMPUTE, FP32, FP64, REDUCE
from t5panel.plan.zero.coordinator import Coordinator
from t5panel.plan.zero.engine import Engine


class Sharded(Engine):
    """DeepSpeedZeroOptimizer_Stage3 (S3), with or without offload of the optimizer and of the weights."""

    def start(self) -> None:
        """This rank's part of the weights, of the master copy and of the gradients, and one bucket, for good."""
        zero, card = self.zero, self.card
        self.weights = Coordinator(zero, card, self.sizes, self.modules)
        self.parts = self.weights.parts
        self.side = REDUCE if zero.overlaps else COMPUTE
        self._shard()
        self.sub_groups = [sub for group in self.groups for sub in self._sub_groups(group)]
        if not zero.offload_optimizer:
            self._master()
        if zero.contiguous_gradients:
            card.born(BF16 * zero.reduce_bucket_size, part="buckets")  # S3:782
        if not zero.offload_optimizer:
            card.born(BF16 * sum(self.parts))  # S3:791 grad_partitions_flat_buffer
        for group in self.groups:
            for p in group:  # S3:1502, to reach the node that accumulates its gradient
                self.weights.touch(p)
        self.attribute: dict[int, object] = {}  # parameter -> storage that its .grad keeps alive
        self.bucket: list[int] = []
        self.elements = 0
        card.mark("init")

    def _shard(self) -> None:
        """PP:1836 for each weight; S3:960 the parts go through the host into one flat buffer (zero/utils.py:215)."""
        card, parts = self.card, []
        for whole, n in zip(self.load(), self.parts, strict=True):
            if not self.zero.offload_param:
                parts.append(card.born(BF16 * n, part="weights"))
            card.dies(whole)
        if not self.zero.offload_param:
            card.dies(*parts)
            card.empty_cache()
            card.born(BF16 * sum(self.parts), part="weights")

    def _master(self) -> None:
        """S3:1170; the name `converted` holds the last part until the next is there. S3:1306 gradients of zeros."""
        card = self.card
        sizes = [sum(self.parts[p] for p in sub) for sub in self.sub_groups]
        converted: object = None
        for n in sizes:
            last, converted = converted, card.born(FP32 * n, part="optimizer")
            card.dies(last)
            card.born(FP32 * n, part="optimizer")
        card.dies(converted)
        card.blip(FP32 * max(sizes))

    def _sub_groups(self, group: Sequence[int]) -> list[list[int]]:
        """S3:1210 _create_fp16_sub_groups."""
        if self.zero.sub_group_size >= sum(self.parts[p] for p in group):
            return [list(group)]
        subs: list[list[int]] = [[]]
        numel = 0
        for p in group:
            subs[-1].append(p)
            numel += self.parts[p]
            if numel >= self.zero.sub_group_size:
                subs.append([])
                numel = 0
        return [sub for sub in subs if sub]

    def begin_pass(self, *, boundary: bool) -> None:
        """PC:211 reset_step, at the start of every forward pass."""
        super().begin_pass(boundary=boundary)
        self.weights.begin_pass()

    def module(self, hook: str, name: str) -> None:
        """Its weights come or go."""
        self.weights.run(hook, name)

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
        zero, card, side = self.zero, self.card, self.side
        if not self.bucket:
            return
        bucket = sorted(self.bucket)
        alone = len(bucket) == 1 and self.sizes[bucket[0]] % zero.world == 0
        flat = None  # comm/coalesced_collectives.py:102
        if zero.contiguous_gradients and not zero.reduce_scatter and self.elements <= zero.reduce_bucket_size:
            bucket = list(self.bucket)  # S3:1885
            flat = card.born(BF16 * self.elements, side) if zero.world > 1 else None
        elif not alone:
            flat = card.born(BF16 * zero.world * sum(self.parts[p] for p in bucket), side)
        for p in bucket:
            if zero.offload_optimizer:
                copy = card.born(BF16 * self.parts[p], side)  # S3:2025 grad_buffer.to(device)
                if self.boundary:
                    card.blip(FP64 * min(self.parts[p], 250_000_000), side)  # S3:1960
                    card.blip(FP32 * self.parts[p], side)  # S3:1457
                card.dies(copy)
            card.dies(self.attribute.pop(p, None))
        card.dies(flat)
        self.bucket, self.elements = [], 0

    def end_pass(self) -> None:
        """S3:1407 the last flush."""
        self._reduce()
        self.weights.end_pass()

    def step(self) -> None:
        """S3:2873: the norm of each gradient, then AdamW sub-group by sub-group."""
        self.weights.release_all()
        if not self.zero.offload_optimizer:
            for sub in self.sub_groups:
                for p in sub:
                    self.card.blip(FP64 * self.parts[p])  # S3:2456
            for number, sub in enumerate(self.sub_groups):
                self._update(number, sub)
        self.weights.gather_persistent()

    def _update(self, number: int, sub: Sequence[int]) -> None:
        card, n = self.card, sum(self.parts[p] for p in sub)
        flat = card.born(BF16 * n) if len(sub) > 1 else None  # S3:2686
        gradient = card.born(FP32 * n)
        card.dies(flat)
        self.adamw(number, [n])
        card.dies(gradient)
