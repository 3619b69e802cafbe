"""Which alerts stand: raised, over, raised again, and void after another start."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5panel.contract.layout import RunDir
from t5panel.contract.records import CommandInfo, Event, Recovery, RunInfo, encode_line
from t5panel.monitor.alerts import active_alerts
from t5panel.monitor.history import KEPT_EVENTS, History

INFO = RunInfo("r", "manual", 0.0, {}, CommandInfo((), {}), CommandInfo((), {}), (), "python", {}, {})
STARTED = Event(0, "started", "the supervisor started")
STALL = Event(1, "stall", "no step for 75 s", "error")
GOES_ON = Event(2, "stall", "the ranks make steps again")
DISK = Event(3, "disk", "the next checkpoint will not fit", "warning")
SPIKE = Event(4, "loss-spike", "the loss jumped", "warning")
OTHER = Event(5, "exited", "pid 7 ended with 0", "error")


@pytest.mark.parametrize(
    ("events", "alerts"),
    [
        ((), ()),
        ((STALL,), (STALL,)),
        ((STALL, GOES_ON), ()),
        ((STALL, GOES_ON, STALL), (STALL,)),
        ((DISK, msgspec.structs.replace(DISK, message="worse", severity="error")), ("worse",)),
        ((STALL, DISK, SPIKE), (STALL, SPIKE, DISK)),
        ((STALL, OTHER), (STALL,)),
        ((STALL, STARTED, DISK), (DISK,)),
        ((STALL, Event(9, "continued", "the daily window opened")), ()),
        ((STALL, Event(9, "recovered", "with half the batch")), ()),
        ((STALL, Event(9, "paused", "until 22:00")), ()),
    ],
    ids=str,
)
def test_an_alert_stands_until_it_is_over_or_other_ranks_start(
    events: tuple[Event, ...], alerts: tuple[Event | str, ...]
) -> None:
    found = active_alerts(events)

    assert tuple(alert.message if alert.message in alerts else alert for alert in found) == alerts


@given(st.lists(st.sampled_from((STARTED, STALL, GOES_ON, DISK, SPIKE, OTHER))), st.integers(0, 20))
def test_what_stood_before_is_known_from_its_own_result(events: list[Event], cut: int) -> None:
    assert active_alerts((*active_alerts(events[:cut]), *events[cut:])) == active_alerts(events)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run directory that holds nothing but its description."""
    run = RunDir(tmp_path)
    run.run_json.write_bytes(msgspec.json.encode(INFO))
    return run


def test_an_alert_outlives_two_hundred_newer_events(run: RunDir) -> None:
    noise = [Event(10 + at, "spawned", "pid 1") for at in range(2 * KEPT_EVENTS)]
    run.events.write_bytes(b"".join(map(encode_line, (STALL, *noise))))

    snapshot = History(run).refresh()

    assert snapshot.alerts == (STALL,)
    assert STALL not in snapshot.events
    assert snapshot.event_count == 2 * KEPT_EVENTS + 1


def test_a_recovery_that_replaces_the_description_is_seen(run: RunDir) -> None:
    history = History(run)
    before = history.refresh().info.recoveries
    recovery = Recovery(1.0, 120, "CUDA out of memory", {}, {})
    draft = run.path / "new"
    draft.write_bytes(msgspec.json.encode(msgspec.structs.replace(INFO, recoveries=(recovery,))))
    draft.rename(run.run_json)

    assert (before, history.refresh().info.recoveries) == ((), (recovery,))
