"""A part of the fault campaign: each launcher is broken in two ways or three, and every kind of blow comes up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.blows import BLOWS, PRESETS
from tests.faults.campaign import Schedule, carry_out, every_blow, schedule_of, subset
from tests.faults.observed import load_words

SEED = 19


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own for every run and its fronts."""
    for kind in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))


@pytest.mark.parametrize("schedule", subset(SEED), ids=lambda schedule: schedule.preset)
def test_a_run_keeps_its_promises_whatever_happens_to_it(schedule: Schedule, tmp_path: Path) -> None:
    report = carry_out(schedule, tmp_path)

    assert report.faults == [], load_words()
    assert sum(report.blows.values()) + sum(report.skipped.values()) == len(schedule.hits)


def test_the_part_holds_every_launcher_and_every_kind_of_blow() -> None:
    for seed in range(20):
        schedules = subset(seed)
        names = [hit.name for schedule in schedules for hit in schedule.hits]

        assert tuple(schedule.preset for schedule in schedules) == PRESETS
        assert {BLOWS[name].kind for name in names} == {blow.kind for blow in BLOWS.values()}


def test_the_whole_holds_every_blow_and_is_the_same_every_time() -> None:
    schedules = [schedule_of(seed) for seed in range(1, 201)]

    assert {hit.name for schedule in schedules for hit in schedule.hits} == set(BLOWS)
    assert schedules == [schedule_of(seed) for seed in range(1, 201)]
    assert {(schedule.preset, hit.name) for schedule in every_blow(1) for hit in schedule.hits} == {
        (preset, name) for name, blow in BLOWS.items() for preset in blow.presets
    }
