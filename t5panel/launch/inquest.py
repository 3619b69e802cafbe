"""Why one start of the ranks ended: what was so before it, what is so after it, and what the logs say of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Diagnosis, RunInfo
from t5panel.launch.observer import Observer
from t5panel.launch.recovery import batch_of
from t5panel.monitor.clues import Asked, Evidence, Host, Kills, Log
from t5panel.monitor.evidence import (
    read_failures,
    read_free_disk,
    read_kernel,
    read_kills,
    read_log,
    read_login,
    read_pressure,
)
from t5panel.monitor.hardware import host_memory


@dataclass(frozen=True, slots=True)
class Before:
    """What must be known of the time before a start: how long each log was, whom the kernel had killed, and when."""

    log_sizes: dict[str, int]
    kills: Kills
    moment: float
    """Of the monotonic clock."""


def before_start(run: RunDir) -> Before:
    """The present, as it is before the ranks start."""
    sizes = {path.name: path.stat().st_size for path in run.logs.glob("*.log")}
    return Before(sizes, read_kills(), time.monotonic())


def inquest(
    run: RunDir,
    info: RunInfo,
    before: Before,
    observer: Observer,
    *,
    preparing: bool,
    exit_code: int,
    doing: str,
    asked: Asked | None,
) -> Diagnosis:
    """Why the ranks, or the preparation, ended without a result."""
    from t5panel.monitor.diagnose import diagnose  # a megabyte of signatures that a healthy run never needs

    return diagnose(
        Evidence(
            run_id=run.run_id,
            launcher=None if preparing else _log(run.launcher_log, before),
            ranks=() if preparing else tuple(_log(path, before) for path in sorted(run.logs.glob("rank-*.log"))),
            prepare=_log(run.prepare_log, before) if preparing else None,
            failures=read_failures(run),
            exit_code=exit_code,
            exits=observer.exits.seen,
            launcher_name=str(info.spec.get("launcher", "")),
            host=_host(observer, before),
            free_disk=read_free_disk(run.checkpoints),
            step=observer.step or None,
            loss_finite=observer.finite if observer.step else None,
            batch=batch_of(info.spec),
            doing=doing,
            asked=asked,
            login=read_login(),
            kernel=read_kernel(since=before.moment),
        )
    )


def _log(path: Path, before: Before) -> Log:
    return read_log(path, begin=before.log_sizes.get(path.name, 0))


def _host(observer: Observer, before: Before) -> Host:
    some, full = read_pressure()
    last = observer.last_sample
    used, limit = (last.ram_used, last.ram_limit) if last else host_memory()
    return Host(used, limit, some, full, before.kills, read_kills())
