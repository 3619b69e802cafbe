"""What the plot of a long run costs: reading its metrics again, and drawing it at any scale."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Start, Step, encode_line
from t5panel.monitor.compare import read_run
from t5panel.monitor.history import History
from t5panel.monitor.steps import StepLog
from t5panel.tui.widgets.chart import Chart, Curve, draw

SIZE = (120, 30)
BATCH = 10_000


def with_steps(run: RunDir, steps: int) -> None:
    """Give a run directory so many steps, their loss falling and noisy."""
    start = Start(0.0, 0, steps, world_size=3, parameters=1, train_rows=1, eval_rows=1, effective_batch=24)
    with run.metrics.open("wb") as file:
        file.write(encode_line(start))
        for batch in batches(steps):
            file.writelines(map(encode_line, batch))


def batches(steps: int) -> Iterator[list[Step]]:
    """The records of so many steps."""
    chance = random.Random(0)
    noise = [chance.gauss(0, 0.3) for _ in range(BATCH)]
    for begin in range(1, steps + 1, BATCH):
        yield [_step(at, 1 + 6 / (1 + 30 * at / steps) + noise[at % BATCH]) for at in range(begin, begin + BATCH)]


def _step(at: int, loss: float) -> Step:
    return Step(1.7e9 + at, at, at / 1e5, loss, 3e-4, abs(loss), 24 * at, 620, 0.7365, 0.0470, 17 << 30, 18 << 30)


def reopening(run: RunDir) -> float:
    """CPU seconds of reading all that a run says."""
    begin = time.process_time()
    History(run).refresh()
    return time.process_time() - begin


def comparing(run: RunDir) -> float:
    """CPU seconds of what a comparison reads of a run."""
    begin = time.process_time()
    read_run(run)
    return time.process_time() - begin


def drawing(steps: StepLog, *, repeats: int) -> float:
    """CPU milliseconds of drawing the loss at the dearest of some scales, each at its best of some attempts."""
    last = steps.last or 1
    middle = last // 3
    views = (
        (1, last),
        (middle, middle + last // 100),
        (middle, middle + 5000),
        (middle, middle + 60),
        (last - 900, last),
    )

    def attempt(low: float, high: float) -> Callable[[], object]:
        curve = Curve("training", lambda x0, x1, count: steps.columns("loss", x0, x1, count), smooth=True)
        return lambda: draw(Chart((curve,), x_low=low, x_high=high, cursor=high), *SIZE)

    return max(min(_milliseconds(attempt(*view)) for _ in range(repeats)) for view in views)


def _milliseconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return 1000 * (time.process_time() - begin)
