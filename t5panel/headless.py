"""The panel's headless twin: a live progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from t5panel.contract.layout import RunDir
from t5panel.monitor.history import Snapshot
from t5panel.monitor.watch import watch
from t5panel.render import progress_line

PLAIN_SECONDS = 10.0


def follow(run: RunDir) -> Snapshot:
    """Show a run on stderr until it ends; its last snapshot."""
    console = Console(stderr=True)
    return _follow_live(run, console) if console.is_terminal else _follow_plainly(run)


def _follow_live(run: RunDir, console: Console) -> Snapshot:
    columns = (SpinnerColumn(), BarColumn(24), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task("starting", total=None)
        for snapshot in watch(run):
            done, total = _progress(snapshot)
            bar.update(task, completed=done, total=total, description=progress_line(snapshot))
    return snapshot


def _follow_plainly(run: RunDir) -> Snapshot:
    """One line at most every 10 seconds, and whenever the phase changes."""
    shown_at, shown_phase = 0.0, ""
    for snapshot in watch(run):
        now, phase = time.monotonic(), snapshot.state.phase
        if now - shown_at >= PLAIN_SECONDS or phase != shown_phase:
            sys.stderr.write(progress_line(snapshot) + "\n")
            sys.stderr.flush()
            shown_at, shown_phase = now, phase
    return snapshot


def _progress(snapshot: Snapshot) -> tuple[float, float | None]:
    """(done, total) of the bar: optimizer steps, before them the preparation of data."""
    if snapshot.last is not None:
        return snapshot.last.step, snapshot.max_steps
    progress = snapshot.state.state.progress if snapshot.state.state else None
    return (progress.done, progress.total) if progress else (0, None)
