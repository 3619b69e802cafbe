"""`python -m t5panel.trainers.tensorboard METRICS FOLDER`: a run's metrics as event files of TensorBoard.

A process of its own: it loads torch. Needs the package `tensorboard`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.contract.metrics import metrics_that_count
from t5panel.contract.records import Checkpoint, Evaluation, Metric, Step

Scalar = tuple[str, float]
"""Tag and value."""


def scalars(metric: Metric) -> Iterator[Scalar]:
    """What TensorBoard draws of a record, under the tags of transformers' own callback; unknown values are left out."""
    values: dict[str, float | None] = {}
    match metric:
        case Step():
            values = {
                "train/loss": metric.loss,
                "train/learning_rate": metric.learning_rate,
                "train/grad_norm": metric.grad_norm,
                "train/epoch": metric.epoch,
                "time/step_seconds": metric.step_seconds,
                "time/data_wait_seconds": metric.data_wait_seconds,
                "time/communication_seconds": metric.communication_seconds,
            }
        case Evaluation():
            values = {"eval/loss": metric.eval_loss, "eval/chrf": metric.chrf, "eval/bleu": metric.bleu}
        case Checkpoint():
            values = {"checkpoint/seconds": metric.seconds}
    yield from ((tag, value) for tag, value in values.items() if value is not None)


def write_events(metrics: Path, folder: Path) -> int:
    """Write the event file of a metrics.jsonl; the number of values in it.

    Raises: ImportError without the package `tensorboard`; OSError when the metrics cannot be read.
    """
    from torch.utils.tensorboard.writer import SummaryWriter

    count = 0
    with SummaryWriter(str(folder)) as writer:
        with suppress(FileNotFoundError):
            writer.add_text("note", RunDir(metrics.parent).note.read_text(encoding="utf-8", errors="replace"))
        for metric in metrics_that_count(metrics):
            for tag, value in scalars(metric):
                writer.add_scalar(tag, value, metric.step, walltime=metric.time)
                count += 1
            if isinstance(metric, Evaluation):
                for number, row in enumerate(metric.samples):
                    text = f"{row.prompt}\n\n→ {row.prediction}\n\n= {row.reference}"
                    writer.add_text(f"prediction/{number}", text, metric.step, walltime=metric.time)
    return count


if __name__ == "__main__":
    sys.stdout.write(f"{write_events(Path(sys.argv[1]), Path(sys.argv[2]))}\n")
