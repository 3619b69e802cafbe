"""The watchdogs: each trouble is told once, when it is there and when it is over, and health is left in peace."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from t5panel.contract.records import ALERTS, Card, Sample, Step
from t5panel.monitor.watchdogs import Alert, Surroundings, Watchdogs

GIB = 2**30
CALM = Surroundings(pressure=0.0, disk_free=100 * GIB)


def record(step: int, loss: float | None, *, seconds: float = 1.0, rate: float = 1e-3) -> Step:
    """A logged step; one a second."""
    return Step(
        time=step * seconds,
        step=step,
        epoch=0.0,
        loss=loss,
        learning_rate=rate,
        grad_norm=1.0,
        samples=step,
        target_tokens=1,
        step_seconds=seconds,
        data_wait_seconds=0.0,
    )


def reading(*cards: Card, ram: float = 0.5) -> Sample:
    """A sample of the machine with a share of its RAM in use."""
    return Sample(0.0, cards, (), int(ram * 12 * GIB), 12 * GIB)


def card(index: int = 0, *, used: float = 0.5, throttle: tuple[str, ...] = ()) -> Card:
    """A card with a share of its memory in use."""
    return Card(index, int(used * 20 * GIB), 20 * GIB, 99, 300.0, 70, throttle)


def training(losses: Iterable[float | None], *, max_steps: int = 10_000) -> tuple[Watchdogs, list[Alert]]:
    """The watchdogs after a training, and what they said."""
    dogs = Watchdogs(max_steps=max_steps)
    said = dogs.began(0.0)
    for step, loss in enumerate(losses, start=1):
        said += dogs.step(record(step, loss), now=float(step))
    return dogs, said


def told(alerts: list[Alert]) -> list[tuple[str, str]]:
    """Names and severities."""
    return [(alert.name, alert.severity) for alert in alerts]


def falling(count: int, *, noise: float = 0.1) -> list[float]:
    """A loss as a healthy run has it."""
    generator = random.Random(1)
    return [2 + 4 * 0.999**step + generator.gauss(0, noise) for step in range(count)]


def test_a_healthy_run_is_left_in_peace() -> None:
    dogs, said = training(falling(3000), max_steps=3000)

    assert said == []
    assert dogs.tick(3000 + 59.0) == []
    assert dogs.sample(reading(card()), CALM, 1.0) == []


def test_silence_is_a_stall_after_a_minute_or_five_usual_steps_and_over_with_the_next() -> None:
    dogs, _ = training(falling(30))
    assert dogs.tick(30 + 59.0) == []

    stall = dogs.tick(30 + 61.0)
    again = dogs.tick(30 + 65.0)
    over = dogs.step(record(100, 3.0), 100.0)

    assert told(stall) == [("stall", "error")]
    assert "after step 30, usually one takes 1.0 s" in stall[0].message
    assert (again, told(over)) == ([], [("stall", "info")])


def test_records_of_every_hundredth_step_without_beats_are_waited_for_longer() -> None:
    dogs = Watchdogs()
    dogs.began(0.0)
    for step in range(100, 1000, 100):
        dogs.step(record(step, 3.0), float(step))

    assert dogs.tick(900 + 499.0) == []
    assert told(dogs.tick(900 + 501.0)) == [("stall", "error")]


def test_slow_steps_are_no_stall() -> None:
    dogs = Watchdogs()
    dogs.began(0.0)
    for step in range(1, 10):
        dogs.step(record(step, 3.0, seconds=40.0), step * 40.0)

    assert dogs.tick(9 * 40 + 199.0) == []
    assert told(dogs.tick(9 * 40 + 201.0)) == [("stall", "error")]


def test_nothing_stalls_while_the_ranks_evaluate_or_save_or_before_the_first_step() -> None:
    dogs, _ = training(falling(30))

    dogs.paused(31.0)
    assert dogs.tick(31 + 5000.0) == []
    dogs.went_on(6000.0)
    assert dogs.tick(6000 + 59.0) == []

    fresh = Watchdogs()
    fresh.began(0.0)
    assert fresh.tick(600.0) == []
    assert told(fresh.tick(3600.0)) == [("stall", "error")]


def test_a_beat_without_a_record_is_a_step_too() -> None:
    dogs, _ = training(falling(30))

    for moment in range(31, 300):
        assert dogs.beat(float(moment)) == []
        assert dogs.tick(float(moment)) == []


def test_a_loss_that_is_not_finite_is_told_in_the_same_step_and_once() -> None:
    _, said = training([3.0, 2.9, None, None, 2.8])

    assert told(said) == [("not-finite", "error"), ("not-finite", "info")]
    assert "at step 3" in said[0].message


def test_a_jump_of_the_loss_is_told_and_its_end_too() -> None:
    healthy = falling(420)
    _, said = training([*healthy[:400], 9.0, 9.5, *healthy[400:]])

    assert told(said) == [("loss-spike", "warning"), ("loss-spike", "info")]
    assert "to 9.000 at step 401" in said[0].message


def test_a_loss_that_stands_still_is_a_plateau() -> None:
    generator = random.Random(2)
    _, said = training([4.8 + generator.gauss(0, 0.05) for _ in range(400)], max_steps=2000)

    assert told(said) == [("plateau", "warning")]
    assert "stands still: 4.795 → 4.801 since step 1" in said[0].message


def test_a_converged_loss_at_a_small_learning_rate_is_no_plateau() -> None:
    dogs = Watchdogs(max_steps=2000)
    said = dogs.step(record(1, 3.0, rate=1e-3), 1.0)
    for step in range(2, 800):
        said += dogs.step(record(step, 2.0, rate=1e-5), float(step))

    assert said == []


def test_memory_near_the_limit_is_a_warning_then_an_error_and_over_only_when_it_has_fallen() -> None:
    dogs = Watchdogs()

    said = [told(dogs.sample(reading(ram=ram), CALM, 0.0)) for ram in (0.5, 0.93, 0.94, 0.98, 0.93, 0.9, 0.8)]

    warning, error, over = (("memory-pressure", severity) for severity in ("warning", "error", "info"))
    assert said == [[], [warning], [], [error], [], [], [over]]


def test_processes_that_wait_for_memory_are_a_warning_before_it_is_full() -> None:
    dogs = Watchdogs()

    said = dogs.sample(reading(ram=0.7), Surroundings(pressure=35.0, disk_free=None), 0.0)

    assert told(said) == [("memory-pressure", "warning")]
    assert "35 % of the time" in said[0].message


def test_a_disk_too_small_for_the_next_checkpoint_is_told_before_it_is_written() -> None:
    dogs = Watchdogs()
    full = Surroundings(pressure=None, disk_free=3 * GIB)
    assert dogs.sample(reading(), full, 0.0) == []

    dogs.checkpoint(3 * GIB)

    assert told(dogs.sample(reading(), full, 0.0)) == [("disk", "warning")]
    assert told(dogs.sample(reading(), CALM, 0.0)) == [("disk", "info")]


def test_a_full_card_a_lost_card_and_a_hot_card_are_told() -> None:
    dogs = Watchdogs()
    assert dogs.sample(reading(card(0), card(1)), CALM, 0.0) == []
    full, hot = card(0, used=0.98), card(1, throttle=("heat",))

    assert told(dogs.sample(reading(full, card(1)), CALM, 1.0)) == [("vram-limit", "warning")]
    assert dogs.sample(reading(full), CALM, 2.0) == []
    assert told(dogs.sample(reading(full), CALM, 8.0)) == [("card-lost", "error")]
    heated = [dogs.sample(reading(card(0), hot), CALM, 10.0 + later) for later in (0, 10, 29, 31)]

    assert [told(said) for said in heated] == [
        [("card-lost", "info"), ("vram-limit", "info")],
        [],
        [],
        [("throttled", "warning")],
    ]
    assert heated[-1][0].message == "card 1 is slowed down: heat"


def test_what_is_remembered_does_not_grow_with_the_run() -> None:
    dogs, _ = training((2.0 for _ in range(20_000)), max_steps=10_000_000)

    assert len(msgspec.json.encode([list(value) for value in vars(dogs).values() if hasattr(value, "__len__")])) < 1e5


@given(st.lists(st.one_of(st.none(), st.floats(min_value=0, max_value=1e6)), max_size=300))
def test_alerts_come_and_go_in_turn_whatever_the_loss_does(losses: list[float | None]) -> None:
    _, said = training(losses, max_steps=300)

    for name in ALERTS:
        ends = [alert.severity == "info" for alert in said if alert.name == name]
        assert ends == [index % 2 == 1 for index in range(len(ends))]
