"""Rows stay in the file: a rank's own memory does not grow with their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Sample
from tests.trainers.runs import finished_run

MIB = 2**20
SETTINGS: dict[str, Any] = {"train.max_steps": 40, "train.logging_steps": 20, "data.max_predict_samples": 0}


def write_rows(path: Path, count: int) -> Path:
    table = pa.table(
        {
            "prompt": [f"question number {number % 1000}" for number in range(count)],
            "response": [f"answer {number * 7919 % 1009}" for number in range(count)],
        }
    )
    pq.write_table(table, path)
    return path


def peak_anonymous_memory(run: RunDir) -> int:
    """Largest RssAnon of any rank that the supervisor saw, in bytes."""
    decoder = msgspec.json.Decoder(Sample)
    samples = [decoder.decode(line) for line in run.samples.read_bytes().splitlines()]
    return max(rank.anon for sample in samples for rank in sample.ranks)


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, int]:
    """Peak anonymous memory by number of rows."""
    folder = tmp_path_factory.mktemp("rows")
    return {
        rows: peak_anonymous_memory(
            finished_run(folder / str(rows), "manual", write_rows(folder / f"{rows}.parquet", rows), SETTINGS)
        )
        for rows in (3_000, 1_000_000)
    }


def test_a_million_rows_take_no_more_memory_per_rank_than_three_thousand(peaks: dict[int, int]) -> None:
    assert abs(peaks[1_000_000] - peaks[3_000]) <= 30 * MIB
