"""How fast a run is, what that takes and where its time goes."""

from __future__ import annotations

from dataclasses import asdict

import msgspec
import pytest

from t5panel.contract.records import Card, CommandInfo, Prepared, RankSample, RunInfo, Sample, Step
from t5panel.contract.shapes import SHAPES
from t5panel.monitor.energy import Energy, EnergyMeter
from t5panel.monitor.pace import TimeShares, time_shares, tokens_per_second, utilization
from t5panel.render.figures import energy_text, time_words, utilization_basis

RANK = RankSample(0, 1, 1, None)


def step(number: int, *, tokens: int = 100, seconds: float = 2.0, wait: float = 0.2, comm: float | None = 0.1) -> Step:
    return Step(float(number), number, 0.0, 1.0, 1e-3, None, number, tokens, seconds, wait, communication_seconds=comm)


def sample(time: float, *powers: float | None, ranks: bool = True) -> Sample:
    cards = tuple(Card(index, 1, 2, 50, power, 60) for index, power in enumerate(powers))
    return Sample(time, cards, (RANK,) if ranks else (), 1, 2)


def metered(*samples: Sample) -> Energy | None:
    meter = EnergyMeter()
    for one in samples:
        meter.add([one])
    return meter.energy


def test_tokens_are_counted_over_all_steps_of_a_record() -> None:
    assert tokens_per_second([step(10, tokens=1000)], 0) == 1000 / 20
    assert tokens_per_second([step(10, tokens=7), step(20, tokens=1000)], 0) == 1000 / 20
    assert tokens_per_second([], 0) is None


def test_the_time_of_a_step_is_told_as_shares_that_add_up() -> None:
    shares = time_shares([step(1), step(2)])

    assert shares is not None
    assert (shares.data, shares.communication) == (0.1, 0.05)
    assert shares.rest == pytest.approx(0.85)


def test_communication_that_nothing_recorded_is_said_not_invented() -> None:
    shares = time_shares([step(1), step(2, comm=None)])

    assert shares == TimeShares(0.1, None, 0.9)
    assert time_words(shares) == ["compute 90%", "data 10%", "communication not recorded"]


def test_energy_is_the_power_of_all_cards_over_the_time_with_ranks() -> None:
    energy = metered(
        sample(0, 900.0, 900.0, ranks=False), sample(1, 100.0, 200.0), sample(2, 200.0, 300.0), sample(3, 200.0, 300.0)
    )

    assert energy == Energy(joules=400.0 + 500.0, seconds=2.0, unread=0.0, watts=500.0)


def test_a_pause_takes_no_energy_of_the_run() -> None:
    energy = metered(sample(0, 100.0), sample(1, 100.0), sample(7200, 100.0), sample(7201, 100.0))

    assert energy is not None
    assert energy.joules == 200.0


def test_energy_with_readings_missing_is_told_as_a_lower_bound() -> None:
    energy = metered(sample(0, 3600.0), sample(1, 3600.0), sample(2, None), sample(3, None))

    assert energy is not None
    assert (energy.unread, energy.watts) == (2.0, None)
    assert energy_text(energy) == "at least 1.0 Wh"


def test_without_power_there_is_no_energy() -> None:
    assert metered(sample(0), sample(1)) is None
    assert metered(sample(0, None), sample(1, None)) is None


def info(*cards: str, **spec: object) -> RunInfo:
    plan = {"cards": list(cards), "shape": asdict(SHAPES["t5-base"])}
    train = {"per_device_train_batch_size": 8, "bf16": True, **spec}
    indices = tuple(range(len(cards)))
    command = CommandInfo((), {})
    return RunInfo("r", "manual", 0.0, {"train": train}, command, command, indices, "python", {}, plan)


FULL = Prepared("", None, 1, 0, 0, 0, source_tokens=(512,), target_tokens=(512,))


def test_mfu_of_three_cards_is_that_of_the_published_count() -> None:
    used = utilization(info(*["NVIDIA GeForce RTX 3080"] * 3), FULL, 98.0)

    assert used is not None
    assert used.share == pytest.approx(0.41, abs=0.01)  # 98 samples/s on three of them: facts of the T5 speed study
    assert "178 TFLOP/s bf16, RTX 3080" in utilization_basis(used)
    assert utilization_basis(used).startswith("estimate: measured rate × 757 GFLOP a row")


def test_mfu_counts_float32_against_the_float32_peak() -> None:
    half = utilization(info("RTX 3080"), FULL, 10.0)
    single = utilization(info("RTX 3080", bf16=False), FULL, 10.0)

    assert half is not None
    assert single is not None
    assert single.share == pytest.approx(2 * half.share, rel=0.01)


def test_there_is_no_mfu_without_a_known_card_lengths_a_shape_or_a_rate() -> None:
    known = info("RTX 3080")

    assert utilization(info("GRAPHICS 9000"), FULL, 10.0) is None
    assert utilization(info(), FULL, 10.0) is None
    assert utilization(known, None, 10.0) is None
    assert utilization(known, FULL, None) is None
    assert utilization(msgspec.structs.replace(known, plan={**known.plan, "shape": None}), FULL, 10.0) is None
