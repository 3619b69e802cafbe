"""What the ranks agree on, over a CPU process group: counts, the stop flag, gathered objects. Never touches the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from t5panel.trainers.guard import Rank, WorldSizeError

T = TypeVar("T")
CONTROL_TIMEOUT = timedelta(hours=2)


class Ranks:
    """All ranks of a run, seen from one of them. Every method must be called by every rank."""

    def __init__(self, me: Rank) -> None:
        """Join a default process group when the launcher's library has not, then a gloo group for control.

        Raises: WorldSizeError when the joined world is not the run's.
        """
        self.rank, self.world_size = me.rank, me.world_size
        self.device = torch.device("cuda", me.local_rank) if me.spec.device == "cuda" else torch.device("cpu")
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if not dist.is_initialized():
            self._initialize()
        if dist.get_world_size() != me.spec.num_gpus:
            raise WorldSizeError(
                f"the process group has {dist.get_world_size()} ranks, the run needs {me.spec.num_gpus}"
            )
        self._control = dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)

    def _initialize(self) -> None:
        on_card = self.device.type == "cuda"
        backend, device = ("nccl", self.device) if on_card else ("gloo", None)
        if self.world_size == 1:
            dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1, device_id=device)
        else:
            dist.init_process_group(backend, device_id=device)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in double precision on the CPU."""
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self._control)
        return [float(value) for value in total]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank."""
        gathered: list[T | None] = [None] * self.world_size
        dist.all_gather_object(gathered, value, group=self._control)
        return [item for item in gathered if item is not None]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        dist.barrier(group=self._control)

    def leave(self) -> None:
        """Leave all process groups together."""
        self.barrier()
        dist.destroy_process_group()
