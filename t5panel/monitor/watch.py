"""Watching a run from its directory until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator

from t5panel.contract.layout import RunDir
from t5panel.monitor.history import History, Snapshot

PERIOD_SECONDS = 1.0


def watch(run: RunDir, *, period: float = PERIOD_SECONDS) -> Iterator[Snapshot]:
    """A snapshot now and then one every `period` seconds; the last one shows the ended run."""
    history = History(run)
    while True:
        snapshot = history.refresh()
        yield snapshot
        if not snapshot.state.alive:
            return
        time.sleep(period)
