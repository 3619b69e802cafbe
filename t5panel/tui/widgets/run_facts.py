"""What there is to know of the run under the cursor of a list, before it is opened."""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from t5panel.cells import left
from t5panel.contract.layout import runs_home
from t5panel.language import tr
from t5panel.render.values import launch_text, moment_text
from t5panel.tui.listing import RunRow
from t5panel.tui.parts import Part

NAME_CELLS = 11


class RunFacts(Static):
    """Hidden while there is no run."""

    row: reactive[RunRow | None] = reactive(None)

    def watch_row(self, row: RunRow | None) -> None:
        """Show it."""
        self.set_class(row is None, "-none")
        self.border_title = row.run.run_id if row is not None else ""
        self.update(Content.assemble(*fact_parts(row)).rstrip() if row is not None else "")


def fact_parts(row: RunRow) -> Iterator[Part]:
    """Names and texts, a line each; its folder where that is not among the others."""
    settings = row.settings
    what = launch_text(settings.method, settings.launcher, settings.ranks, settings.device)
    lengths = tr("up to {source} → {target} tokens", source=settings.lengths[0], target=settings.lengths[1])
    facts = {
        tr("method"): f"{what} · {row.technique}",
        tr("batch"): settings.formula,
        tr("model"): settings.model,
        tr("data"): f"{settings.data}, {lengths}",
        tr("started"): moment_text(row.created),
        tr("state"): row.message,
        **({} if row.run.path.parent == runs_home() else {tr("folder"): str(row.run.path)}),
    }
    for name, text in facts.items():
        yield from ((left(name, NAME_CELLS), "$quiet"), f" {text}\n")
