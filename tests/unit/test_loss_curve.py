"""The loss of a run of any length takes the memory of a short one, and loses no extreme."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median

import pytest

from t5panel.contract.records import Step
from t5panel.monitor import loss_curve
from t5panel.monitor.durations import Durations
from t5panel.monitor.loss_curve import LossCurve
from t5panel.monitor.steps import rows_of


def extend(curve: LossCurve, after: int, losses: Sequence[float | None]) -> None:
    """More rows, of half a second each."""
    records = [Step(0.0, step, 0.0, loss, 1e-3, None, step, 7, 0.5, 0.0) for step, loss in enumerate(losses, after + 1)]
    curve.extend(records, rows_of(records).of("loss"), [0.5] * len(records))


def grown(rows: int) -> tuple[LossCurve, list[float]]:
    """A curve of so many rows, and their losses; every seventh was not finite."""
    chance, curve = random.Random(rows), LossCurve()
    losses = [chance.randrange(1000) / 8 for _ in range(rows)]
    known = [None if at % 7 == 3 else loss for at, loss in enumerate(losses)]
    for begin in range(0, rows, 50):
        extend(curve, begin, known[begin : begin + 50])
    return curve, [math.nan if at % 7 == 3 else loss for at, loss in enumerate(losses)]


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000, 5001])
def test_extremes_and_ends_of_a_run_are_kept_at_any_length(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(loss_curve, "LIMIT", 64)

    curve, losses = grown(rows)

    finite = [loss for loss in losses if math.isfinite(loss)]
    found = curve.columns(curve.steps, 1, rows, 10)
    assert (min(low for _, low, _ in found), max(high for _, _, high in found)) == (min(finite), max(finite))
    assert (curve.steps[-1], curve.seconds[-1], len(curve.steps) <= 64) == (rows, rows / 2, True)
    assert curve.first == losses[0]


def test_a_short_curve_has_every_value_in_its_column() -> None:
    curve, losses = grown(40)

    assert curve.columns(curve.steps, 1, 40, 40) == [
        (at, loss, loss) for at, loss in enumerate(losses) if math.isfinite(loss)
    ]


def test_rows_after_a_resume_take_the_place_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_curve, "LIMIT", 64)
    curve, _ = grown(1000)

    curve.cut(500)
    extend(curve, 500, [1000.0] * 100)

    assert (curve.steps[-1], curve.last) == (600, 1000.0)
    assert {low for column, low, _ in curve.columns(curve.steps, 1, 600, 60) if column > 52} == {1000.0}
    assert max(high for column, _, high in curve.columns(curve.steps, 1, 600, 60) if column < 47) < 1000.0


def test_the_median_of_many_durations_is_known_to_a_thousandth() -> None:
    chance, durations = random.Random(0), Durations()
    seconds = [chance.lognormvariate(0, 1) for _ in range(10_001)]

    durations.extend((*seconds, 0.0))

    assert durations.middle == pytest.approx(median(seconds), rel=1e-3)
    assert Durations().middle is None


def test_the_median_of_an_even_number_lies_between_two() -> None:
    durations = Durations()

    durations.extend((4.0, 1.0, 2.0, 9.0))

    assert durations.middle == 3.0
