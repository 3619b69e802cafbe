"""Records of measured peaks, and what would be predicted for them: how anyone checks the promise.

The format is that of the measuring script: `cfg` describes the step, `tf` and `torch` the versions, `steady` holds the
counters of torch's allocator. Fields that are not needed are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import msgspec

from t5panel.contract.memory_table import minor
from t5panel.contract.shapes import SHAPES, Shape
from t5panel.errors import Fault, UsageError
from t5panel.plan.cards import AMPERE_WORKSPACE, cublas_workspace, processors_of
from t5panel.plan.memory import padded
from t5panel.plan.need import Need, need_of
from t5panel.plan.step import OptimizerName, TrainingStep, Wrapper, check_kernel
from t5panel.plan.table import NoTableError, load_table, shipped_versions
from t5panel.plan.zero import Zero, check_settings

PUBLISHED_UNTIED = ("v1_1", "mt5", "umt5", "byt5")
"""Published models with an output layer of their own, as the measured ones have; ours start tied."""
OFFLOADS: dict[str | None, tuple[str, ...]] = {
    None: (),
    "opt": ("offload_optimizer",),
    "param": ("offload_optimizer", "offload_param"),
}


class T5ConfigFields(msgspec.Struct, frozen=True):
    """A model by the fields of transformers' T5Config."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    feed_forward_proj: str = "relu"
    tie_word_embeddings: bool = True
    model_type: str = "t5"


class Config(msgspec.Struct, frozen=True):
    """The measured step. `bs` rows on a card; `enc` and `dec` tokens."""

    model: str | T5ConfigFields
    mode: Literal["hf_bf16", "pure_bf16", "fp32"] = "hf_bf16"
    bs: int = 8
    enc: int = 512
    dec: int = 128
    gc: bool = False
    optim: OptimizerName = "adamw_fused"
    attn: Literal["sdpa", "eager"] = "sdpa"
    pad: bool = True
    dropout: float = 0.1
    loop: Literal["plain", "trainer", "ddp1", "zero", "product"] = "plain"
    """Who trains; `product` is our own trainer of `method`."""
    method: Literal["manual", "trainer", "deepspeed"] = "manual"
    ga: int = 1
    """Forward passes in one optimizer step."""
    expand: bool = False
    fresh: bool = False
    """The model was built on the card; our own trainers always do."""
    cap: float | None = None
    """Most GiB that the allocator may reserve."""
    cce: int = 0
    gabv: bool = False
    contig: bool = False
    reent: bool = False
    stage: Literal[0, 1, 2, 3] = 0
    world: int = 1
    off: Literal["opt", "param"] | None = None
    zx: dict[str, Any] = {}
    id: str = ""


class Counters(msgspec.Struct, frozen=True):
    """Peaks of the steady steps, in bytes."""

    req_peak: int = 0
    alloc_peak: int = 0
    res_peak: int = 0


class MeasuredStep(msgspec.Struct, frozen=True):
    """One record; without `steady` there is nothing to compare with."""

    cfg: Config
    ok: bool = True
    tf: str = ""
    torch: str = ""
    gpu: str = ""
    """The card's NVML name."""
    cublas_ws: str = ""
    """CUBLAS_WORKSPACE_CONFIG, if it was set."""
    steady: Counters | None = None


class Prediction(msgspec.Struct, frozen=True):
    """What is predicted for a record, in bytes, and by how much it was off, as a share of the measured figure."""

    id: str
    requested: int
    allocated: int
    reserved: int
    context: int
    low: int
    high: int
    error: dict[str, float] | None = None
    false_fit: bool = False
    """A card exists that is said to hold the step and does not."""


class Unpredicted(msgspec.Struct, frozen=True):
    """A record without a prediction, and why."""

    id: str
    faults: tuple[Fault, ...]


def read_records(text: bytes, where: str) -> list[MeasuredStep]:
    """The records of a file.

    Raises: UsageError with every record that is none.
    """
    try:
        raw = msgspec.json.decode(text, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise UsageError.of(where, f"is no JSON list of records: {error}", "see the README for the format") from error
    records, faults = [], []
    for number, one in enumerate(raw):
        try:
            records.append(msgspec.json.decode(one, type=MeasuredStep))
        except msgspec.DecodeError as error:
            faults.append(Fault(f"{where}, record {number}", str(error), "see the README for the fields"))
    if faults:
        raise UsageError(faults)
    return records


def predict(records: Iterable[MeasuredStep], where: str, *, context: int) -> Iterator[Prediction | Unpredicted]:
    """What is predicted for each record, or why nothing is."""
    for number, record in enumerate(records):
        try:
            yield _prediction(record, record.cfg.id or f"record {number}", need_of(step_of(record)), context)
        except UsageError as error:
            faults = (Fault(f"{where}, record {number}: {f.where}", f.message, f.hint) for f in error.faults)
            yield Unpredicted(record.cfg.id or f"record {number}", tuple(faults))


def step_of(record: MeasuredStep) -> TrainingStep:
    """The training step that a record describes.

    Raises: UsageError for a shape that cannot be, NoTableError for what no table knows.
    """
    cfg, shape = record.cfg, shape_of(record.cfg.model)
    if cfg.loop == "product":
        shape = replace(shape, tied=True)
    check_kernel(shape, cfg.attn)
    if cfg.reent:
        raise NoTableError.of("cfg.reent", "reentrant checkpointing is in no memory table", "leave it out")
    sizes = {"bs": cfg.bs, "enc": cfg.enc, "dec": cfg.dec, "ga": cfg.ga, "world": cfg.world}
    if small := [name for name, size in sizes.items() if size < 1]:
        raise UsageError.of(", ".join(f"cfg.{name}" for name in small), "must be at least 1")
    zero = _zero(cfg) if _wrapper(cfg) == "zero" else None
    pad = padded if cfg.loop == "product" else int
    transformers = "5.23" if cfg.contig and minor(record.tf) == "5.17" else record.tf  # the later one's bias
    return TrainingStep(
        shape,
        cfg.bs,
        pad(cfg.enc),
        pad(cfg.dec),
        precision="bf16" if zero or cfg.mode == "pure_bf16" else "autocast" if cfg.mode == "hf_bf16" else "fp32",
        attention=cfg.attn,
        padded=cfg.pad,
        checkpointing=cfg.gc,
        dropout=cfg.dropout > 0,
        loss=_loss(cfg),
        optimizer="adamw_fused" if cfg.loop == "zero" else cfg.optim,  # the study's engine has but one
        accumulation=cfg.ga,
        wrapper=_wrapper(cfg),
        zero=zero,
        chunk=cfg.cce,
        expandable_segments=cfg.expand,
        fresh=cfg.loop == "product" or cfg.fresh,
        loop=cfg.method if cfg.loop == "product" else "trainer" if cfg.loop == "trainer" else "bare",
        workspace=_workspace(record),
        processors=processors_of(record.gpu),
        transformers=minor(transformers),
    )


def shape_of(model: str | T5ConfigFields) -> Shape:
    """The shape of a built-in name, with the output layer that the published model has, or of a T5Config.

    Raises: UsageError for an unknown name and for sizes that no model can have.
    """
    if isinstance(model, str):
        if model not in SHAPES:
            raise UsageError.of("cfg.model", f"no shape is called {model!r}", f"known: {', '.join(SHAPES)}")
        return replace(SHAPES[model], tied=not model.startswith(PUBLISHED_UNTIED))
    sizes = {name: value for name, value in msgspec.structs.asdict(model).items() if isinstance(value, int)}
    if wrong := [name for name, value in sizes.items() if not isinstance(value, bool) and value < 1]:
        raise UsageError.of("cfg.model", f"{', '.join(wrong)} must be at least 1")
    if model.feed_forward_proj not in ("relu", "gated-gelu"):
        raise NoTableError.of(
            "cfg.model", f"feed_forward_proj {model.feed_forward_proj!r} is in no memory table", "relu or gated-gelu"
        )
    return Shape(
        model.vocab_size,
        model.d_model,
        model.d_kv,
        model.d_ff,
        model.num_layers,
        model.num_decoder_layers or model.num_layers,
        model.num_heads,
        gated=model.feed_forward_proj == "gated-gelu",
        tied=model.tie_word_embeddings,
        model_type="umt5" if model.model_type == "umt5" else "t5",
        relative_attention_num_buckets=model.relative_attention_num_buckets,
    )


def torch_notes(records: Iterable[MeasuredStep]) -> Iterator[str]:
    """A line for every version of torch that no table of its transformers was compared with."""
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        pair = (minor(record.torch), minor(record.tf))
        counts[pair] = counts.get(pair, 0) + 1
    for (torch, transformers), count in counts.items():
        if torch and transformers in shipped_versions() and torch not in load_table(transformers).torch:
            known = " and ".join(load_table(transformers).torch)
            yield f"{count} records of torch {torch} are predicted as with torch {known}: no table was made with theirs"


def summary(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Mean and largest absolute error and bias of each quantity, and how many false fits there are."""
    measured = [each for each in predictions if each.error]
    for name in ("requested", "allocated", "reserved"):
        errors = [100 * each.error[name] for each in measured if each.error]
        if errors:
            mean = sum(map(abs, errors)) / len(errors)
            bias = sum(errors) / len(errors)
            largest = max(map(abs, errors))
            yield f"{name:<10} MAPE {mean:.3f} %, max {largest:.2f} %, bias {bias:+.3f} %  ({len(errors)} records)"
    if measured:
        yield f"false fits {sum(each.false_fit for each in measured)} of {len(measured)}"


def _zero(cfg: Config) -> Zero:
    settings: dict[str, Any] = {"stage": cfg.stage, **cfg.zx}
    for key in OFFLOADS[cfg.off]:
        settings[key] = {"device": "cpu"}
    config = {"zero_optimization": settings}
    check_settings(config)
    return Zero.from_config(config, cfg.world)


def _loss(cfg: Config) -> Literal["model", "trainer", "summed", "chunked", "one-chunk"]:
    if cfg.cce:
        return "one-chunk" if cfg.cce >= cfg.bs * cfg.dec else "chunked"
    if cfg.loop == "product":
        return "summed"
    return "trainer" if cfg.loop == "trainer" else "model"


def _wrapper(cfg: Config) -> Wrapper:
    if cfg.loop == "product":
        return "zero" if cfg.method == "deepspeed" else "ddp-view" if cfg.world > 1 else "none"
    if cfg.loop == "zero":
        return "zero"
    if cfg.loop == "ddp1":
        return "ddp-view" if cfg.gabv else "ddp"
    return "none"


def _workspace(record: MeasuredStep) -> int:
    """Bytes of a cuBLAS workspace: as its variable says, `:KiB:count` and so on, else as the card's own default."""
    pieces = re.findall(r":(\d+):(\d+)", record.cublas_ws)
    if pieces:
        return sum(1024 * int(size) * int(count) for size, count in pieces)
    return cublas_workspace(record.gpu) if record.gpu else AMPERE_WORKSPACE


def _prediction(record: MeasuredStep, name: str, need: Need, context: int) -> Prediction:
    measured = record.steady if record.ok else None
    cap = int(record.cfg.cap * 2**30) if record.cfg.cap else need.reserved
    reserved = max(need.allocated, min(need.reserved, cap))
    figures = {"requested": need.requested, "allocated": need.allocated, "reserved": reserved}
    error = None
    if measured is not None and measured.req_peak:
        truth = {
            "requested": measured.req_peak,
            "allocated": measured.alloc_peak,
            "reserved": measured.res_peak,
        }
        error = {name: figures[name] / truth[name] - 1 for name in figures}
    return Prediction(
        id=name,
        **figures,
        context=context,
        low=need.low + context,
        high=need.high + context,
        error=error,
        false_fit=measured is not None and need.high < measured.alloc_peak,
    )
