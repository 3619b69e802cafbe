"""What a folder holds, as a list to choose from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from t5panel.contract.data_look import SUFFIXES
from t5panel.contract.spec import BUILTIN_DATA
from t5panel.language import later

Kind = Literal["builtin", "up", "here", "folder", "file"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list: what it is, the setting it stands for, and what is said of it."""

    kind: Kind
    value: str
    name: str
    note: str = ""

    @property
    def is_data(self) -> bool:
        """Whether it can be trained on, as far as its name says."""
        return self.kind in ("builtin", "here", "file")


def data_entries(folder: Path) -> tuple[Entry, ...]:
    """The way up, the folder itself where it holds data, its folders, its data files, and what is built in.

    Raises: OSError when it cannot be read.
    """
    with os.scandir(folder) as found:
        visible = sorted((each for each in found if not each.name.startswith(".")), key=lambda each: each.name.lower())
    files = [each for each in visible if Path(each.name).suffix in SUFFIXES and each.is_file()]
    folders = [each for each in visible if each.is_dir()]
    formats = sorted({SUFFIXES[Path(each.name).suffix] for each in files})
    here = Entry("here", str(folder), later("all files here"), f"{len(files)} × {formats[0]}" if formats else "")
    return (
        Entry("up", str(folder.parent), "..", later("up")),
        *((here,) if len(files) > 1 and len(formats) == 1 else ()),
        *(Entry("file", each.path, each.name, size_text(each.stat().st_size)) for each in files),
        *(Entry("folder", each.path, f"{each.name}/") for each in folders),
        *(Entry("builtin", name, name, later("built in")) for name in BUILTIN_DATA),
    )


def size_text(size: int) -> str:
    """Bytes as `824 KiB`."""
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_:
            return f"{size / bytes_:,.1f} {unit}"
    return f"{size} B"
