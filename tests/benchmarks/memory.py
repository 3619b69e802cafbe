"""Peaks of our own trainers on a card: `python -m tests.benchmarks.memory CASES.json OUT.json`.

CASES is a list of `cfg` as `t5panel estimate` takes them, with `"loop": "product"`; OUT gets a record of each. One
process per case runs the method's own `train` as rank 0. With `world` above 1 the other ranks are not there: torch's
fake process group stands for them, whose collectives do nothing, while partitions and buffers are real. Nothing is
saved and nothing evaluated, so the peak is that of the training steps.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from t5panel.contract.layout import RunDir, write_atomic
from t5panel.contract.records import Prepared
from t5panel.contract.shapes import SHAPES
from t5panel.contract.spec import RunSpec
from t5panel.plan.records import Config

STEPS = 5
LIMIT_SECONDS = 170
OPTIMIZERS = {"adamw_fused": "adamw_torch_fused", "adamw_foreach": "adamw_torch", "adafactor": "adafactor"}
LAUNCHERS = {"manual": "accelerate", "trainer": "torchrun", "deepspeed": "deepspeed"}


def spec_of(cfg: Config, device: str) -> RunSpec:
    """The settings of our own that a case describes."""
    assert cfg.loop == "product"
    assert cfg.mode in ("hf_bf16", "fp32")
    return RunSpec.model_validate(
        {
            "method": cfg.method,
            "launcher": LAUNCHERS[cfg.method],
            "num_gpus": cfg.world,
            "device": device,
            "model": {"name_or_path": f"builtin:{cfg.model}", "attn_implementation": cfg.attn},
            "data": {"max_source_length": cfg.enc, "max_target_length": cfg.dec, "max_eval_samples": 1},
            "train": {
                "per_device_train_batch_size": cfg.bs,
                "gradient_accumulation_steps": cfg.ga,
                "gradient_checkpointing": cfg.gc,
                "optim": OPTIMIZERS[cfg.optim],
                "dropout_rate": cfg.dropout,
                "bf16": cfg.mode == "hf_bf16",
                "max_steps": STEPS,
            },
            "deepspeed": {"zero_optimization": {"stage": cfg.stage, **cfg.zx}} if cfg.method == "deepspeed" else None,
        }
    )


def write_rows(folder: Path, cfg: Config) -> None:
    """Tokenised rows of which two in three have the longest lengths, so that batches are that long and padded."""
    import numpy as np
    from numpy.typing import NDArray

    from t5panel.trainers.store import StoreWriter

    assert isinstance(cfg.model, str)
    random, vocabulary = np.random.default_rng(1), SHAPES[cfg.model].vocab_size

    def ids(longest: int) -> NDArray[np.uint32]:
        length = longest if random.random() < 2 / 3 else int(random.integers(longest // 2, longest) + 1)
        return random.integers(3, 250, length, dtype=np.uint32)

    rows = [(ids(cfg.enc), ids(cfg.dec)) for _ in range(max(64, 2 * cfg.bs * cfg.ga * cfg.world))]
    with StoreWriter(folder, vocabulary=vocabulary) as store:
        store.append([source for source, _ in rows], [target for _, target in rows])


def run_rank(cfg: Config, device: str) -> dict[str, Any]:
    """Train as rank 0 and read the allocator's counters: the record of a case."""
    sys.modules["datasets"] = None  # type: ignore[assignment] # as the ranks of a run do
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(cfg.world), "MASTER_ADDR": "127.0.0.1"}
    os.environ.setdefault("MASTER_PORT", "0")
    import torch
    import transformers

    from t5panel.trainers.guard import Rank
    from t5panel.trainers.job import Job
    from t5panel.trainers.text import load_tokenizer
    from t5panel.trainers.witness import Witness

    spec = spec_of(cfg, device)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir(Path(folder))
        run.ranks.mkdir()
        load_tokenizer(spec.model).save_pretrained(run.tokenizer)
        write_rows(run.path / "rows", cfg)
        write_atomic(run.prepared, msgspec.json.encode(Prepared(str(run.path / "rows"), None, 0, 0, 0, 0)))
        train = importlib.import_module(f"t5panel.trainers.{cfg.method}").train
        Job.save = lambda *_: None  # type: ignore[method-assign]
        Job.evaluate = lambda *_: None  # type: ignore[method-assign]
        wrapped = pretend_others(cfg.world) if cfg.world > 1 else []
        train(Rank(run, spec, 0, 0, cfg.world, Witness(run, 0)))
        sees_them = cfg.method != "deepspeed" and cfg.world > 1 and device == "cuda"
        assert len(wrapped) == sees_them or device == "cpu", "DDP is not where it belongs"
        lines = run.metrics.read_bytes().splitlines()
    counters = torch.cuda.memory_stats() if device == "cuda" else {}
    peaks = {"req_peak": "requested_bytes", "alloc_peak": "allocated_bytes", "res_peak": "reserved_bytes"}
    return {
        "cfg": cfg,
        "torch": str(torch.__version__),
        "tf": transformers.__version__,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "",
        "losses": [each["loss"] for each in map(msgspec.json.decode, lines) if "loss" in each],
        "steady": {name: counters.get(f"{counter}.all.peak", 0) for name, counter in peaks.items()},
        "retries": counters.get("num_alloc_retries", 0),
    }


def pretend_others(world: int) -> list[object]:
    """A process group of so many ranks of which only this one is there; the list gets every DDP model.

    The fake group's all-reduce has no value, which DDP's own hook does not bear: ours hands back the bucket.
    """
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from t5panel.trainers.ranks import Ranks

    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    original = dist.new_group
    dist.new_group = lambda *_, **__: original(backend="fake")
    Ranks.gather = lambda _, value: [value] * world  # type: ignore[method-assign, assignment]
    wrapped: list[object] = []
    initialize = DistributedDataParallel.__init__

    def reduced(buffer: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(buffer.div_(world))
        return future

    def wrap(self: DistributedDataParallel, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        initialize(self, *args, **kwargs)
        self.register_comm_hook(None, lambda _, bucket: reduced(bucket.buffer()))
        wrapped.append(self)

    DistributedDataParallel.__init__ = wrap  # type: ignore[method-assign]
    return wrapped


def measured(cfg: Config, device: str) -> dict[str, Any]:
    """The record of a case, from a process of its own; without `steady` when it failed."""
    words = [
        sys.executable,
        "-m",
        "tests.benchmarks.memory",
        "--device",
        device,
        "--case",
        msgspec.json.encode(cfg).decode(),
    ]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"cfg": cfg, "ok": False, "error": f"it took more than {LIMIT_SECONDS} s"}
    if done.returncode != 0:
        return {"cfg": cfg, "ok": False, "error": done.stderr[-2000:]}
    record: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return record


def main() -> None:
    """Measure every case, several at a time: each process has an allocator of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--device", default="cuda", help="cpu shows that a case runs, and measures nothing")
    parser.add_argument("--case", type=msgspec.json.Decoder(Config).decode)
    options = parser.parse_args()
    if options.case:
        record = run_rank(options.case, options.device)
        sys.stdout.buffer.write(b"\n" + msgspec.json.encode(record) + b"\n")
        return
    cases, out = options.files
    configs = msgspec.json.decode(cases.read_bytes(), type=list[Config])
    records: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for record in pool.map(lambda cfg: measured(cfg, options.device), configs):
            records.append(record)
            write_atomic(out, msgspec.json.format(msgspec.json.encode(records), indent=1))
            sys.stdout.write(f"{len(records)} of {len(configs)}: {record.get('steady') or record['error']}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
