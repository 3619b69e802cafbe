"""Predicted against measured memory of real runs on a card: `python -m tests.benchmarks.real_memory OUT.json`.

Each run is started as a user does, one after another in one state directory, so that what a run shows of the context
calibrates the plan of the next. Rows fill both lengths exactly. Every run takes about 40 s. With `--cards N` those of
ON_CARDS run instead, each on N cards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from t5panel.contract.layout import all_runs, runs_home
from t5panel.monitor.history import History
from t5panel.monitor.runs import read_info, read_result
from t5panel.monitor.vram import vram_peak
from tests.benchmarks.throughput import write_full_rows

Settings = dict[str, object]
CASES: tuple[tuple[str, int, int, Settings], ...] = (
    ("manual", 256, 128, {"model": "t5-small", "batch": 16, "accumulation": 1, "checkpointing": False, "steps": 160}),
    ("manual", 512, 128, {"model": "t5-base", "batch": 8, "accumulation": 2, "checkpointing": True, "steps": 50}),
    ("trainer", 300, 100, {"model": "t5-base", "batch": 12, "accumulation": 1, "checkpointing": False, "steps": 90}),
    ("trainer", 128, 64, {"model": "mt5-small", "batch": 8, "accumulation": 2, "checkpointing": True, "steps": 80}),
    ("deepspeed", 256, 128, {"model": "t5-base", "batch": 8, "accumulation": 2, "checkpointing": True, "steps": 60}),
    ("deepspeed", 256, 64, {"model": "t5-small", "batch": 16, "accumulation": 1, "checkpointing": False, "steps": 120}),
    ("manual", 400, 200, {"model": "byt5-small", "batch": 4, "accumulation": 2, "checkpointing": False, "steps": 60}),
)


Z = "deepspeed.zero_optimization"
ON_CARDS: tuple[tuple[str, int, int, Settings], ...] = (
    ("manual", 512, 128, {"model": "t5-base", "batch": 8, "accumulation": 2, "checkpointing": True, "steps": 50}),
    ("trainer", 300, 100, {"model": "t5-base", "batch": 12, "accumulation": 2, "checkpointing": False, "steps": 50}),
    ("deepspeed", 256, 128, {"model": "t5-base", "batch": 8, "accumulation": 2, "checkpointing": True, "steps": 50}),
    (
        "deepspeed",
        256,
        128,
        {
            "model": "t5-base",
            "batch": 8,
            "accumulation": 2,
            "checkpointing": True,
            "steps": 30,
            f"{Z}.offload_optimizer.device": "cpu",
        },
    ),
    (
        "deepspeed",
        256,
        64,
        {"model": "t5-base", "batch": 8, "accumulation": 1, "checkpointing": False, "steps": 30, f"{Z}.stage": 3},
    ),
)


def words_of(preset: str, source: int, target: int, settings: Settings, data: Path) -> list[str]:
    """The overrides of a case."""
    values = {
        "num_gpus": settings.get("cards", 1),
        "model.name_or_path": f"builtin:{settings['model']}",
        "data.train": data,
        "data.max_source_length": source,
        "data.max_target_length": target,
        "data.max_eval_samples": 16,
        "data.max_predict_samples": 0,
        "train.per_device_train_batch_size": settings["batch"],
        "train.gradient_accumulation_steps": settings["accumulation"],
        "train.gradient_checkpointing": str(settings["checkpointing"]).lower(),
        "train.max_steps": settings["steps"],
        "train.num_train_epochs": 100.0,
        **{key: value for key, value in settings.items() if "." in key},
    }
    return ["--preset", preset, *(word for key, value in values.items() for word in ("--set", f"{key}={value}"))]


def measure(preset: str, source: int, target: int, settings: Settings, folder: Path) -> dict[str, Any]:
    """Plan a run, make it, and compare."""
    data = folder / f"{source}x{target}.jsonl"
    write_full_rows(data, source, target)
    words = words_of(preset, source, target, settings, data)
    panel = [sys.executable, "-m", "t5panel"]
    plan = json.loads(subprocess.run([*panel, "plan", *words, "--json"], capture_output=True, check=False).stdout)
    done = subprocess.run([*panel, *words, "--no-ui", "--yes"], capture_output=True, text=True, check=False)
    run = next(iter(all_runs(runs_home())))
    peak, result = vram_peak(History(run).refresh()), read_result(run)
    return {
        "preset": preset,
        "source": source,
        "target": target,
        "settings": settings,
        "code": done.returncode,
        "end": done.stdout.splitlines()[-6:] + done.stderr.splitlines()[-6:],
        "plan": plan["vram"],
        "ram": plan["ram"],
        "versions": read_info(run).versions,
        "allocated": peak and peak.allocated,
        "reserved": peak and peak.reserved,
        "context": peak and peak.beside,
        "errors": peak and peak.errors,
        "seconds": result and result.seconds,
        "rss": result and result.peak_rss_per_rank,
    }


def main() -> None:
    """Run every case and print its errors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", type=int, help="so many cases from the first")
    parser.add_argument("--cards", type=int, default=1, help="cards of every run")
    options = parser.parse_args()
    cases = CASES if options.cards == 1 else ON_CARDS
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for preset, source, target, settings in cases[: options.only]:
            records.append(measure(preset, source, target, settings | {"cards": options.cards}, Path(folder)))
            options.out.write_text(json.dumps(records, indent=1))
            last = records[-1]
            basis = last["plan"]["context_basis"]
            print(preset, last["code"], last["errors"], basis, last["seconds"], last["end"][-3:], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
