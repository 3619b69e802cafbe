"""The user's own words about a run."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from t5panel.contract.layout import RunDir
from t5panel.errors import UsageError
from t5panel.launch.notes import write_note
from t5panel.monitor.compare import compare_runs
from t5panel.monitor.export import write_csv
from t5panel.monitor.history import History
from t5panel.monitor.runs import read_note
from t5panel.render.compare import markdown_lines
from t5panel.render.run import run_row, snapshot_json

RECORDING = Path(__file__).parents[1] / "data" / "recorded-run"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A real rehearsal."""
    return RunDir(Path(shutil.copytree(RECORDING, tmp_path / "run")))


def test_a_note_stands_on_one_line_until_an_empty_one_takes_it_away(run: RunDir) -> None:
    assert read_note(run) == ""

    write_note(run, "  学习率太高\n try 1e-4 \t next ")
    kept = read_note(run)
    write_note(run, " \n")

    assert kept == "学习率太高 try 1e-4 next"
    assert not run.note.exists()


def test_control_characters_of_a_foreign_note_reach_no_terminal(run: RunDir) -> None:
    run.note.write_bytes(b"\x1b[31mred\x07 \xff\n" + b"x" * 10_000)

    assert "\x1b" not in read_note(run)
    assert len(read_note(run)) < 5000


def test_a_note_longer_than_a_page_is_refused(run: RunDir) -> None:
    with pytest.raises(UsageError, match="longer than a page"):
        write_note(run, "x" * 5000)


def test_a_note_is_in_the_snapshot_the_comparison_and_the_export(run: RunDir, tmp_path: Path) -> None:
    write_note(run, "the one with warm-up")

    rows = list(markdown_lines(compare_runs([run], samples=1, price=None)))
    with write_csv(run, tmp_path / "tables")[-1].open(newline="", encoding="utf-8") as file:
        told = dict(csv.reader(file))

    assert run_row(History(run).refresh())[-1] == "step 80/80 · ✎ the one with warm-up"
    assert snapshot_json(History(run).refresh())["note"] == "the one with warm-up"
    assert "| note | the one with warm-up |" in rows
    assert (told["note"], told["train.optim"]) == ("the one with warm-up", "adamw_torch_fused")
