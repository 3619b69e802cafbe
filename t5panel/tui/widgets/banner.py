"""What is wrong with a run right now, on one line."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from t5panel.contract.records import Event
from t5panel.language import tr
from t5panel.render.faults import SEVERITY_MARK
from t5panel.tui.view import RunView


class AlertBanner(Widget):
    """The worst alert of a living run, and how many more there are; hidden while there is none."""

    view: reactive[RunView | None] = reactive(None, repaint=False)

    _alerts: tuple[Event, ...] = ()

    def watch_view(self, view: RunView | None) -> None:
        """Show what stands now."""
        alerts = standing(view)
        if alerts == self._alerts:
            return
        self._alerts = alerts
        self.refresh()
        self.display = bool(alerts)
        self.set_class(bool(alerts) and alerts[0].severity == "error", "-error")

    def render(self) -> Content:
        """As wide as there is room."""
        return banner_text(self._alerts, self.size.width)


def standing(view: RunView | None) -> tuple[Event, ...]:
    """The alerts of a run that lives; after its end they are part of its result."""
    return view.snapshot.alerts if view is not None and view.snapshot.state.alive else ()


def banner_text(alerts: tuple[Event, ...], width: int) -> Content:
    """Sign, word and message of the first alert, cut to `width` cells, and the key that shows all of them."""
    if not alerts:
        return Content("")
    worst, more = alerts[0], len(alerts) - 1
    others = tr("+{count} more", count=more) + " · " if more else ""
    keys = f"  {others}d {tr('details')} "
    message = tr(" ".join(worst.message.split()))
    text = f" {SEVERITY_MARK[worst.severity]} {tr(worst.severity).upper()}  {worst.name}: {message}"
    return Content(text).truncate(max(1, width - cell_len(keys)), ellipsis=True, pad=True) + Content(keys)
