"""What the ranks agree on, over a CPU process group: counts, the stop flag, gathered objects. Never touches the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from t5panel.trainers.guard import Rank, WorldSizeError

T = TypeVar("T")
CONTROL_TIMEOUT = timedelta(hours=2)


class Ranks:
    """All ranks of a run, seen from one of them. Every method must be called by every rank."""

    def __init__(self, me: Rank) -> None:
        """Join a default process group, before a library does it its own way, then a gloo group for control.

        Raises: WorldSizeError when the joined world is not the run's.
        """
        self.rank, self.world_size = me.rank, me.world_size
        self.device = torch.device("cuda", me.local_rank) if me.spec.device == "cuda" else torch.device("cpu")
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if not dist.is_initialized():
            self._initialize(me.run.meeting)
        if dist.get_world_size() != me.spec.num_gpus:
            raise WorldSizeError(
                f"the process group has {dist.get_world_size()} ranks, the run needs {me.spec.num_gpus}"
            )
        self._control = dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)

    def _initialize(self, meeting: Path) -> None:
        on_card = self.device.type == "cuda"
        backend, device = ("nccl", self.device) if on_card else ("gloo", None)
        store = FileStore(str(meeting), self.world_size)
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.world_size, device_id=device)

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
