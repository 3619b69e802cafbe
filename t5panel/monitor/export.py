"""A run for other programs: as tables, as event files."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from t5panel.contract.layout import RunDir
from t5panel.contract.metrics import metrics_that_count
from t5panel.contract.reading import records_in
from t5panel.contract.records import Evaluation, RunInfo, Sample, Step
from t5panel.errors import PreflightError, UsageError
from t5panel.monitor.compare import flat_settings
from t5panel.monitor.proc import how_it_ended
from t5panel.monitor.runs import read_info, read_note, read_state

Row = Sequence[object]
TENSORBOARD_MODULE = "t5panel.trainers.tensorboard"
EXTRA = "pip install 't5panel[tensorboard]'"
RUN_COLUMNS = ("name", "value")
STEP_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Step))
EVALUATION_COLUMNS = ("time", "step", "eval_loss", "chrf", "bleu", "seconds")
CARD_COLUMNS = ("used", "total", "utilization", "power", "temperature")
RANK_COLUMNS = ("rss", "pss")
HOST_COLUMNS = ("ram_used", "ram_limit")


def write_csv(run: RunDir, folder: Path) -> tuple[Path, ...]:
    """steps.csv, evaluations.csv, samples.csv and run.csv; what is not known is an empty cell. Units as in records.

    Raises: OSError when the folder cannot be written or the run's records cannot be read.
    """
    info = read_info(run)
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, tuple[Row, Iterable[Row]]] = {
        "steps.csv": (STEP_COLUMNS, _metric_rows(run, Step, STEP_COLUMNS)),
        "evaluations.csv": (EVALUATION_COLUMNS, _metric_rows(run, Evaluation, EVALUATION_COLUMNS)),
        "samples.csv": (_sample_columns(info), _sample_rows(run, info)),
        "run.csv": (RUN_COLUMNS, _run_rows(run, info)),
    }
    for name, (columns, rows) in tables.items():
        draft = folder / f".{name}.tmp"
        try:
            with draft.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns)
                writer.writerows(rows)
            draft.replace(folder / name)
        finally:
            draft.unlink(missing_ok=True)
    return tuple(folder / name for name in tables)


def write_events(run: RunDir, folder: Path) -> int:
    """The metrics of a run as event files of TensorBoard, written by a process of its own; the number of values.

    Raises: PreflightError without the package `tensorboard`; UsageError when it could not write them.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise PreflightError.of("tensorboard", f"is not installed for {sys.executable}", EXTRA)
    command = (sys.executable, "-P", "-m", TENSORBOARD_MODULE, str(run.metrics), str(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or [how_it_ended(done.returncode)]
        raise UsageError.of(str(folder), f"no event files were written: {words[0]}")
    return int(done.stdout)


def _run_rows(run: RunDir, info: RunInfo) -> Iterator[Row]:
    """What the run is, how it is, the user's note, and every setting by its dotted key."""
    state = read_state(run)
    yield from (("run_id", info.run_id), ("preset", info.preset), ("created", info.created))
    yield from (("phase", state.phase), ("message", state.message), ("note", read_note(run)))
    yield from flat_settings(info.spec)


def _metric_rows(run: RunDir, kind: type[Step | Evaluation], columns: Sequence[str]) -> Iterator[Row]:
    if not run.metrics.exists():
        return
    for metric in metrics_that_count(run.metrics):
        if isinstance(metric, kind):
            yield [getattr(metric, name) for name in columns]


def _ranks(info: RunInfo) -> range:
    return range(int(info.spec["num_gpus"]))


def _sample_columns(info: RunInfo) -> Row:
    cards = [f"card{index}_{name}" for index in info.cards for name in CARD_COLUMNS]
    return ["time", *cards, *(f"rank{rank}_{name}" for rank in _ranks(info) for name in RANK_COLUMNS), *HOST_COLUMNS]


def _sample_rows(run: RunDir, info: RunInfo) -> Iterator[Row]:
    """One row per reading: its cards and ranks by their numbers, so that one that is missing shifts nothing."""
    for sample in records_in(run.samples, msgspec.json.Decoder(Sample)):
        cards = {card.index: card for card in sample.cards}
        ranks = {one.rank: one for one in sample.ranks}
        yield [
            sample.time,
            *(getattr(cards.get(index), name, None) for index in info.cards for name in CARD_COLUMNS),
            *(getattr(ranks.get(rank), name, None) for rank in _ranks(info) for name in RANK_COLUMNS),
            *(getattr(sample, name) for name in HOST_COLUMNS),
        ]
