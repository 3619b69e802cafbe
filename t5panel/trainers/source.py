"""The user's prompt/response files: found, checked before any work, read through `datasets` without loading them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t5panel.contract.data_look import PROMPT_NAMES, RESPONSE_NAMES, SUFFIXES, Format
from t5panel.contract.spec import DataSpec
from t5panel.errors import Fault

_PROBED_LINES = 200


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one format and the two columns read from them."""

    files: tuple[Path, ...]
    format: Format
    prompt: str
    response: str


def find_source(path: str, data: DataSpec, key: str) -> Source | list[Fault]:
    """The files and columns behind `data.train` or `data.validation`, or everything that is wrong with them."""
    found = find_files(Path(path).expanduser(), key)
    if isinstance(found, Fault):
        return [found]
    files, format_ = found
    schemas: list[tuple[Path, dict[str, str]]] = []
    faults: list[Fault] = []
    for file in files:
        schema = schema_of(file, format_, key)
        if isinstance(schema, Fault):
            faults.append(schema)
        else:
            schemas.append((file, schema))
    if not schemas:
        return faults
    columns = find_columns(schemas[0][1], data)
    if not isinstance(columns, list):
        faults += [fault for file, schema in schemas for fault in _column_faults(file, schema, columns)]
    else:
        faults += columns
    if faults or isinstance(columns, list):
        return faults
    if format_ == "parquet" and parquet_rows(files) == 0:
        return [Fault(key, f"{path} has no rows")]
    return Source(tuple(files), format_, *columns)


def open_rows(source: Source, cache: Path) -> Any:  # noqa: ANN401 - datasets is untyped
    """The rows as a memory-mapped `datasets.Dataset` of the two columns, its Arrow files in `cache`.

    Raises: datasets.exceptions.DatasetGenerationError for a file that is broken further down.
    """
    import datasets

    datasets.disable_progress_bars()
    text = datasets.Features({name: datasets.Value("string") for name in (source.prompt, source.response)})
    # pandas would turn a column of digits into numbers and the word NA into nothing.
    as_text = {"features": text, "keep_default_na": False} if source.format == "csv" else {}
    files = [str(file) for file in source.files]
    rows = datasets.load_dataset(source.format, data_files=files, split="train", cache_dir=str(cache), **as_text)
    return rows.select_columns([source.prompt, source.response])


def first_bad_line(source: Source) -> str | None:
    """The first line of JSON files without text in a column, and what is wrong there; None without one. Reads all."""
    if source.format != "json":
        return None
    for file in source.files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and (problem := _line_problem(line, (source.prompt, source.response))):
                    return f"{file}, line {number} {problem}"
    return None


def _line_problem(line: bytes, columns: tuple[str, str]) -> str | None:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # half a character can be read, not written
    except ValueError as error:
        return f"is no JSON ({error})"
    if not isinstance(row, dict):
        return "is no object"
    kinds = {name: type(row[name]).__name__ for name in columns if not isinstance(row.get(name), str | None)}
    return "; ".join(f"column {name!r} is {kind}, text is needed" for name, kind in kinds.items()) or None


def find_files(path: Path, key: str) -> tuple[list[Path], Format] | Fault:
    """The data files at a path, all of one format, or what is wrong with it."""
    if not path.exists():
        return Fault(key, f"no file or folder {path}", f"give the path from {Path.cwd()} or an absolute one")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and not file.name.startswith("."))
        if not files:
            return Fault(key, f"{path} holds no data files", f"known endings: {', '.join(SUFFIXES)}")
        if len({SUFFIXES[file.suffix] for file in files}) > 1:
            kinds = sorted({file.suffix for file in files})
            return Fault(key, f"{path} mixes formats {kinds}", "give a folder of files of one format")
    elif path.suffix not in SUFFIXES:
        return Fault(key, f"{path.name} has no known ending", f"known endings: {', '.join(SUFFIXES)}")
    else:
        files = [path]
    empty = [file for file in files if file.stat().st_size == 0]
    if empty:
        return Fault(key, f"{', '.join(map(str, empty))} is empty")
    return files, SUFFIXES[files[0].suffix]


def schema_of(file: Path, format_: Format, key: str) -> dict[str, str] | Fault:
    """Column → type name, from the file's head."""
    readers = {"parquet": _parquet_schema, "json": _json_schema, "csv": _csv_schema}
    try:
        return readers[format_](file)
    except (OSError, ValueError, csv.Error) as error:
        return Fault(key, f"{file} is not readable as {format_}: {str(error).splitlines()[0]}")


def _parquet_schema(file: Path) -> dict[str, str]:
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(file)
    text = {"string", "large_string", "string_view"}
    return {
        name: "text" if str(type_) in text else str(type_)
        for name, type_ in zip(schema.names, schema.types, strict=True)
    }


def _json_schema(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in zip(range(1, _PROBED_LINES + 1), lines, strict=False):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is no JSON ({error.msg}); one object a line is expected") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no object; one object a line is expected")
            for name, value in row.items():
                if value is not None:
                    found.setdefault(name, "text" if isinstance(value, str) else type(value).__name__)
    if not found:
        raise ValueError("no rows with values")
    return found


def _csv_schema(file: Path) -> dict[str, str]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, strict=True)
        header, first = next(rows, None), next(rows, None)
    if not header or first is None:
        raise ValueError("a header line and at least one row are expected")
    return dict.fromkeys(header, "text")


def parquet_rows(files: list[Path]) -> int:
    """Rows of all files, by their footers."""
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)


def find_columns(schema: dict[str, str], data: DataSpec) -> tuple[str, str] | list[Fault]:
    """The columns of prompt and response: those that the spec names, else by their usual names."""
    sides = (
        ("data.prompt_column", data.prompt_column, PROMPT_NAMES),
        ("data.response_column", data.response_column, RESPONSE_NAMES),
    )
    found: list[str] = []
    faults: list[Fault] = []
    present = f"the file's columns: {', '.join(schema)}"
    for key, named, usual in sides:
        column = named or next((name for name in usual if name in schema), None)
        if column is None:
            faults.append(
                Fault(key, f"no column is called {', '.join(usual[:4])}, …", f"name it: --set {key}=NAME; {present}")
            )
        elif column not in schema:
            faults.append(Fault(key, f"no column {column!r}", present))
        else:
            found.append(column)
    return faults or (found[0], found[1])


def _column_faults(file: Path, schema: dict[str, str], columns: tuple[str, str]) -> list[Fault]:
    return [
        Fault(str(file), f"column {column!r} is {schema.get(column, 'missing')}", "text is needed")
        for column in columns
        if schema.get(column) != "text"
    ]
