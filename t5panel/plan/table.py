"""The memory tables that ship with the package, one for each version of transformers."""

from __future__ import annotations

import lzma
from functools import cache
from importlib.resources import files

import msgspec

from t5panel.contract.memory_table import Section, Table, minor, table_name
from t5panel.errors import UsageError

FOLDER = "tables"
UNKNOWN = "has no memory table, so no peak can be predicted"


class NoTableError(UsageError):
    """Nothing is known of a version or a kind of step."""


@cache
def load_table(transformers: str) -> Table:
    """The table of a version of transformers.

    Raises: NoTableError when none ships.
    """
    path = files("t5panel.plan") / FOLDER / table_name(transformers)
    if not path.is_file():
        known = ", ".join(sorted(shipped_versions()))
        raise NoTableError.of(
            f"transformers {minor(transformers)}",
            UNKNOWN,
            f"known: {known}; `python -m t5panel.trainers.simulator FOLDER` builds one for the installed version",
        )
    return msgspec.json.decode(lzma.decompress(path.read_bytes()), type=Table)


def shipped_versions() -> tuple[str, ...]:
    """Versions of transformers that have a table."""
    names = (path.name for path in (files("t5panel.plan") / FOLDER).iterdir())
    return tuple(name.split("-")[1].removesuffix(".json.xz") for name in names if name.endswith(".json.xz"))


def sections_of(transformers: str, kind: str) -> dict[str, Section]:
    """The sections of a kind of step by name.

    Raises: NoTableError when the version or the kind is unknown.
    """
    table = load_table(transformers)
    if kind not in table.kinds:
        raise NoTableError.of(
            kind, f"is no kind of step in the memory table of transformers {table.transformers}", "see the README"
        )
    return {name: table.section(number) for name, number in table.kinds[kind].items()}
