"""Samples per second, peak VRAM and RAM of each method on these cards: `python -m tests.benchmarks.throughput`.

Full-length random rows (no padding), the shipped presets with every card, 20 steps; the first record is not timed.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

from t5panel.monitor.runs import read_result
from t5panel.monitor.watch import watch
from t5panel.preflight.machine import read_machine
from t5panel.render.values import gib
from t5panel.session import Wish, prospect, start

ROWS = 2048


def write_full_rows(path: Path, source: int, target: int) -> None:
    """Random ASCII rows whose byte tokens fill both lengths exactly."""
    generator = random.Random(0)

    def text(length: int) -> str:
        return "".join(generator.choice("abcdefghijklmnop") for _ in range(length - 1))

    rows = ({"prompt": text(source), "response": text(target)} for _ in range(ROWS))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def measure(preset: str, data: Path, settings: dict[str, object], folder: Path) -> str:
    """One line of the table."""
    overrides = {"data.train": str(data), "data.max_predict_samples": 0, "data.max_eval_samples": 48, **settings}
    run = start(prospect(Wish(preset, overrides, folder)))
    *_, last = watch(run)
    result = read_result(run)
    if result is None:
        return f"{preset:10} {last.state.phase}: {last.state.message}"
    vram = ", ".join(gib(size) for size in result.peak_vram_per_card)
    ram = max(result.peak_rss_per_rank) / 2**20
    return (
        f"{preset:10} {result.samples_per_second:8.1f} samples/s   VRAM reserved {vram}   RAM per rank {ram:,.0f} MiB"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="builtin:t5-base")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--source", type=int, default=512)
    parser.add_argument("--target", type=int, default=512)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="a folder for the runs, for t5panel compare; else they are removed")
    options = parser.parse_args()
    machine = read_machine()
    settings: dict[str, object] = {
        "num_gpus": max(1, len(machine.cards)),
        "model.name_or_path": options.model,
        "data.max_source_length": options.source,
        "data.max_target_length": options.target,
        "train.per_device_train_batch_size": options.batch,
        "train.gradient_accumulation_steps": options.accumulation,
        "train.gradient_checkpointing": options.checkpointing,
        "train.max_steps": options.steps,
        "train.logging_steps": options.steps // 2,
    }
    print(machine.summary, settings)  # noqa: T201
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "rows.jsonl"
        write_full_rows(data, options.source, options.target)
        for preset in ("manual", "trainer", "deepspeed"):
            print(measure(preset, data, settings, folder / preset), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
