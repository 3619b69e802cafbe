"""A look at data before a run is made of it: `python -m t5panel.trainers.peek` < spec.

Reads a RunSpec as JSON from stdin and prints a DataLook at once, and another with the lengths of a sample. No torch.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from t5panel.contract.data_look import PROMPT_NAMES, RESPONSE_NAMES, DataLook
from t5panel.contract.shapes import is_builtin
from t5panel.contract.spec import ModelSpec, RunSpec
from t5panel.errors import Fault, T5PanelError
from t5panel.trainers.docstrings import docstring_pairs
from t5panel.trainers.sample import SPOT_ROWS, SPOTS, Row, Sample, sample
from t5panel.trainers.source import find_columns, find_files, schema_of

KEY = "data.train"
EXAMPLE_CHARACTERS = 400
LATER = "lengths in tokens can be told once its tokenizer was downloaded, or of a local folder"
ENDLESS = sys.maxsize
"""No text is cut."""


def looks(spec: RunSpec) -> Iterator[DataLook]:
    """What can be said at once, then what takes reading and tokenising."""
    if is_builtin(spec.data.train):
        pairs: list[Row] = list(docstring_pairs())
        first = DataLook(
            columns={"prompt": "text", "response": "text"}, rows=len(pairs), prompt="prompt", response="response"
        )
        yield first
        step = max(1, len(pairs) // (SPOTS * SPOT_ROWS))
        yield _with_lengths(first, spec.model, Sample(pairs[::step], len(pairs), exact=True))
        return
    found = find_files(Path(spec.data.train).expanduser(), KEY)
    if isinstance(found, Fault):
        yield _faulty(DataLook(), [found])
        return
    files, format_ = found
    schema = schema_of(files[0], format_, KEY)
    size = sum(file.stat().st_size for file in files)
    if isinstance(schema, Fault):
        yield _faulty(DataLook(files=len(files), bytes=size), [schema])
        return
    first = DataLook(
        files=len(files),
        bytes=size,
        columns=schema,
        prompt=_column(spec.data.prompt_column, PROMPT_NAMES, schema),
        response=_column(spec.data.response_column, RESPONSE_NAMES, schema),
    )
    columns = find_columns(schema, spec.data)
    yield first
    try:
        rows = sample(files, format_)
    except (OSError, ValueError, csv.Error) as error:
        yield _faulty(first, [Fault(KEY, f"is not readable as {format_}: {str(error).splitlines()[0]}")])
        return
    first = msgspec.structs.replace(first, rows=rows.total, rows_are_exact=rows.exact)
    yield _faulty(first, columns) if isinstance(columns, list) else _with_lengths(first, spec.model, rows)


def _column(named: str | None, usual: tuple[str, ...], schema: dict[str, str]) -> str | None:
    return next((name for name in (named,) if name in schema), None) or next((n for n in usual if n in schema), None)


def _with_lengths(look: DataLook, model: ModelSpec, found: Sample) -> DataLook:
    """The look with the tokens of a sample's prompts and responses."""
    pairs = [(row.get(look.prompt or ""), row.get(look.response or "")) for row in found.rows]
    texts = [(p, r) for p, r in pairs if isinstance(p, str) and isinstance(r, str) and p.strip() and r.strip()]
    look = msgspec.structs.replace(look, sampled=len(pairs), dropped=len(pairs) - len(texts))
    if not texts:
        return _faulty(look, [Fault(KEY, "no sampled row has text in both columns")])
    try:
        source, target = (_lengths(model, list(side)) for side in zip(*texts, strict=True))
    except T5PanelError:
        return _faulty(look, [Fault("model.tokenizer", f"{_tokenizer(model)} is not on this machine yet", LATER)])
    example = (texts[0][0][:EXAMPLE_CHARACTERS], texts[0][1][:EXAMPLE_CHARACTERS])
    whose = "byte" if is_builtin(_tokenizer(model)) else Path(_tokenizer(model)).name
    return msgspec.structs.replace(look, source=source, target=target, example=example, tokenizer=whose)


def _lengths(model: ModelSpec, texts: list[str]) -> tuple[int, ...]:
    """Tokens of each text with its end token, as the preparation counts them; rising.

    Raises: PreflightError when the tokenizer cannot be had.
    """
    if is_builtin(_tokenizer(model)):
        return tuple(sorted(len(text.encode()) + 1 for text in texts))
    from t5panel.trainers.text import encode, import_transformers_without_torch, load_tokenizer

    import_transformers_without_torch()
    ids, _ = encode(load_tokenizer(model), texts, ENDLESS)
    return tuple(sorted(map(len, ids)))


def _tokenizer(model: ModelSpec) -> str:
    return model.tokenizer or model.name_or_path


def _faulty(look: DataLook, faults: list[Fault]) -> DataLook:
    return msgspec.structs.replace(look, faults=tuple((f.where, f.message, f.hint) for f in faults))


if __name__ == "__main__":
    os.nice(5)  # a picture for people gives way to a training
    for each in looks(RunSpec.model_validate_json(sys.stdin.read())):
        sys.stdout.buffer.write(msgspec.json.encode(each) + b"\n")
        sys.stdout.buffer.flush()
