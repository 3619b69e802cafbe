"""What panel and trainers share about data files: kinds, usual names of columns, and what a look at one tells."""

from __future__ import annotations

from typing import Literal

import msgspec

Format = Literal["parquet", "json", "csv"]
SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
}
PROMPT_NAMES = ("prompt", "instruction", "question", "input", "source", "src", "query")
RESPONSE_NAMES = ("response", "output", "answer", "target", "completion", "tgt", "reply")


class DataLook(msgspec.Struct, frozen=True, omit_defaults=True):
    """Columns, rows, and the lengths of a sample of them; without `source` and `target` nothing was tokenised yet."""

    files: int = 0
    bytes: int = 0
    columns: dict[str, str] = {}
    """Column → kind; only `text` can be trained on."""
    rows: int | None = None
    rows_are_exact: bool = True
    """False where they were estimated from the length of the sampled rows."""
    prompt: str | None = None
    """The column that is read; None when none is called so."""
    response: str | None = None
    source: tuple[int, ...] = ()
    """Tokens of each sampled prompt, its end token counted, nothing cut off; rising."""
    target: tuple[int, ...] = ()
    sampled: int = 0
    dropped: int = 0
    """Sampled rows with an empty prompt or response."""
    example: tuple[str, str] | None = None
    """The beginning of the first sampled row."""
    tokenizer: str = ""
    """Whose tokens these are."""
    faults: tuple[tuple[str, str, str], ...] = ()
    """Where, message and hint of all that is wrong."""
