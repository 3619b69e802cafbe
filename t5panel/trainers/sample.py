"""A few thousand rows from all over the user's files, read without reading the files to their end."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from t5panel.contract.data_look import Format
from t5panel.trainers.source import parquet_rows

SPOTS, SPOT_ROWS = 8, 256
"""Places that rows are taken from, and how many of each."""
COUNTED_BYTES = 64 * 2**20
"""Text files up to this size are counted to their end; of larger ones the rows are estimated."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of the user's files, and how many there are in all."""

    rows: list[Row]
    total: int
    exact: bool


def sample(files: Sequence[Path], format_: Format) -> Sample:
    """Rows from several places; of CSV, where a line may be within a text, from the beginning.

    Raises: OSError, ValueError and csv.Error where a file is broken.
    """
    if format_ == "parquet":
        return Sample(list(_parquet_rows(files)), parquet_rows(list(files)), exact=True)
    size = sum(file.stat().st_size for file in files)
    found = list(_json_rows(files, size) if format_ == "json" else _csv_rows(files[0]))
    rows = [row for row, _ in found]
    if size <= COUNTED_BYTES:
        return Sample(rows, sum(map(_json_count if format_ == "json" else _csv_count, files)), exact=True)
    return Sample(rows, round(size * len(rows) / max(1, sum(length for _, length in found))), exact=False)


def _parquet_rows(files: Sequence[Path]) -> Iterator[Row]:
    import pyarrow.parquet

    opened = [pyarrow.parquet.ParquetFile(file) for file in files[:: max(1, len(files) // SPOTS)][:SPOTS]]
    groups = [(file, group) for file in opened for group in range(file.num_row_groups)]
    chosen = groups[:: max(1, len(groups) // SPOTS)][:SPOTS]
    for file, group in chosen:
        share = SPOTS * SPOT_ROWS // len(chosen)
        for batch in islice(file.iter_batches(batch_size=share, row_groups=[group]), 1):
            yield from batch.to_pylist()


def _json_rows(files: Sequence[Path], size: int) -> Iterator[tuple[Row, int]]:
    """Objects and their bytes, from places that are evenly far apart; a small file from its beginning to its end."""
    if size <= COUNTED_BYTES // 64:
        yield from islice((each for file in files for each in _objects(file, 0)), SPOTS * SPOT_ROWS)
        return
    for spot in range(SPOTS):
        at = size * spot // SPOTS
        for file in files:
            if at < file.stat().st_size:
                yield from islice(_objects(file, at), SPOT_ROWS)
                break
            at -= file.stat().st_size


def _objects(file: Path, at: int) -> Iterator[tuple[Row, int]]:
    with file.open("rb") as lines:
        lines.seek(at)
        if at:
            lines.readline()  # the rest of a line that begins before
        for line in lines:
            row = json.loads(line.removeprefix(b"\xef\xbb\xbf")) if line.strip() else None
            if isinstance(row, dict):
                yield row, len(line)


def _csv_rows(file: Path) -> Iterator[tuple[Row, int]]:
    """Rows and their bytes, from the beginning."""
    read = 0

    def counted(lines: Iterable[str]) -> Iterator[str]:
        nonlocal read
        for line in lines:
            read += len(line.encode())
            yield line

    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(counted(lines))
        before = read
        for row in islice(rows, SPOTS * SPOT_ROWS):
            yield row, read - before
            before = read


def _json_count(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _csv_count(file: Path) -> int:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return sum(1 for _ in csv.DictReader(lines))
