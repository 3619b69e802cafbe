"""NVML and /proc readings: the only file that knows pynvml. Bytes, percent, watts, degrees Celsius."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from t5panel.contract.records import Card

RETRY_SECONDS = 30.0
_KIB = 1024
_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
T = TypeVar("T")

THROTTLE_BITS = (("thermal", 0x20 | 0x40), ("power brake", 0x80), ("hardware slowdown", 0x08))
"""NVML's reasons for a slower clock that a user should hear of. 0x04, the software power cap, is a card at work."""


class Driver(msgspec.Struct, frozen=True):
    """The driver's version and the newest CUDA it runs, `(12, 4)`."""

    version: str
    cuda: tuple[int, int] | None


class CardProcess(msgspec.Struct, frozen=True):
    """A compute process on a card and the bytes it holds there. In a container NVML gives the host's pids."""

    pid: int
    used: int | None


class CardModes(msgspec.Struct, frozen=True):
    """How a card is set up; None where NVML does not say."""

    capability: tuple[int, int] | None
    persistence: bool | None
    mig: bool | None
    ecc: bool | None
    ecc_errors: int | None
    """Memory errors that could not be corrected, since the driver was loaded."""


class Nvml:
    """The one owner of an NVML session. Without a driver every reading is empty, and a retry follows in 30 s."""

    def __init__(self) -> None:
        self._handles: list[Any] | None = None
        self._retry_at = 0.0

    def cards(self, indices: Sequence[int] | None = None) -> tuple[Card, ...]:
        """The cards with these PCI indices, or all; empty without a driver. A lost card is left out."""
        handles = self._open()
        wanted = range(len(handles)) if indices is None else [index for index in indices if index < len(handles)]
        cards = tuple(card for index in wanted if (card := _read_card(index, handles[index])) is not None)
        if wanted and not cards:
            self._handles, self._retry_at = None, time.monotonic() + RETRY_SECONDS  # the driver was reloaded, or died
        return cards

    def name(self, index: int) -> str:
        """Product name of a card."""
        import pynvml

        return _read(lambda: str(pynvml.nvmlDeviceGetName(self._handle(index)))) or "card"

    def lost(self) -> tuple[int, ...]:
        """PCI indices of cards that fell off the bus: they come back with a reboot, or not at all."""
        return tuple(index for index, handle in enumerate(self._open()) if _is_lost(handle))

    def driver(self) -> Driver | None:
        """The loaded driver; None without one."""
        if not self._open():
            return None
        import pynvml

        version = _read(lambda: str(pynvml.nvmlSystemGetDriverVersion()))
        cuda = _read(lambda: int(pynvml.nvmlSystemGetCudaDriverVersion_v2()))
        return None if version is None else Driver(version, None if cuda is None else (cuda // 1000, cuda % 1000 // 10))

    def processes(self, index: int) -> tuple[CardProcess, ...]:
        """The compute processes on a card; empty where NVML does not say."""
        import pynvml

        found = _read(lambda: list(pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle(index))))
        return tuple(CardProcess(int(process.pid), process.usedGpuMemory) for process in found or ())

    def modes(self, index: int) -> CardModes:
        """How a card is set up."""
        import pynvml

        uncorrected, since_load = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        return CardModes(
            capability=_read(lambda: _pair(pynvml.nvmlDeviceGetCudaComputeCapability(self._handle(index)))),
            persistence=_read(lambda: bool(pynvml.nvmlDeviceGetPersistenceMode(self._handle(index)))),
            mig=_read(lambda: bool(pynvml.nvmlDeviceGetMigMode(self._handle(index))[0])),
            ecc=_read(lambda: bool(pynvml.nvmlDeviceGetEccMode(self._handle(index))[0])),
            ecc_errors=_read(
                lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(self._handle(index), uncorrected, since_load))
            ),
        )

    def _handle(self, index: int) -> Any:  # noqa: ANN401 - NVML's opaque handle
        """Raises: NVMLError for a card that is lost or was never there."""
        import pynvml

        handles = self._open()
        if index >= len(handles) or handles[index] is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return handles[index]

    def _open(self) -> list[Any]:
        if self._handles is None and time.monotonic() >= self._retry_at:
            self._handles = _open_handles()
            self._retry_at = time.monotonic() + RETRY_SECONDS
        return self._handles or []


def _open_handles() -> list[Any] | None:
    """Handles of all cards in PCI order, None for one that is lost; None without a driver."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")  # spares the import of pynvml (3 MiB) on machines without a driver
    except OSError:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return None
    return [_read(partial(pynvml.nvmlDeviceGetHandleByIndex, index)) for index in range(count)]


def _read(call: Callable[[], T]) -> T | None:
    """What NVML says; None for any error of it."""
    import pynvml

    try:
        return call()
    except pynvml.NVMLError:
        return None


def _is_lost(handle: Any) -> bool:  # noqa: ANN401 - NVML's opaque handle
    import pynvml

    if handle is None:
        return True
    try:
        pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        return bool(error.value == pynvml.NVML_ERROR_GPU_IS_LOST)
    return False


def _read_card(index: int, handle: Any) -> Card | None:  # noqa: ANN401 - NVML's opaque handle
    import pynvml

    memory = None if handle is None else _read(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    if memory is None:
        return None
    milliwatts = _read(lambda: int(pynvml.nvmlDeviceGetPowerUsage(handle)))
    return Card(
        index=index,
        used=int(memory.used),
        total=int(memory.total),
        utilization=_read(lambda: int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        power=None if milliwatts is None else milliwatts / 1000,
        temperature=_read(lambda: int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))),
        throttle=throttle_words(_throttle_reasons(handle)),
    )


def _throttle_reasons(handle: Any) -> int:  # noqa: ANN401 - NVML's opaque handle
    """NVML's bit mask; drivers before 535 know it by its older name."""
    import pynvml

    reasons = _read(lambda: int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)))
    if reasons is None:
        reasons = _read(lambda: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)))
    return reasons or 0


def throttle_words(reasons: int) -> tuple[str, ...]:
    """Why a card is slower than it could be, from NVML's bit mask."""
    return tuple(word for word, bits in THROTTLE_BITS if reasons & bits)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def process_memory(pid: int) -> tuple[int, int] | None:
    """(resident, anonymous) bytes of a process; None when it is gone. 11 µs, unlike smaps_rollup's 81 ms."""
    try:
        fields = _colon_fields(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None
    if "VmRSS" not in fields:
        return None
    return fields["VmRSS"], fields.get("RssAnon", 0)


def proportional_memory(pid: int) -> int | None:
    """PSS of a process in bytes. Costs tens of milliseconds for a large process: call it rarely."""
    try:
        return _colon_fields(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")).get("Pss")
    except OSError:
        return None


def host_memory(*, proc: Path = _PROC, cgroup: Path = _CGROUP) -> tuple[int, int]:
    """(used, limit) of host RAM in bytes, as far as this process's cgroup lets it grow."""
    memory = meminfo(proc=proc)
    total, available = memory["MemTotal"], memory["MemAvailable"]
    limit, used = _cgroup_memory(_own_cgroup(proc, cgroup), cgroup, total)
    return (used, limit) if limit < total else (total - available, total)


def meminfo(*, proc: Path = _PROC) -> dict[str, int]:
    """The sizes in /proc/meminfo, in bytes."""
    return _colon_fields((proc / "meminfo").read_text(encoding="ascii"))


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def _cgroup_memory(path: Path, root: Path, total: int) -> tuple[int, int]:
    """(limit, used) of the tightest cgroup on the way up from `path`; used leaves out reclaimable file cache."""
    tightest, used = total, 0
    for level in (path, *path.parents):
        if not level.is_relative_to(root):
            break
        limit = _read_int(level / "memory.max") or _read_int(level / "memory.limit_in_bytes")
        if limit is not None and limit < tightest:
            current = _read_int(level / "memory.current") or _read_int(level / "memory.usage_in_bytes") or 0
            tightest, used = limit, max(0, current - _inactive_file(level / "memory.stat"))
    return tightest, used


def _own_cgroup(proc: Path, root: Path) -> Path:
    """The folder that limits this process's memory: version 1's controller where there is one, else version 2."""
    try:
        lines = (proc / "self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return root
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            return root / path.lstrip("/")
        if "memory" in controllers.split(","):
            return root / "memory" / path.lstrip("/")
    return root


def _inactive_file(stat: Path) -> int:
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    sizes = dict(line.split() for line in lines)
    return int(sizes.get("total_inactive_file") or sizes.get("inactive_file") or 0)  # version 1's total, as its usage


def _read_int(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _colon_fields(text: str) -> dict[str, int]:
    """`Name:  12 kB` lines as bytes."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0]) * _KIB
    return found
