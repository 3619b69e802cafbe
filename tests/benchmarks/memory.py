"""Peaks of our own trainers on a card: `python -m tests.benchmarks.memory CASES.json OUT.json`.

CASES is a list of `cfg` as `t5panel estimate` takes them, with `"loop": "product"`; OUT gets a record of each. One
process per case runs the method's own `train` as rank 0. With `world` above 1 the other ranks are not there: torch's
fake process group stands for them, whose collectives do nothing, while partitions and buffers are real. Nothing is
saved and nothing evaluated. `steady` holds the peaks of the steps after the second, `start` those of all before.

With `"loop": "plain"` a bare loop runs instead, for what no trainer of ours offers: pure bf16, 8-bit Adam.
`--traces FOLDER` also keeps what the allocator did, event by event.
"""

from __future__ import annotations

import argparse
import importlib
import lzma
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
from t5panel.contract.spec import RunSpec
from t5panel.plan.records import Config, shape_of

STEPS, WARM = 5, 2
LIMIT_SECONDS = 170
TRACED = 4_000_000
"""Most events of the allocator that a trace holds."""
PEAKS = {"req_peak": "requested_bytes", "alloc_peak": "allocated_bytes", "res_peak": "reserved_bytes"}
OPTIMIZERS = {"adamw_fused": "adamw_torch_fused", "adamw_foreach": "adamw_torch", "adafactor": "adafactor"}
LAUNCHERS = {"manual": "accelerate", "trainer": "torchrun", "deepspeed": "deepspeed"}


def spec_of(cfg: Config, device: str, folder: Path) -> RunSpec:
    """The settings of our own that a case describes; `folder` holds the config of a shape without a name."""
    assert cfg.loop == "product"
    assert cfg.mode in ("hf_bf16", "fp32")
    named = isinstance(cfg.model, str)
    return RunSpec.model_validate(
        {
            "method": cfg.method,
            "launcher": LAUNCHERS[cfg.method],
            "num_gpus": cfg.world,
            "device": device,
            "model": {
                "name_or_path": f"builtin:{cfg.model}" if named else str(folder),
                "tokenizer": "builtin:tiny",
                "from_scratch": not named,
                "attn_implementation": cfg.attn,
            },
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

    random, vocabulary = np.random.default_rng(1), shape_of(cfg.model).vocab_size

    def ids(longest: int) -> NDArray[np.uint32]:
        length = longest if random.random() < 2 / 3 else int(random.integers(longest // 2, longest) + 1)
        return random.integers(3, 250, length, dtype=np.uint32)

    rows = [(ids(cfg.enc), ids(cfg.dec)) for _ in range(max(64, 2 * cfg.bs * cfg.ga * cfg.world))]
    with StoreWriter(folder, vocabulary=vocabulary) as store:
        store.append([source for source, _ in rows], [target for _, target in rows])


def run_rank(cfg: Config, device: str) -> list[float]:
    """Train as rank 0; the losses."""
    sys.modules["datasets"] = None  # type: ignore[assignment] # as the ranks of a run do
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(cfg.world), "MASTER_ADDR": "127.0.0.1"}
    os.environ.setdefault("MASTER_PORT", "0")
    from t5panel.trainers.guard import Rank
    from t5panel.trainers.job import Job
    from t5panel.trainers.model import config_of
    from t5panel.trainers.text import load_tokenizer
    from t5panel.trainers.witness import Witness

    with tempfile.TemporaryDirectory() as folder:
        config_of(shape_of(cfg.model)).save_pretrained(folder)
        spec = spec_of(cfg, device, Path(folder))
        run = RunDir(Path(folder))
        run.ranks.mkdir()
        load_tokenizer(spec.model).save_pretrained(run.tokenizer)
        write_rows(run.path / "rows", cfg)
        write_atomic(run.prepared, msgspec.json.encode(Prepared(str(run.path / "rows"), None, 0, 0, 0, 0)))
        train = importlib.import_module(f"t5panel.trainers.{cfg.method}").train
        Job.save = lambda *_: None  # type: ignore[method-assign]
        Job.evaluate = lambda *_: None  # type: ignore[method-assign]
        count, marks = Job.count, iter(range(1, STEPS + 1))

        def counted(self: Job) -> None:
            count(self)
            after_step(next(marks))

        Job.count = counted  # type: ignore[method-assign]
        wrapped = pretend_others(cfg.world) if cfg.world > 1 else []
        train(Rank(run, spec, 0, 0, cfg.world, Witness(run, 0)))
        sees_them = cfg.method != "deepspeed" and cfg.world > 1 and device == "cuda"
        assert len(wrapped) == sees_them or device == "cpu", "DDP is not where it belongs"
        lines = run.metrics.read_bytes().splitlines()
    return [each["loss"] for each in map(msgspec.json.decode, lines) if "loss" in each]


def run_plain(cfg: Config, device: str) -> list[float]:
    """Train one batch again and again in a bare loop, in which a part of the first row is padding; the losses."""
    import torch
    from transformers import T5ForConditionalGeneration, UMT5ForConditionalGeneration

    from t5panel.trainers.model import config_of

    shape = shape_of(cfg.model)
    config = config_of(shape)
    config.dropout_rate, config.use_cache = cfg.dropout, False
    kind = UMT5ForConditionalGeneration if shape.model_type == "umt5" else T5ForConditionalGeneration
    dtype = torch.bfloat16 if cfg.mode == "pure_bf16" else torch.float32
    with torch.device(device):
        model = kind._from_config(config, attn_implementation=cfg.attn, dtype=dtype).train()
        if not shape.tied:
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) * 0.02)
    if cfg.gc:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
        enable(**{f"{name}_checkpointing_kwargs": {"use_reentrant": False}})
    optimizer = plain_optimizer(cfg, model)
    ids, labels = (torch.randint(2, shape.vocab_size, (cfg.bs, length)) for length in (cfg.enc, cfg.dec))
    mask = torch.ones_like(ids)
    if cfg.pad:
        mask[0, -(cfg.enc // 8) - 1 :] = 0
        labels[0, -(cfg.dec // 8) - 1 :] = -100
    batch = {
        name: tensor.to(device) for name, tensor in {"input_ids": ids, "attention_mask": mask, "labels": labels}.items()
    }
    losses = []
    for step in range(1, STEPS + 1):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=cfg.mode == "hf_bf16"):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        losses.append(float(loss))
        del loss
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        after_step(step)
    return losses


def plain_optimizer(cfg: Config, model: Any) -> Any:  # noqa: ANN401
    """The optimizer of a bare loop."""
    import torch

    if cfg.optim == "adamw_8bit":
        import bitsandbytes  # type: ignore[import-not-found] # only where 8-bit Adam is measured

        return bitsandbytes.optim.AdamW8bit(model.parameters(), lr=1e-4)
    if cfg.optim == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(model.parameters(), lr=1e-4, scale_parameter=False, relative_step=False)
    return torch.optim.AdamW(
        model.parameters(), lr=1e-4, fused=cfg.optim == "adamw_fused", foreach=cfg.optim == "adamw_foreach"
    )


def after_step(step: int) -> None:
    """After the warm-up keep its peaks, and look for new ones."""
    import torch

    if step == WARM and torch.cuda.is_available():
        START.update(counters())
        torch.cuda.reset_peak_memory_stats()


START: dict[str, int] = {}
"""Peaks of the warm-up."""


def counters() -> dict[str, int]:
    """The allocator's peaks; empty without a card."""
    import torch

    stats = torch.cuda.memory_stats() if torch.cuda.is_available() else {}
    return {name: stats.get(f"{counter}.all.peak", 0) for name, counter in PEAKS.items()}


def record_of(cfg: Config, device: str, trace: Path | None) -> dict[str, Any]:
    """Run a case and read the allocator's counters: its record. `trace` gets the allocator's events."""
    import torch
    import transformers

    if trace is not None:
        torch.cuda.init()  # type: ignore[no-untyped-call] # torch
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python", max_entries=TRACED)
    losses = run_rank(cfg, device) if cfg.loop == "product" else run_plain(cfg, device)
    record = {
        "cfg": cfg,
        "torch": str(torch.__version__),
        "tf": transformers.__version__,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else "",
        "cublas_ws": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
        "losses": losses,
        "start": START,
        "steady": counters(),
        "retries": torch.cuda.memory_stats()["num_alloc_retries"] if device == "cuda" else 0,
    }
    if trace is not None:
        write_trace(trace)
    return record


def write_trace(path: Path) -> None:
    """The allocator's events of this process: one line each, `+` or `-`, the block's number, bytes and stream.

    Of segments the bytes, the stream and the address in MiB.
    """
    import torch

    numbers: dict[int, int] = {}
    streams: dict[int, int] = {}
    lines = []
    for born, event in enumerate(torch.cuda.memory._snapshot()["device_traces"][0]):
        stream = streams.setdefault(event["stream"], len(streams))
        if event["action"] == "alloc":
            numbers[event["addr"]] = born
            lines.append(f"+ {born} {event['size']} {stream}")
        elif event["action"] == "free_completed" and event["addr"] in numbers:
            lines.append(f"- {numbers.pop(event['addr'])}")
        elif event["action"] in ("segment_alloc", "segment_free"):
            lines.append(f"{event['action']} {event['size']} {stream} {event['addr'] >> 20}")
    path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=1))


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


def measured(cfg: Config, device: str, trace: Path | None) -> dict[str, Any]:
    """The record of a case, from a process of its own; without `steady` when it failed."""
    words = [
        sys.executable,
        "-m",
        "tests.benchmarks.memory",
        "--device",
        device,
        "--case",
        msgspec.json.encode(cfg).decode(),
        *(["--traces", str(trace)] if trace else []),
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
    parser.add_argument("--traces", type=Path, help="folder for what the allocator did, a file for each case")
    options = parser.parse_args()
    if options.case:
        record = record_of(options.case, options.device, options.traces)
        sys.stdout.buffer.write(b"\n" + msgspec.json.encode(record) + b"\n")
        return
    cases, out = options.files
    configs = msgspec.json.decode(cases.read_bytes(), type=list[Config])
    records: list[dict[str, Any]] = []

    def measure(number: int) -> dict[str, Any]:
        trace = options.traces / f"{number:02}.xz" if options.traces else None
        return measured(configs[number], options.device, trace)

    if options.traces:
        options.traces.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for record in pool.map(measure, range(len(configs))):
            records.append(record)
            write_atomic(out, msgspec.json.format(msgspec.json.encode(records), indent=1))
            sys.stdout.write(f"{len(records)} of {len(configs)}: {record.get('steady') or record['error']}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
