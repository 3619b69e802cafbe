"""The list of methods: every preset, what starts it, and what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from t5panel.language import tr
from t5panel.tui.draft import Method

SUMMARY_LINES = 5
"""That a method takes with its summary and a gap."""


class MethodList(OptionList):
    """One line per preset; enter belongs to the screen, so that a click chooses and never starts."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.start", "start", tooltip="Start the run as the plan shows it"),
        Binding("e,right", "screen.edit", "edit", key_display="e", tooltip="Edit the settings; esc comes back"),
    ]


class MethodPane(Vertical):
    """Chooses a preset."""

    class Chosen(Message):
        """Another preset is highlighted."""

        def __init__(self, name: str, summary: Content) -> None:
            super().__init__()
            self.name, self.summary = name, summary

    def __init__(self, methods: Sequence[Method], chosen: str) -> None:
        super().__init__(classes="section")
        self._methods = tuple(methods)
        self._chosen = chosen
        self._roomy, self._told = False, ""
        self.border_title = tr("Method")

    def compose(self) -> ComposeResult:
        """The list."""
        options = MethodList(*self._options())
        options.highlighted = [method.name for method in self._methods].index(self._chosen)
        yield options

    def show(self, methods: Sequence[Method], chosen: str) -> None:
        """Other presets than before, one of them chosen."""
        self._methods, self._chosen = tuple(methods), chosen
        options = self.query_one(MethodList)
        options.set_options(self._options())
        options.highlighted = [method.name for method in self._methods].index(chosen)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Tell the screen."""
        event.stop()
        method = self._methods[event.option_index]
        self._chosen = method.name
        if method.name != self._told:  # the list is also filled anew when it gets another size
            self._told = method.name
            self.post_message(self.Chosen(method.name, _summary(method)))

    def on_resize(self, event: Resize) -> None:
        """A summary under every name where there is room for all."""
        roomy = event.size.height >= SUMMARY_LINES * len(self._methods)
        if roomy != self._roomy:
            self._roomy = roomy
            self.show(self._methods, self._chosen)

    def _options(self) -> Iterator[Option]:
        return (_option(method, with_summary=self._roomy) for method in self._methods)


def _option(method: Method, *, with_summary: bool) -> Option:
    name = method.name.rsplit("/", 1)[-1]
    word, style = (tr("under {launcher}", launcher=method.launcher), "$quiet")
    if not method.installed:
        word, style = tr("not installed"), "$warning"
    if method.faults:
        word, style = tr("cannot be used"), "$error"
    title = Content.assemble(f"{name:<13}", (word, style))
    below = Content.assemble("\n", _summary(method).stylize_before("$quiet"), "\n") if with_summary else ""
    return Option(title + below, id=method.name)


def _summary(method: Method) -> Content:
    if method.installed:
        return Content(tr(method.summary))
    return Content.assemble(
        (tr("Not installed.") + " ", "$warning"),
        tr("In a shell: {command}. The others train too.", command=f"t5panel setup {method.name}"),
    )
