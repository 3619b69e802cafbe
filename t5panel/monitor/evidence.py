"""What the machine tells about a death: the kernel's counters and log, memory pressure, logind, the disk.

Every reader gives None or nothing where the machine does not say; none raises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Failure
from t5panel.monitor.clues import Kills, Log, Login
from t5panel.monitor.tail import last_lines

READ_LINES = 400
_ROOT = Path("/")
_KMSG_RECORD = 8192
"""Longest record of /dev/kmsg. Source: Documentation/ABI/testing/dev-kmsg."""
_MOST_RECORDS = 20_000
_TELLING = ("Xid", "NVRM", "oom", "Out of memory", "out of memory", "Killed process", "segfault", "I/O error")
_LOGIND = ("usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd")
"""Later folders win. Source: logind.conf(5)."""


def read_log(path: Path, *, begin: int = 0) -> Log:
    """The end of a log, leaving out its first `begin` bytes: those of an earlier attempt. Empty when there is none."""
    try:
        stat = path.stat()
        lines = last_lines(path, READ_LINES, limit=min(256 * 1024, max(0, stat.st_size - begin)))
        return Log(path.stem, stat.st_mtime, lines)
    except OSError:
        return Log(path.stem)


def read_failures(run: RunDir) -> tuple[Failure, ...]:
    """What the ranks' excepthooks left, by rank; a torn file is no failure."""
    found = []
    for path in _listed(run.ranks, "failure-*.json"):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Failure))
        except (OSError, msgspec.DecodeError):
            continue
    return tuple(sorted(found, key=lambda failure: failure.rank))


def read_kills(*, root: Path = _ROOT) -> Kills:
    """How often the kernel has killed for want of memory, in this process's cgroup and on the machine."""
    cgroups = [_number(path, "oom_kill") for path in _memory_files(root, "memory.events", "memory.oom_control")]
    known = [count for count in cgroups if count is not None]
    return Kills(cgroup=known[0] if known else None, machine=_number(root / "proc/vmstat", "oom_kill"))


def read_pressure(*, root: Path = _ROOT) -> tuple[float | None, float | None]:
    """Percent of the last ten seconds in which some, and all, processes waited for memory.

    The worst of host and cgroup; None where the kernel does not count it.
    """
    files = (root / "proc/pressure/memory", *_memory_files(root, "memory.pressure"))
    texts = [_text(path) for path in files]
    return _worst(texts, "some"), _worst(texts, "full")


def read_kernel(*, since: float = 0.0, path: Path = Path("/dev/kmsg")) -> tuple[str, ...]:
    """Lines of the kernel's log that tell of cards, memory, crashes and disks; nothing where reading is not permitted.

    `since`: seconds of the monotonic clock, which the kernel stamps its lines with.
    """
    return tuple(line for line in _kernel_lines(path, since) if any(word in line for word in _TELLING))


def read_login(environ: dict[str, str] | None = None, *, root: Path = _ROOT) -> Login:
    """What logind does to processes at logout, and whether the session this process was started in still lives."""
    session = (os.environ if environ is None else environ).get("XDG_SESSION_ID", "")
    sessions = root / "run/systemd/sessions"
    known = session.isalnum() and sessions.is_dir()
    return Login(kills_at_logout(root=root), (sessions / session).exists() if known else None)


def kills_at_logout(*, root: Path = _ROOT) -> bool | None:
    """logind's KillUserProcesses; None when no file sets it, for the built-in default differs between distributions."""
    files = [root / folder / "logind.conf" for folder in _LOGIND]
    extra = {path.name: path for folder in _LOGIND for path in _listed(root / folder / "logind.conf.d", "*.conf")}
    answer = None
    for path in (*files, *(extra[name] for name in sorted(extra))):
        for line in _text(path).splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "KillUserProcesses":
                answer = value.strip().lower() in ("yes", "true", "on", "1")
    return answer


def read_free_disk(path: Path) -> int | None:
    """Bytes that a user may still write where a path is."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _kernel_lines(path: Path, since: float) -> Iterator[str]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for _ in range(_MOST_RECORDS):
            try:
                block = os.read(descriptor, _KMSG_RECORD)
            except BrokenPipeError:  # the record was overwritten; the next read gives the oldest that is left
                continue
            except OSError:
                return
            if not block:
                return
            yield from filter(None, (_message(line, since) for line in block.decode(errors="replace").splitlines()))
    finally:
        os.close(descriptor)


def _message(record: str, since: float) -> str:
    """The text of `priority,sequence,microseconds,flags;text`; empty when it is older."""
    head, _, text = record.partition(";")
    fields = head.split(",")
    stamp = fields[2] if len(fields) > 2 and fields[2].isdigit() else ""
    return text if stamp and int(stamp) >= since * 1e6 else ""


def _memory_files(root: Path, *names: str) -> list[Path]:
    """Files of the memory controller, of this process's cgroup and then of those above it; versions 2 and 1."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, place = [*line.split(":", 2), "", ""][:3]
        if controllers not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / controllers
        own = base / place.lstrip("/")
        # In a container the path of the host is shown, while its own cgroup is mounted as the root.
        for folder in (own, *own.parents):
            found += [folder / name for name in names if (folder / name).is_file()]
            if folder == base:
                break
    return found


def _number(path: Path, name: str) -> int | None:
    """The number behind a name at the begin of a line."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return None


def _worst(texts: list[str], kind: str) -> float | None:
    shares = []
    for line in (line for text in texts for line in text.splitlines() if line.startswith(kind + " ")):
        number = next((word[6:] for word in line.split() if word.startswith("avg10=")), "")
        if number.replace(".", "", 1).isdigit():
            shares.append(float(number))
    return max(shares, default=None)


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
