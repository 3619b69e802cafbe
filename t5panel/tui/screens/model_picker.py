"""Choose a model: built-in shapes, what the hub's cache holds, and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from t5panel.language import tr
from t5panel.plan.planning import NOT_CHECKED
from t5panel.preflight.models import Model, builtin_models, cached_models, folder_models, hub_cache
from t5panel.tui.browse import size_text
from t5panel.tui.parts import Part
from t5panel.tui.screens.data_picker import EntryList
from t5panel.tui.widgets.key_bar import KeyBar


@dataclass(frozen=True)
class Row:
    """One line of the list: a heading, a model, or a folder to go to."""

    heading: str = ""
    model: Model | None = None
    folder: Path | None = None
    name: str = ""


class Found(Message):
    """The models and folders that there are, seen from a folder."""

    def __init__(self, folder: Path, rows: tuple[Row, ...], problem: str = "") -> None:
        super().__init__()
        self.folder, self.rows, self.problem = folder, rows, problem


class ModelPicker(ModalScreen[str | None]):
    """Lists models on the left and tells of the highlighted one on the right; gives its name or path."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "open", "open", show=False, tooltip="Open the folder"),
        Binding("left,backspace", "up", "folder up", key_display="←", tooltip="The folder above"),
        Binding("escape", "leave", "back", key_display="esc", tooltip="Back to the setup; nothing is chosen"),
    ]

    def __init__(self, present: str, folder: Path, *, decoders: bool) -> None:
        super().__init__()
        self._present, self._folder, self._decoders = present, folder, decoders
        self._rows: tuple[Row, ...] = ()

    def compose(self) -> ComposeResult:
        """Title, list, facts, keys."""
        yield Static(tr("Models on this machine"), id="folder")
        with Horizontal(id="picker"):
            yield EntryList()
            with VerticalScroll(id="facts", can_focus=False):
                yield Static(id="look")
        yield KeyBar()

    def on_mount(self) -> None:
        """Look around."""
        self._find(self._folder)

    def on_found(self, event: Found) -> None:
        """List it, the present model first."""
        if event.problem:
            self.notify(event.problem, severity="warning", markup=False)
            return
        self._folder, self._rows = event.folder, event.rows
        options = self.query_one(OptionList)
        before = options.highlighted
        options.set_options(_option(row) for row in event.rows)
        names = [row.model.name if row.model else "" for row in event.rows]
        folders = [place for place, row in enumerate(event.rows) if row.folder is not None]
        if before is None:
            options.highlighted = names.index(self._present) if self._present in names else 1
        else:
            options.highlighted = folders[0]
        options.focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Tell of it."""
        event.stop()
        row = self._row
        if row is not None:
            self.query_one("#look", Static).update(Content.assemble(*row_parts(row)).rstrip())

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Entered or clicked."""
        event.stop()
        self.action_choose()

    def action_choose(self) -> None:
        """Take a model that can be trained, enter a folder."""
        row = self._row
        if row is None or row.model is None:
            self.action_open()
        elif row.model.fault:
            self.notify(tr(row.model.fault), title=row.model.name, severity="warning", markup=False)
        else:
            self.dismiss(row.model.name)

    def action_open(self) -> None:
        """Into a folder."""
        if self._row is not None and self._row.folder is not None:
            self._find(self._row.folder)

    def action_up(self) -> None:
        """The folder above the one that is listed."""
        self._find(self._folder.parent)

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)

    @property
    def _row(self) -> Row | None:
        place = self.query_one(OptionList).highlighted
        return self._rows[place] if place is not None and place < len(self._rows) else None

    @work(thread=True, group="find", exclusive=True)
    def _find(self, folder: Path) -> None:
        try:
            self.post_message(Found(folder, tuple(rows_of(folder, hub_cache(os.environ), decoders=self._decoders))))
        except OSError as error:
            self.post_message(Found(folder, (), f"{folder}: {error.strerror}"))


def rows_of(folder: Path, cache: Path, *, decoders: bool) -> Iterator[Row]:
    """Built-in shapes, the cache, then what a folder holds and the ways out of it; `decoders` too where they train.

    Raises: OSError when a folder cannot be read.
    """
    yield Row(heading=tr("built in: published shapes, random weights"))
    yield from (Row(model=model) for model in builtin_models())
    yield Row(heading=tr("hub cache: {folder}", folder=cache))
    cached = cached_models(cache, decoders=decoders)
    yield from (Row(model=model) for model in cached)
    if not cached:
        yield Row(heading=tr("nothing was downloaded here"))
    yield Row(heading=tr("folder: {folder}", folder=folder))
    models = folder_models(folder, decoders=decoders)
    yield Row(folder=folder.parent, name="..")
    yield from (Row(model=model) for model in models)
    known = {model.name for model in models}
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    yield from (Row(folder=path, name=f"{path.name}/") for path in inside if str(path) not in known)


def row_parts(row: Row) -> Iterator[Part]:
    """All that is known of a row."""
    model = row.model
    if model is None:
        yield (tr("enter opens this folder"), "$quiet")
        return
    yield (f"{model.name}\n", "bold")
    if model.fault:
        yield from (("✗ ", "$error"), f"{tr(model.fault)}\n")
    if model.decoder_only:
        yield from ((tr("decoder-only: LLaMA-Factory trains it in its own way") + "\n", "$accent"),)
        yield (tr(NOT_CHECKED) + "\n", "$warning")
    if model.shape is not None:
        shape = model.shape
        kind = tr("{count} parameters", count=parameters_text(shape.parameters))
        yield from ((kind, "$accent"), (f"  {shape.model_type}\n", "$quiet"))
        figures = {
            "num_layers": f"{shape.num_layers} + {shape.num_decoder_layers}",
            "d_model": f"{shape.d_model:,}",
            "d_ff": f"{shape.d_ff:,}{' gated' if shape.gated else ''}",
            "num_heads": f"{shape.num_heads} × {shape.d_kv}",
            "vocab_size": f"{shape.vocab_size:,}",
        }
        for name, text in figures.items():
            yield from ((f"{name:<12}", "$quiet"), f"{text}\n")
    if model.home == "builtin":
        yield (tr("starts from random weights, with the byte tokenizer") + "\n", "$quiet")
    elif model.size:
        yield (tr("{size} of weights on this disk", size=size_text(model.size)) + "\n", "$quiet")


def parameters_text(count: int) -> str:
    """`223M` or `2.9B`."""
    if count >= 10**9:
        return f"{count / 10**9:.1f}B"
    return f"{count / 10**6:.0f}M" if count >= 10**7 else f"{count / 10**6:.1f}M"


def _option(row: Row) -> Option:
    if row.heading:
        return Option(Content(row.heading).stylize("$accent"), disabled=True)
    if row.model is None:
        return Option(Content.assemble((row.name, "$primary")))
    model = row.model
    name = Path(model.name).name if model.home == "folder" else model.name
    count = parameters_text(model.shape.parameters) if model.shape else ""
    style = "$quiet" if model.fault else ""
    return Option(Content.assemble(("✗ " if model.fault else "", "$error"), (name, style), (f"  {count}", "$quiet")))
