"""What is written to a run directory: one JSON object a line, or one atomic JSON file. Bytes are int, seconds float.

Readers skip unknown fields. Rank 0 writes the metrics and the result; the supervisor writes the rest.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

Phase = Literal["starting", "running", "evaluating", "saving", "stopping", "paused", "finished", "failed", "stopped"]
Severity = Literal["info", "warning", "error"]
PORT = "@free-port@"
ENDED: frozenset[Phase] = frozenset({"finished", "failed", "stopped"})


def finite_or_none(value: float) -> float | None:
    """A number as records hold it: None where it is not finite."""
    return value if math.isfinite(value) else None


class Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=False):
    """Base of all records: immutable, decoded without knowing later fields."""


class Step(Record, frozen=True, tag_field="kind", tag="step"):
    """One logged optimizer step; `loss` is the mean per target token since the last record, all ranks together."""

    time: float
    step: int
    epoch: float
    loss: float | None
    learning_rate: float
    grad_norm: float | None
    samples: int
    """Rows seen since the start of the run."""
    target_tokens: int
    """Target tokens since the last record, all ranks."""
    step_seconds: float
    """Mean wall seconds of one optimizer step since the last record."""
    data_wait_seconds: float
    """Part of step_seconds spent waiting for batches."""
    vram_allocated: int | None = None
    """Peak bytes allocated by torch on rank 0's card since the start."""
    vram_reserved: int | None = None
    """Peak bytes reserved by torch on rank 0's card since the start."""
    communication_seconds: float | None = None
    """Part of step_seconds that rank 0 waited for other ranks' gradients, of the newest step that DDP timed."""


class Prediction(Record, frozen=True):
    """One held-out row and its greedy answer."""

    prompt: str
    reference: str
    prediction: str


class Evaluation(Record, frozen=True, tag_field="kind", tag="evaluation"):
    """One evaluation: loss per target token on held-out rows, corpus scores of greedy answers (0-100)."""

    time: float
    step: int
    eval_loss: float | None
    chrf: float | None
    bleu: float | None
    samples: tuple[Prediction, ...]
    seconds: float


class Checkpoint(Record, frozen=True, tag_field="kind", tag="checkpoint"):
    """One complete checkpoint; `path` is relative to the run directory."""

    time: float
    step: int
    path: str
    bytes: int
    seconds: float


class Start(Record, frozen=True, tag_field="kind", tag="start"):
    """A training began at `step` (0, or the checkpoint it resumed from); later steps of earlier starts are void."""

    time: float
    step: int
    max_steps: int
    world_size: int
    parameters: int
    train_rows: int
    eval_rows: int
    effective_batch: int


class Status(Record, frozen=True, tag_field="kind", tag="status"):
    """What the ranks are doing from now on."""

    time: float
    step: int
    phase: Literal["running", "evaluating", "saving"]


Metric = Step | Evaluation | Checkpoint | Start | Status


class Card(Record, frozen=True):
    """One card at one moment; None where NVML does not say. Bytes, percent, watts, degrees Celsius."""

    index: int
    used: int
    total: int
    utilization: int | None
    power: float | None
    temperature: int | None
    throttle: tuple[str, ...] = ()
    """Why the card is slower than it could be: heat, power brake, a fault of the hardware."""


class RankSample(Record, frozen=True):
    """Host memory of one rank, in bytes; pss only now and then."""

    rank: int
    pid: int
    rss: int
    pss: int | None
    anon: int = 0


class Sample(Record, frozen=True, tag_field="kind", tag="sample"):
    """The machine at one moment, as the run sees it."""

    time: float
    cards: tuple[Card, ...]
    ranks: tuple[RankSample, ...]
    ram_used: int
    ram_limit: int


ALERTS = frozenset(
    {
        "stall",
        "not-finite",
        "loss-spike",
        "plateau",
        "memory-pressure",
        "vram-limit",
        "disk",
        "throttled",
        "card-lost",
    }
)
"""Names of events that last: raised by a warning or an error, over with an `info` of the same name."""


class Event(Record, frozen=True, tag_field="kind", tag="event"):
    """Something that happened to the run: started, stop requested, stopped, crashed, finished, …, and the ALERTS."""

    time: float
    name: str
    message: str
    severity: Severity = "info"


class ProcessId(Record, frozen=True):
    """A process that cannot be mistaken for a later one with the same pid. `start_time` in clock ticks since boot."""

    pid: int
    start_time: int


class RankId(Record, frozen=True):
    """A rank's process."""

    rank: int
    pid: int
    start_time: int


class Progress(Record, frozen=True):
    """How far a long preparation is."""

    what: str
    done: int
    total: int


class Failure(Record, frozen=True):
    """ranks/failure-N.json: an exception that ended a rank, as the rank saw it. Bytes, from torch's allocator."""

    rank: int
    time: float
    kind: str
    """Qualified name of the exception's class, `torch.OutOfMemoryError`."""
    message: str
    traceback: str
    step: int | None = None
    vram_allocated: int | None = None
    vram_reserved: int | None = None


class Diagnosis(Record, frozen=True):
    """Why a run ended, in one sentence, and what would help."""

    code: str
    """Of the signature that matched: `cuda-out-of-memory`, `nccl-shared-memory`, …"""
    sentence: str
    hint: str = ""
    rank: int | None = None
    """The rank that failed first."""
    detail: str = ""
    """That rank's own traceback, or the lines of a log that matched."""


class CardUse(Record, frozen=True):
    """What NVML said of one card since the last start of the ranks, in bytes, all processes together."""

    index: int
    before: int
    """In use when the ranks were about to start."""
    highest: int
    """The most that was seen in use."""


class State(Record, frozen=True):
    """state.json, replaced atomically by the supervisor."""

    phase: Phase
    run_id: str
    boot_id: str
    heartbeat: float
    supervisor: ProcessId
    launcher: ProcessId | None
    ranks: tuple[RankId, ...]
    progress: Progress | None = None
    exit_code: int | None = None
    """What a front that watches this run returns; set at the end."""
    message: str = ""
    """One sentence on the present phase."""
    until: float | None = None
    """When a paused run goes on, in unix seconds; None while it waits for its cards."""
    diagnosis: Diagnosis | None = None
    """Of a failed run."""
    vram: tuple[CardUse, ...] = ()
    """Of the run's cards; empty on the CPU."""


class Result(Record, frozen=True):
    """result.json, written by rank 0 at a clean end: the only proof of success. Peaks in bytes, by rank and by card."""

    status: Literal["finished", "stopped"]
    step: int
    loss_first: float | None
    loss_last: float | None
    samples_per_second: float
    peak_rss_per_rank: tuple[int, ...]
    peak_vram_per_card: tuple[int, ...]
    checkpoint: str | None
    eval_loss: float | None = None
    seconds: float = 0.0


class Request(Record, frozen=True):
    """request.json, the one file a front writes: end the run with a checkpoint, or at once.

    The supervisor itself writes `pause` when the daily window closes. The ranks take any request for a stop.
    """

    action: Literal["stop", "kill", "pause"]
    time: float


class CommandInfo(Record, frozen=True):
    """One process of a run: argv and what its environment has beyond the supervisor's.

    Hours may pass from the start of a run to its ranks, and days to a resume: a word of argv may hold PORT, for which
    the supervisor puts a TCP port that is free when it starts the process.
    """

    argv: tuple[str, ...]
    env: dict[str, str]


class Recovery(Record, frozen=True):
    """One restart after a CUDA out-of-memory; `before` and `after` hold the keys of the spec that were changed."""

    time: float
    step: int
    """The step it went on from."""
    reason: str
    before: dict[str, int | bool]
    after: dict[str, int | bool]


class Change(Record, frozen=True):
    """Settings that the user changed when the run was resumed; by dotted keys of the spec."""

    time: float
    step: int
    """The step it went on from."""
    before: dict[str, Any]
    after: dict[str, Any]


class RunInfo(Record, frozen=True):
    """run.json, written before the start; an out-of-memory recovery or a resume with changes says so in it."""

    run_id: str
    preset: str
    created: float
    spec: dict[str, Any]
    prepare: CommandInfo
    """What reads and tokenises the data before any rank starts."""
    command: CommandInfo
    """What starts the ranks."""
    cards: tuple[int, ...]
    """PCI indices of the cards the run uses."""
    interpreter: str
    versions: dict[str, str]
    plan: dict[str, Any]
    rehearsal: bool = False
    forced: bool = False
    """Started with --force although the memory plan said no."""
    recoveries: tuple[Recovery, ...] = ()
    changes: tuple[Change, ...] = ()


class PredictedVram(Record, frozen=True):
    """`RunInfo.plan["vram"]`: what the plan predicts for one card, in bytes of torch's allocator, and beside it."""

    index: int
    requested: int
    allocated: int
    reserved: int
    context: int


class Prepared(Record, frozen=True):
    """prepared.json: where the tokenised rows are and what was left out of them."""

    train: str
    validation: str | None
    """Folder of a validation file's rows; None: rows are held out of `train`."""
    rows: int
    dropped: int
    """Rows without prompt or response."""
    truncated_sources: int
    truncated_targets: int
    source_tokens: tuple[int, ...] = ()
    """Quantiles of the rows' source lengths, evenly spaced, the longest last: they stand for all rows."""
    target_tokens: tuple[int, ...] = ()
    """The same of the targets."""


def run_json(info: RunInfo) -> bytes:
    """What stands in run.json."""
    return msgspec.json.format(msgspec.json.encode(info), indent=1)


def encode_line(record: Record) -> bytes:
    """A record as one JSON line; NaN and infinity become null."""
    return msgspec.json.encode(record) + b"\n"
