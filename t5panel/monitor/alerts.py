"""Which alerts of a run still stand, and how often each was raised. Reads events, has no clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.reading import records_in
from t5panel.contract.records import ALERTS, Event

OTHER_RANKS = frozenset({"started", "resumed", "paused", "continued", "recovered"})
"""Names of events after which no rank trains, or another one: what the watchdogs said of the earlier ones is void."""
RANKING = {"error": 0, "warning": 1, "info": 2}


def active_alerts(events: Iterable[Event]) -> tuple[Event, ...]:
    """The newest event of each alert that is still raised: errors before warnings, the newest first.

    What stood before is known from its own result: `active_alerts((*active_alerts(old), *new))` tells all of both.
    """
    raised: dict[str, Event] = {}
    for event in events:
        if event.name in OTHER_RANKS:
            raised.clear()
        elif event.name in ALERTS and event.severity == "info":
            raised.pop(event.name, None)
        elif event.name in ALERTS:
            raised[event.name] = event
    return tuple(sorted(raised.values(), key=lambda alert: (RANKING[alert.severity], -alert.time)))


def read_alert_counts(run: RunDir) -> dict[str, int]:
    """How often each alert was raised; one that got worse counts once."""
    counts: defaultdict[str, int] = defaultdict(int)
    raised = set[str]()
    for event in records_in(run.events, msgspec.json.Decoder(Event)):
        if event.name not in ALERTS:
            continue
        if event.severity == "info":
            raised.discard(event.name)
        elif event.name not in raised:
            raised.add(event.name)
            counts[event.name] += 1
    return dict(counts)
