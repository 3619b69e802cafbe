"""TCP sockets that wait for connections, as /proc shows them: whose they are, and from where they can be reached."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from t5panel.contract.process import all_pids

_LISTEN = "0A"
"""Source: TCP_LISTEN in include/net/tcp_states.h."""
_TABLES = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket; its inode tells it from a later one on the same port."""

    inode: int
    address: str
    port: int

    @property
    def local(self) -> bool:
        """True when only this machine can reach it."""
        return self.address == "::1" or self.address.removeprefix("::ffff:").startswith("127.")

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def listeners(*, proc: Path = Path("/proc")) -> frozenset[Listener]:
    """Every listening TCP socket of this network namespace; none where /proc does not say."""
    return frozenset(_read(proc / "net"))


def listeners_of(pids: Iterable[int]) -> frozenset[Listener]:
    """Those that one of these processes holds."""
    inodes = {inode for pid in pids for inode in _inodes(pid)}
    return frozenset(found for found in listeners() if found.inode in inodes) if inodes else frozenset()


def holders_of(listener: Listener) -> tuple[int, ...]:
    """The processes that hold a socket, as far as this user may see them."""
    return tuple(pid for pid in all_pids() if listener.inode in _inodes(pid))


def _read(folder: Path) -> Iterator[Listener]:
    for table, family in _TABLES.items():
        with contextlib.suppress(OSError):
            for line in (folder / table).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == _LISTEN:
                    address, _, port = local.partition(":")
                    yield Listener(int(rest[5]), _address(address, family), int(port, 16))


def _address(digits: str, family: socket.AddressFamily) -> str:
    """An address from the kernel's hexadecimal words of 32 bits in the byte order of the machine."""
    words = (int(digits[begin : begin + 8], 16) for begin in range(0, len(digits), 8))
    return socket.inet_ntop(family, b"".join(word.to_bytes(4, sys.byteorder) for word in words))


def _inodes(pid: int) -> Iterator[int]:
    """Of the sockets that a process holds; none of a process that ended or belongs to somebody else."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)  # noqa: PTH115 - hot path
                if target.startswith("socket:["):
                    yield int(target[8:-1])
