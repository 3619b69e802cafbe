"""The list of methods: every preset, what starts it, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from t5panel.language import tr
from t5panel.tui.draft import Method


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

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, methods: Sequence[Method], chosen: str) -> None:
        super().__init__(classes="section")
        self._methods = tuple(methods)
        self._chosen = chosen
        self.border_title = tr("Method")

    def compose(self) -> ComposeResult:
        """The list, and a sentence on the highlighted one."""
        options = MethodList(*map(_option, self._methods))
        options.highlighted = [method.name for method in self._methods].index(self._chosen)
        yield options
        yield Static(id="summary")

    def show(self, methods: Sequence[Method], chosen: str) -> None:
        """Other presets than before, one of them chosen."""
        self._methods, self._chosen = tuple(methods), chosen
        options = self.query_one(MethodList)
        options.set_options(map(_option, self._methods))
        options.highlighted = [method.name for method in self._methods].index(chosen)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Say what it is and tell the screen."""
        event.stop()
        method = self._methods[event.option_index]
        self.query_one("#summary", Static).update(_summary(method))
        self.post_message(self.Chosen(method.name))


def _option(method: Method) -> Option:
    name = method.name.rsplit("/", 1)[-1]
    word, style = (tr("under {launcher}", launcher=method.launcher), "$quiet")
    if not method.installed:
        word, style = tr("not installed"), "$warning"
    if method.faults:
        word, style = tr("cannot be used"), "$error"
    return Option(Content.assemble(f"{name:<13}", (word, style)), id=method.name)


def _summary(method: Method) -> Content:
    if method.installed:
        return Content(tr(method.summary))
    return Content.assemble(
        (tr("Not installed.") + " ", "$warning"),
        tr("In a shell: {command}. The others train too.", command=f"t5panel setup {method.name}"),
    )
