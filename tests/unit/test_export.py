"""A run as tables and as event files."""

from __future__ import annotations

import csv
import math
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.metrics import metrics_that_count
from t5panel.contract.records import Evaluation, Sample, Start, Step, encode_line
from t5panel.errors import PreflightError, UsageError
from t5panel.monitor.export import write_csv, write_events

RECORDING = Path(__file__).parents[1] / "data" / "recorded-run"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A real rehearsal of 80 steps, as its supervisor and rank 0 wrote it."""
    return RunDir(Path(shutil.copytree(RECORDING, tmp_path / "run")))


def start(step: int) -> Start:
    return Start(1.0, step, 100, world_size=1, parameters=1, train_rows=1, eval_rows=1, effective_batch=1)


def step_of(number: int, loss: float | None) -> Step:
    return Step(1.0, number, 0.1, loss, 1e-3, None, number, 7, step_seconds=0.1, data_wait_seconds=0.0)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_steps_that_a_resume_took_back_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = [start(0), *(step_of(number, 1.0) for number in range(1, 8))]
    second = [start(4), step_of(5, 2.0), step_of(6, 2.0)]
    third = [start(2), step_of(3, 3.0)]
    path.write_bytes(b"".join(map(encode_line, [*first, *second, *third])) + b'{"kind":"st')

    found = [(one.step, one.loss) for one in metrics_that_count(path) if isinstance(one, Step)]

    assert found == [(1, 1.0), (2, 1.0), (3, 3.0)]


def test_the_tables_hold_every_value_of_the_records(run: RunDir, tmp_path: Path) -> None:
    with run.samples.open("ab") as file:
        file.write(b'{"kind":"sample","time":')

    paths = write_csv(run, tmp_path / "tables")

    assert [path.name for path in paths] == ["steps.csv", "evaluations.csv", "samples.csv", "run.csv"]
    metrics = list(metrics_that_count(run.metrics))
    steps = [one for one in metrics if isinstance(one, Step)]
    rows = table(paths[0])
    assert len(rows) == len(steps) == 80
    assert [(int(row["step"]), float(row["loss"])) for row in rows] == [(one.step, one.loss) for one in steps]
    assert {row["vram_allocated"] for row in rows} == {""}
    evaluations = [one for one in metrics if isinstance(one, Evaluation)]
    assert [float(row["eval_loss"]) for row in table(paths[1])] == [one.eval_loss for one in evaluations]
    samples = [msgspec.json.decode(line, type=Sample) for line in run.samples.read_bytes().splitlines()[:-1]]
    readings = table(paths[2])
    assert len(readings) == len(samples)
    for row, sample in zip(readings, samples, strict=True):
        assert int(row["ram_used"]) == sample.ram_used
        for rank in range(3):
            rss = next((one.rss for one in sample.ranks if one.rank == rank), None)
            assert row[f"rank{rank}_rss"] == ("" if rss is None else str(rss))


def test_a_run_without_any_record_gives_empty_tables(run: RunDir, tmp_path: Path) -> None:
    run.metrics.unlink()
    run.samples.unlink()

    assert [table(path) for path in write_csv(run, tmp_path)][:3] == [[], [], []]


def test_event_files_hold_every_value_at_its_step(run: RunDir, tmp_path: Path) -> None:
    with run.metrics.open("ab") as file:
        file.write(encode_line(step_of(81, None)))

    written = write_events(run, tmp_path / "events")

    found = read_events(tmp_path / "events")
    losses = {one.step: one.loss for one in metrics_that_count(run.metrics) if isinstance(one, Step) and one.loss}
    assert found["train/loss"].keys() == losses.keys()
    assert all(math.isclose(found["train/loss"][step], loss, rel_tol=1e-6) for step, loss in losses.items())
    assert set(found["eval/loss"]) == {20, 40, 60, 80}
    assert sum(map(len, found.values())) == written


def test_event_files_that_cannot_be_written_are_told_of(run: RunDir) -> None:
    with pytest.raises(UsageError, match="no event files were written"):
        write_events(run, run.metrics)


def test_without_tensorboard_the_way_to_it_is_named(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(PreflightError, match="is not installed") as error:
        write_events(run, run.path / "events")

    assert error.value.faults[0].hint == "pip install 't5panel[tensorboard]'"


def read_events(folder: Path) -> dict[str, dict[int, float]]:
    """Values by step of each tag, as TensorBoard itself reads them."""
    code = (
        "import sys, json\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as Events\n"
        "events = Events(sys.argv[1], size_guidance={'scalars': 0}).Reload()\n"
        "print(json.dumps({tag: {s.step: s.value for s in events.Scalars(tag)} for tag in events.Tags()['scalars']}))\n"
    )
    output = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True).stdout
    return msgspec.json.decode(output, type=dict[str, dict[int, float]])
