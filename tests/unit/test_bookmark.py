"""A reader of a run goes on where the last one came to, and only in the very file that one read."""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import (
    Card,
    Checkpoint,
    Evaluation,
    Prediction,
    RankSample,
    Record,
    Sample,
    Start,
    Step,
    encode_line,
)
from t5panel.monitor import kept_tail, pieces, sample_log, steps
from t5panel.monitor.bookmark import MAGIC, PROOF
from t5panel.monitor.measured import Spans
from t5panel.monitor.pyramid import BASE
from t5panel.monitor.sample_log import SampleLog
from t5panel.monitor.training_log import TrainingLog

ROWS = 2000


def step(number: int, loss: float | None) -> Step:
    return Step(float(number), number, 0.0, loss, 1e-3, None, 8 * number, 7, 0.5, 0.0)


def start(number: int) -> Start:
    return Start(0.0, number, 10**6, world_size=1, parameters=1, train_rows=1, eval_rows=1, effective_batch=8)


def evaluation(number: int) -> Evaluation:
    return Evaluation(1.0, number, 2.5, 30.0, None, (Prediction("p", "r", "a"),), 1.0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run of many rows, of which few stay in memory, read once; any reading is worth a bookmark."""
    monkeypatch.setattr(steps, "KEPT_ROWS", 2 * BASE)
    monkeypatch.setattr(pieces, "PIECE", 1000)
    monkeypatch.setattr(kept_tail, "WORTH_KEEPING", 1)
    run = RunDir(tmp_path)
    rows = [step(number, None if number % 97 == 0 else math.sin(number)) for number in range(1, ROWS + 1)]
    append(run, start(0), *rows[:1000], evaluation(1000), Checkpoint(1.0, 1000, "c", 9, 1.0), *rows[1000:])
    read(run)
    return run


def append(run: RunDir, *records: Record) -> None:
    """Write metrics as rank 0 does."""
    with run.metrics.open("ab") as file:
        file.writelines(map(encode_line, records))


def read(run: RunDir) -> TrainingLog:
    """All of it."""
    log = TrainingLog(run)
    for _ in log.blocks():
        pass
    return log


def told(log: TrainingLog) -> tuple[object, ...]:
    """Everything a view asks of it."""
    last = log.steps.last or 1
    windows = ((1, last), (last // 3, last // 2), (last - 40, last), (1, 50))
    columns = [log.steps.columns("loss", low, high, 20) for low, high in windows]
    rows = [log.steps.rows(low, high).of("samples_per_second").tolist() for low, high in windows[1:]]  # type: ignore[attr-defined]
    newest = (log.start, log.last, tuple(log.recent), log.evaluations, log.checkpoint)
    return columns, rows, *newest, log.rejected, log.sums, log.curve


def read_anew(run: RunDir) -> TrainingLog:
    """All of it, by a reader who knows nothing."""
    run.bookmark.unlink(missing_ok=True)
    return read(run)


def test_the_next_reader_knows_everything_before_it_reads_a_line(run: RunDir) -> None:
    known = TrainingLog(run)

    assert len(known.steps) == ROWS
    assert told(known) == told(read_anew(run))


def test_what_was_written_since_is_read_from_there(run: RunDir) -> None:
    append(run, *(step(number, 1.0) for number in range(ROWS + 1, ROWS + 500)), evaluation(ROWS + 499))

    assert len(TrainingLog(run).steps) == ROWS
    assert told(read(run)) == told(read_anew(run))


@pytest.mark.parametrize("begin", [0, 31, 900, 1990])
def test_a_resume_makes_rows_void_that_a_bookmark_holds(run: RunDir, begin: int) -> None:
    append(run, start(begin), *(step(number, 2.0) for number in range(begin + 1, begin + 300)))

    assert told(read(run)) == told(read_anew(run))


def damaged(content: bytes) -> dict[str, bytes]:
    """A bookmark as it must not be trusted."""
    middle, flipped = len(content) // 2, bytes([content[len(content) // 2] ^ 1])
    return {
        "empty": b"",
        "torn in its head": content[: len(MAGIC) + 9],
        "torn": content[:-9],
        "longer": content + b"\0",
        "one bit flipped": content[:middle] + flipped + content[middle + 1 :],
        "of another version": content.replace(MAGIC, MAGIC.replace(b"bookmark ", b"bookmark 9"), 1),
        "something else": b"\x89PNG\r\n\x1a\n" * 99,
    }


@pytest.mark.parametrize("how", damaged(MAGIC * 9))
def test_a_damaged_bookmark_is_not_used_and_is_replaced(run: RunDir, how: str) -> None:
    run.bookmark.write_bytes(damaged(run.bookmark.read_bytes())[how])

    log = TrainingLog(run)

    assert len(log.steps) == 0
    assert len(read(run).steps) == len(TrainingLog(run).steps) == ROWS


def test_a_bookmark_is_for_the_very_file_it_was_made_of(run: RunDir) -> None:
    content = run.metrics.read_bytes()

    (run.path / "copy").write_bytes(content)
    (run.path / "copy").replace(run.metrics)
    assert len(TrainingLog(run).steps) == 0
    read(run)
    os.truncate(run.metrics, len(content) - 100)
    assert len(TrainingLog(run).steps) == 0
    read(run)
    with run.metrics.open("r+b") as file:
        file.write(b"#" * 10)
    assert len(TrainingLog(run).steps) == 0
    assert len(content) > 4 * PROOF


def test_where_nothing_can_be_written_a_run_is_read_all_the_same(run: RunDir) -> None:
    known = told(read(run))
    run.bookmark.unlink()
    run.cache.rmdir()
    run.cache.touch()

    assert told(read(run)) == known
    assert run.cache.read_bytes() == b""


def test_arrays_that_do_not_fit_together_are_not_used(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_tail, "WORTH_KEEPING", 1 << 40)
    monkeypatch.setattr(steps, "BASE", BASE * 2)

    assert len(TrainingLog(run).steps) == 0


def test_only_the_last_evaluation_keeps_its_answers(run: RunDir) -> None:
    append(run, evaluation(ROWS), evaluation(ROWS + 1))

    found = read(run).evaluations

    assert [len(one.samples) for one in found] == [0, 0, 1]
    assert found[0] == msgspec.structs.replace(evaluation(1000), samples=())


def reading(number: int) -> Sample:
    card = Card(0, 9, 10, 90, 200.0 + number % 50, 60)
    return Sample(float(number), (card,), (RankSample(0, 7, number, None),), ram_used=number, ram_limit=10**9)


def readings(run: RunDir) -> SampleLog:
    """All of them."""
    log = SampleLog(run)
    for _ in log.blocks(Spans()):
        pass
    return log


def test_energy_and_the_last_hour_are_known_without_reading_all_readings_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_tail, "WORTH_KEEPING", 1)
    monkeypatch.setattr(sample_log, "KEPT_SAMPLES", 100)
    monkeypatch.setattr(sample_log, "NEWEST_BYTES", 30_000)
    run = RunDir(tmp_path)
    run.samples.write_bytes(b"".join(encode_line(reading(number)) for number in range(1000)) + b"no reading\n")
    first = readings(run)

    known = SampleLog(run)

    assert (known.energy, known.newest, known.rejected) == (first.energy, first.newest, 1)
    assert (len(known.newest), known.newest[-1].ram_used) == (100, 999)
    assert known.energy.joules == pytest.approx(sum(200 + number % 50 for number in range(1000)), rel=1e-3)
    with run.samples.open("ab") as file:
        file.writelines(encode_line(reading(number)) for number in range(1000, 1100))
    assert (known.newest[0].ram_used, readings(run).newest[0].ram_used) == (900, 1000)
    continued = readings(run).energy
    run.samples_bookmark.unlink()
    assert continued == readings(run).energy
