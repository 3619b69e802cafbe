"""A look at data: columns and rows at once, lengths of a sample after it, and nothing left when it is given up."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t5panel.contract.data_look import DataLook
from t5panel.contract.spec import RunSpec
from t5panel.preflight.peek import Peek
from t5panel.trainers import sample as sampling
from t5panel.trainers.peek import looks
from t5panel.trainers.sample import sample
from t5panel.tui.browse import data_entries


def spec_of(path: Path | str, **data: str) -> RunSpec:
    return RunSpec.model_validate(
        {"method": "trainer", "launcher": "torchrun", "data": {"train": str(path), **data}},
    )


def jsonl(path: Path, rows: int, **texts: str) -> Path:
    lines = (
        json.dumps({"prompt": f"{number}", "response": "四" * (number % 7 + 1), **texts}) for number in range(rows)
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_parquet_file_tells_its_rows_and_the_lengths_of_rows_from_all_its_groups(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    table = pa.table({"prompt": [str(n) for n in range(5000)], "response": ["x" * (n // 50) for n in range(5000)]})
    pq.write_table(table, file, row_group_size=100)

    *_, last = looks(spec_of(file))

    assert (last.rows, last.rows_are_exact, last.columns) == (5000, True, {"prompt": "text", "response": "text"})
    assert last.source[-1] == 5
    assert last.target[0] < 8
    assert last.target[-1] > 85
    assert last.dropped == 50


def test_columns_are_told_before_anything_is_counted(tmp_path: Path) -> None:
    first, last = looks(spec_of(jsonl(tmp_path / "rows.jsonl", 30)))

    assert (first.columns, first.rows, first.source) == ({"prompt": "text", "response": "text"}, None, ())
    assert last.rows == 30
    assert last.target == tuple(sorted(3 * (number % 7 + 1) + 1 for number in range(30)))
    assert last.tokenizer == "byte"
    assert last.example == ("0", "四")


def test_a_large_text_file_is_sampled_from_all_over_and_its_rows_are_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = jsonl(tmp_path / "rows.jsonl", 20_000)
    monkeypatch.setattr(sampling, "COUNTED_BYTES", 4096)

    found = sample([file], "json")

    numbers = [int(row["prompt"]) for row in found.rows]
    assert len(numbers) == 8 * 256
    assert numbers[0] == 0
    assert numbers[-1] > 15_000
    assert not found.exact
    assert found.total == pytest.approx(20_000, rel=0.05)


def test_csv_rows_with_line_ends_in_a_text_are_counted_as_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text('question,answer\n"a\nb",c\nd,"e\nf"\n', encoding="utf-8")

    *_, last = looks(spec_of(file))

    assert (last.rows, last.prompt, last.response) == (2, "question", "answer")


def test_columns_with_other_names_are_shown_and_can_be_named(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "rows.jsonl", 5, title="headline", text="whole")
    lines = file.read_text(encoding="utf-8").replace('"prompt"', '"number"').replace('"response"', '"signs"')
    file.write_text(lines, encoding="utf-8")

    *_, unnamed = looks(spec_of(file))
    *_, named = looks(spec_of(file, prompt_column="title", response_column="text"))

    assert [where for where, _, _ in unnamed.faults] == ["data.prompt_column", "data.response_column"]
    assert unnamed.rows == 5
    assert "title" in unnamed.columns
    assert (named.prompt, named.response, named.faults) == ("title", "text", ())


def test_a_broken_line_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "rows.jsonl", 300)
    file.write_text(file.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")

    *_, last = looks(spec_of(file))

    assert last.faults[0][0] == "data.train"
    assert "not readable as json" in last.faults[0][1]


def test_a_process_of_its_own_looks(tmp_path: Path) -> None:
    found = list(Peek(spec_of(jsonl(tmp_path / "rows.jsonl", 30))).looks())

    assert [look.rows for look in found] == [None, 30]


def test_a_look_that_is_given_up_ends_its_process_and_says_nothing(tmp_path: Path) -> None:
    peek = Peek(spec_of("builtin:docstrings"))
    found: list[DataLook] = []
    thread = threading.Thread(target=lambda: found.extend(peek.looks()))
    thread.start()

    peek.give_up()
    thread.join(5)

    assert not thread.is_alive()
    assert found == []
    assert peek._process is None or peek._process.returncode is not None


def test_an_interpreter_without_t5panel_is_said(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such module; exit 1\n")
    python.chmod(0o755)

    (look,) = Peek(spec_of("builtin:docstrings").model_copy(update={"interpreter": str(python)})).looks()

    assert "cannot look at the data: no such module" in look.faults[0][1]


def test_a_folder_lists_its_data_and_folders_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl", "readme.txt"):
        (tmp_path / name).write_text("x" * 2000)
    (tmp_path / "shards").mkdir()

    entries = data_entries(tmp_path)

    assert [(entry.kind, entry.name) for entry in entries] == [
        *(("up", ".."), ("here", "all files here")),
        *(("file", "a.jsonl"), ("file", "b.jsonl"), ("folder", "shards/"), ("builtin", "builtin:docstrings")),
    ]
    assert [entry.note for entry in entries][1:3] == ["2 × json", "2.0 KiB"]
