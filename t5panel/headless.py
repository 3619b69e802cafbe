"""The panel's headless twin: a progress bar and a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.text import Text

from t5panel.contract.layout import RunDir
from t5panel.contract.records import ALERTS, ENDED, Event
from t5panel.language import tr
from t5panel.live_table import live_tables
from t5panel.monitor.history import Snapshot
from t5panel.monitor.watch import PERIOD_SECONDS, watch
from t5panel.render.faults import SEVERITY_MARK
from t5panel.render.state import progress_line
from t5panel.render.values import moment_text

PLAIN_SECONDS = 10.0
PAUSED_SECONDS = 600.0
TURNS = frozenset({"paused", "continued", "recovered", "queued"})
"""Names of events that are told although nothing is wrong."""
STYLES = {"info": "green", "warning": "yellow", "error": "bold red"}


def follow(run: RunDir, *, console: Console | None = None, period: float = PERIOD_SECONDS) -> Snapshot:
    """Show a run on stderr until it ends, and each of its events that matters once; its last snapshot.

    Looks every `period` seconds.
    """
    console = console or Console(stderr=True)
    story = with_news(watch(run, period=period), began=time.time())
    return _follow_live(story, console) if console.is_terminal else _follow_plainly(story)


def with_news(snapshots: Iterable[Snapshot], *, began: float) -> Iterator[tuple[Snapshot, tuple[Event, ...]]]:
    """Each snapshot with what it has to tell, every event once: at first what stands, or happened since `began`."""
    seen: int | None = None
    for snapshot in snapshots:
        if seen is None:
            standing = snapshot.alerts if snapshot.state.alive else ()
            new = tuple(event for event in snapshot.events if event.time >= began or event in standing)
            lost = (alert for alert in standing if alert not in new)  # raised too long ago to be kept
            yield snapshot, tuple(filter(is_news, (*lost, *new)))
        else:
            new = snapshot.events[-(snapshot.event_count - seen) :] if snapshot.event_count > seen else ()
            yield snapshot, tuple(filter(is_news, new))
        seen = snapshot.event_count


def is_news(event: Event) -> bool:
    """Warnings, errors, alerts that are over, and every turn of the run; its end is told by the summary."""
    return event.name not in ENDED and (event.severity != "info" or event.name in ALERTS or event.name in TURNS)


def news_line(event: Event) -> str:
    """`2026-01-31 22:04:09 ✗ stall: no step for 75 s`; an alert that is over has a tick."""
    over = event.severity == "info" and event.name in ALERTS
    mark = "✓" if over else SEVERITY_MARK[event.severity]
    named = event.message.startswith(tuple(TURNS))  # "paused until 22:00"
    message = " ".join(event.message.split())
    return f"{moment_text(event.time)} {mark} {tr(message) if named else f'{event.name}: {tr(message)}'}"


def _follow_live(story: Iterator[tuple[Snapshot, tuple[Event, ...]]], console: Console) -> Snapshot:
    columns = (SpinnerColumn(), BarColumn(24), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    bar = Progress(*columns, console=console)
    task = bar.add_task(tr("starting"), total=None)
    with Live(bar, console=console, refresh_per_second=4) as live:
        for snapshot, news in story:
            for event in news:
                live.console.print(Text(news_line(event), STYLES[event.severity]))
            done, total = _progress(snapshot)
            bar.update(task, completed=done, total=total, description=progress_line(snapshot, briefly=True))
            live.update(Group(bar, live_tables(snapshot)))
    return snapshot


def _follow_plainly(story: Iterator[tuple[Snapshot, tuple[Event, ...]]]) -> Snapshot:
    teller = PlainTeller()
    for snapshot, news in story:
        sys.stderr.write("".join(f"{line}\n" for line in teller.lines(snapshot, news, time.monotonic())))
        sys.stderr.flush()
    return snapshot


class PlainTeller:
    """What is told without a terminal: events at once, progress at most every 10 seconds, seldom while nothing runs."""

    def __init__(self) -> None:
        self._told_at, self._phase = -math.inf, ""

    def lines(self, snapshot: Snapshot, news: Iterable[Event], now: float) -> list[str]:
        """What to say at a moment, in seconds of a clock that never goes back."""
        lines, phase = [news_line(event) for event in news], snapshot.state.phase
        pause = PAUSED_SECONDS if phase == self._phase == "paused" else PLAIN_SECONDS
        if now - self._told_at >= pause:
            self._told_at, self._phase = now, phase
            lines.append(progress_line(snapshot))
        return lines


def _progress(snapshot: Snapshot) -> tuple[float, float | None]:
    """(done, total) of the bar: optimizer steps, before them the preparation of data."""
    if snapshot.last is not None:
        return snapshot.last.step, snapshot.max_steps
    progress = snapshot.state.state.progress if snapshot.state.state else None
    return (progress.done, progress.total) if progress else (0, None)
