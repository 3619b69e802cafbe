"""Users' files become token rows before any rank starts: what is left out is counted, what is broken is named."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Prepared
from t5panel.errors import PreflightError
from t5panel.monitor.history import History
from t5panel.monitor.runs import user_faults
from t5panel.session import spawn_supervisor
from t5panel.trainers.guard import read_spec
from t5panel.trainers.prepare import prepare
from tests.house.household import House, ended
from tests.house.test_bad_data import write_tokenizer

PAIRS = [("a", "ab"), ("", "lost"), ("lost", "  "), ("long prompt", "b"), ("c", "a long response"), ("d", "e")]


def prepared_run(house: House, data: Path, **settings: object) -> RunDir:
    """A run whose data was really prepared and whose ranks are fakes, ended."""
    run = house.fake_run(
        "finishes",
        prepare=(sys.executable, "-m", "t5panel.trainers.prepare", str(house.run_path())),
        settings=spec_settings(data, settings),
    )
    spawn_supervisor(run)
    ended(run, seconds=60)
    return run


def rows_of(house: House, data: Path, **settings: object) -> Prepared:
    """What the preparation makes of the data, in this process."""
    run = house.fake_run("finishes", settings=spec_settings(data, settings))
    return prepare(run, read_spec(run))


def spec_settings(data: Path, settings: Mapping[str, object]) -> dict[str, object]:
    """Dotted settings; in their names a dot is written `__`."""
    short = {"data.train": str(data), "data.max_source_length": 8, "data.max_target_length": 8}
    return {**short, **{key.replace("__", "."): value for key, value in settings.items()}}


def text_of(prepared: Prepared, side: str) -> bytes:
    """All bytes of one side, end tokens left out."""
    tokens = np.fromfile(Path(prepared.train) / f"{side}.tokens", dtype=np.uint16)
    return bytes(token - 3 for token in tokens if token >= 3)


def write_parquet(path: Path, pairs: Sequence[tuple[str | None, str | None]]) -> Path:
    """Pairs as a parquet file."""
    path.parent.mkdir(exist_ok=True)
    prompts, responses = zip(*pairs, strict=True)
    pq.write_table(pa.table({"prompt": prompts, "response": responses}), path)
    return path


def write_jsonl(path: Path, pairs: Sequence[tuple[str | None, str | None]]) -> Path:
    """Pairs as JSON lines."""
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in pairs))
    return path


def write_csv(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """Pairs as comma-separated values."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response"), *pairs])
    return path


def test_rows_without_prompt_or_response_are_dropped_and_long_ones_truncated_and_all_are_counted(house: House) -> None:
    run = prepared_run(house, write_parquet(house.home / "pairs.parquet", [*PAIRS, (None, "lost")]))

    counts = "4 rows, 3 dropped (empty prompt or response), 1 prompts truncated, 1 responses truncated"
    assert f"data           {counts}\n" in house.click("attach", run.run_id).stdout
    (event,) = [event for event in History(run).refresh().events if event.name == "prepared"]
    assert (event.severity, event.message) == ("warning", counts)
    assert not run.progress.exists()


def test_the_lengths_that_stand_for_all_rows_go_from_the_shortest_to_the_longest(house: House) -> None:
    rows = rows_of(house, write_jsonl(house.home / "pairs.jsonl", PAIRS))

    assert (min(rows.source_tokens), rows.source_tokens[-1]) == (2, 8)
    assert (min(rows.target_tokens), rows.target_tokens[-1]) == (2, 8)
    assert rows.source_tokens.count(2) == 3 * rows.source_tokens.count(8)
    assert len(rows.source_tokens) == len(rows.target_tokens) == 64


def test_a_broken_line_far_into_a_file_is_named_before_any_rank_starts(house: House) -> None:
    file = write_jsonl(house.home / "pairs.jsonl", [("a", "b")] * 300)
    file.write_text(file.read_text() + '{"prompt": "a", "resp\n' + file.read_text())

    run = prepared_run(house, file)

    (fault,) = user_faults(run)
    assert "pairs.jsonl, line 301 is no JSON" in fault.message
    assert not run.launcher_log.exists()
    assert house.click("attach", run.run_id).exit_code == 4


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"prompt": 7, "response": "b"}', "line 301 column 'prompt' is int, text is needed"),
        ('{"prompt": "a", "response": ["b"]}', "line 301 column 'response' is list, text is needed"),
        ('{"prompt": "half a character: \\ud83d", "response": "b"}', "line 301 is no JSON"),
        ("[1]", "line 301 is no object"),
    ],
)
def test_values_that_are_no_text_are_named_with_their_line(house: House, line: str, problem: str) -> None:
    file = write_jsonl(house.home / "pairs.jsonl", [("a", "b")] * 300)
    file.write_text(file.read_text() + line + "\n" + file.read_text())

    with pytest.raises(PreflightError) as caught:
        rows_of(house, file)

    assert f"pairs.jsonl, {problem}" in str(caught.value)


def test_a_file_whose_rows_are_all_empty_is_refused(house: House) -> None:
    with pytest.raises(PreflightError, match="all 2 rows have an empty prompt or response"):
        rows_of(house, write_parquet(house.home / "pairs.parquet", [("", "a"), ("b", "")]))


def test_json_lines_give_the_same_rows_as_parquet(house: House) -> None:
    counts = rows_of(house, write_jsonl(house.home / "pairs.jsonl", PAIRS))

    assert (counts.rows, counts.dropped, counts.truncated_sources, counts.truncated_targets) == (4, 2, 1, 1)


def test_comma_separated_values_give_the_same_rows_as_parquet(house: House) -> None:
    counts = rows_of(house, write_csv(house.home / "pairs.csv", PAIRS))

    assert (counts.rows, counts.dropped, counts.truncated_sources, counts.truncated_targets) == (4, 2, 1, 1)


def test_a_folder_of_shards_is_one_data_set(house: House) -> None:
    write_parquet(house.home / "shards/0.parquet", PAIRS)
    write_parquet(house.home / "shards/1.parquet", PAIRS[3:])

    assert rows_of(house, house.home / "shards").rows == 7


def test_digits_and_na_in_a_csv_file_stay_text(house: House) -> None:
    prepared = rows_of(house, write_csv(house.home / "pairs.csv", [("007", "1.50"), ("NA", "null")]))

    assert text_of(prepared, "source") == b"007NA"
    assert text_of(prepared, "target") == b"1.50null"


def test_other_columns_do_not_matter_and_columns_can_be_named(house: House) -> None:
    file = house.home / "pairs.jsonl"
    file.write_text('{"id": 1, "frage": "a", "antwort": "b"}\n{"id": "x", "frage": "c", "antwort": "d"}\n')

    prepared = rows_of(house, file, data__prompt_column="frage", data__response_column="antwort")

    assert text_of(prepared, "source") == b"ac"


def test_a_local_tokenizer_is_used(house: House) -> None:
    write_tokenizer(house.home / "tokenizer")
    data = write_parquet(house.home / "pairs.parquet", [("abc", "de")])

    prepared = rows_of(house, data, model__tokenizer=str(house.home / "tokenizer"))

    tokens = np.fromfile(Path(prepared.train) / "source.tokens", dtype=np.uint16)
    assert tokens.tolist() == [4, 5, 6, 1]
