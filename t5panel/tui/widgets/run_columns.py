"""The columns of the list of runs: as many as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from t5panel.cells import left, width_of
from t5panel.language import later, tr
from t5panel.render.values import duration, loss_text
from t5panel.tui.listing import UNKNOWN, RunRow


@dataclass(frozen=True, slots=True)
class Column:
    """A title, cells to the next column, and what stands there of a run at a moment in unix seconds."""

    title: str
    width: int
    text: Callable[[RunRow, float], str]
    worth: int
    """Columns that are worth little are left out first."""

    def cell(self, row: RunRow, now: float) -> str:
        """What stands there of a run."""
        return padded(self.text(row, now), self.width)


def steps(row: RunRow) -> str:
    """`50/80`."""
    if row.step is None:
        return UNKNOWN
    return f"{row.step:,}/{row.max_steps:,}" if row.max_steps else f"{row.step:,}"


def loss(row: RunRow) -> str:
    """The newest loss."""
    return UNKNOWN if row.step is None else loss_text(row.loss)


def age(row: RunRow, now: float) -> str:
    """`3 h ago`."""
    return tr("{age} ago", age=" ".join(duration(max(0.0, now - row.created)).split()[:2]))


RUN = Column(later("run"), 28, lambda row, _: row.run.run_id, 9)
LEAST_RUN_CELLS = 14
COLUMNS = (
    RUN,
    Column(later("model"), 22, lambda row, _: row.model, 3),
    Column(later("data"), 26, lambda row, _: row.data, 2),
    Column(later("technique"), 22, lambda row, _: row.technique, 1),
    Column(later("batch"), 6, lambda row, _: str(row.effective_batch), 4),
    Column(later("step"), 12, lambda row, _: steps(row), 6),
    Column(later("loss"), 8, lambda row, _: loss(row), 7),
    Column(later("started"), 10, age, 5),
)


def fitting(width: int, rows: Iterable[RunRow]) -> tuple[Column, ...]:
    """The columns that are worth most in `width` cells; a run's own is no wider than it has to be."""
    needed = max([LEAST_RUN_CELLS, *(width_of(row.run.run_id) + 2 for row in rows)])
    chosen = [replace(RUN, width=needed), *COLUMNS[1:]]
    while len(chosen) > 1 and total(chosen) > width:
        chosen.remove(min(chosen, key=lambda column: column.worth))
    spare = min(width - total(chosen), RUN.width - needed)
    return (replace(RUN, width=needed + max(0, spare)), *chosen[1:])


def total(columns: Iterable[Column]) -> int:
    """Cells that columns take."""
    return sum(column.width for column in columns)


def padded(text: str, width: int) -> str:
    """A cell; what is wider than its column is not cut, and a space parts it from the next."""
    return left(text, width - 1) + " "
