"""Runs beside one another: the settings that differ, and what each of them measured. Unknown is None."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from t5panel.contract.deepspeed_keys import is_offloaded
from t5panel.contract.layout import RunDir
from t5panel.contract.records import ENDED, Phase, RunInfo
from t5panel.errors import Fault, UsageError
from t5panel.monitor.alerts import read_alert_counts
from t5panel.monitor.loss_curve import LossCurve
from t5panel.monitor.machine_use import MachineUse
from t5panel.monitor.measured import Pace, changed_at
from t5panel.monitor.pace import utilization
from t5panel.monitor.runs import RunState, read_info, read_note, read_prepared, read_result, read_state
from t5panel.monitor.sample_log import SampleLog
from t5panel.monitor.training_log import TrainingLog
from t5panel.plan.forecast import DEFAULT_SAMPLES
from t5panel.plan.speed import JOULES_PER_KWH


@dataclass(frozen=True, slots=True)
class Setup:
    """What trains on what."""

    method: str | None
    launcher: str | None
    device: str | None
    world_size: int | None
    cards: tuple[str, ...]
    """Their names, of those the run uses."""
    model: str | None
    batch: tuple[int, int] | None
    """Rows per card in one pass, and passes in one optimizer step."""
    effective_batch: int | None
    """Rows per optimizer step, all ranks."""
    precision: str | None
    gradient_checkpointing: bool | None
    zero_stage: int | None
    """None without DeepSpeed."""
    offloaded: tuple[str, ...]
    """What DeepSpeed keeps off the cards: `optimizer`, `param`."""
    optimizer: str | None
    attention: str | None


@dataclass(frozen=True, slots=True)
class CardPeak:
    """One card, everything on it: bytes, and watts while steps were made."""

    index: int
    used: int
    before: int | None
    """In use before the ranks came; None while the run lives."""
    power: float | None


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """Highest readings in bytes, evaluations among them."""

    cards: tuple[CardPeak, ...]
    vram_total: int | None
    """All cards at one moment."""
    allocated: int | None
    """By torch on rank 0's card."""
    reserved: int | None
    rss_per_rank: tuple[int, ...]
    rss_total: int | None
    """All ranks at one moment; pages that they share count for each."""
    host_used: int | None
    host_limit: int | None


@dataclass(frozen=True, slots=True)
class Learning:
    """How far it came, and how good it was; losses per target token."""

    step: int | None
    max_steps: int | None
    samples: int | None
    """Rows seen."""
    loss_first: float | None
    """None, as the last, without a step and when it was not finite."""
    loss_last: float | None
    eval_step: int | None
    eval_loss: float | None
    chrf: float | None


@dataclass(frozen=True, slots=True)
class Stability:
    """What went wrong on the way."""

    not_finite: int
    """Records of a loss that was not finite."""
    alerts: dict[str, int]
    """How often each alert was raised."""
    recoveries: int
    """Restarts with a smaller batch after a CUDA out-of-memory."""
    resumes: int
    """Other starts after the first one: by the user, or after a pause."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Time, energy and money of a number of rows at the measured pace and power: an extrapolation."""

    seconds: float | None
    kwh: float | None
    """Of the cards alone."""
    cost: float | None
    """None without a price."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of a comparison. Pace, memory and power are those since its settings last changed."""

    run_id: str
    path: str
    preset: str
    created: float
    phase: Phase
    message: str
    """How it ended, or what it does."""
    alive: bool
    rehearsal: bool
    note: str
    """The user's own words."""
    settings_changed: int
    """How often its settings changed on the way."""
    setup: Setup
    learning: Learning
    pace: Pace | None
    memory: MemoryPeak
    stability: Stability
    projection: Projection
    mfu: float | None = None
    """Share of the cards' peak at that pace: an estimate, its FLOP are counted from the lengths of the rows."""

    @property
    def on_cpu(self) -> bool:
        """Whether its figures say nothing about a GPU."""
        return self.rehearsal or self.setup.device == "cpu"


@dataclass(frozen=True, slots=True)
class Setting:
    """A dotted key of the spec whose values differ; None where it is not set."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One run as its files tell of it."""

    spec: dict[str, Any]
    figures: Figures
    curve: LossCurve


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs in the order in which they were named."""

    samples: int
    """Rows of the projections."""
    price: float | None
    """Money per kWh."""
    settings: tuple[Setting, ...]
    runs: tuple[Figures, ...]


def read_run(
    run: RunDir,
    *,
    samples: int = DEFAULT_SAMPLES,
    price: float | None = None,
    tell: Callable[[float], None] = lambda _: None,
) -> Reading:
    """One run: what it measured, and what `samples` rows would cost at `price` per kWh.

    `tell` hears while a long run is read for the first time: the share of the present file that is read.

    Raises: UsageError when its description is missing or broken.
    """
    info, state = read_info(run), read_state(run)  # before the files: an ended run's last lines are then surely read
    training, use = read_logs(run, since=changed_at(info), tell=tell)
    pace = training.sums.pace(training.start.effective_batch if training.start else None)
    memory, setup = _memory(run, state, training, use), _setup(info)
    watts = sum(use.power.values()) if setup.world_size == len(use.power) else None
    resumes = max(0, training.sums.starts - 1 - len(info.recoveries))
    figures = Figures(
        run_id=run.run_id,
        path=str(run.path),
        preset=info.preset,
        created=info.created,
        phase=state.phase,
        message=_sentence(state),
        alive=state.alive,
        rehearsal=info.rehearsal,
        note=read_note(run),
        settings_changed=len(info.recoveries) + len(info.changes),
        setup=setup,
        learning=_learning(training),
        pace=pace,
        memory=memory,
        stability=Stability(training.sums.not_finite, read_alert_counts(run), len(info.recoveries), resumes),
        projection=_projection(pace, watts, samples, price),
        mfu=_mfu(run, info, pace),
    )
    return Reading(info.spec, figures, training.curve)


def read_logs(run: RunDir, *, since: float, tell: Callable[[float], None]) -> tuple[TrainingLog, MachineUse]:
    """All that ranks and supervisor recorded, from where the last reader of the run came to."""
    training, readings = TrainingLog(run, since=since), SampleLog(run, since=since)
    for _ in training.blocks():
        tell(1 - training.unread)
    for _ in readings.blocks(training.sums.spans):
        tell(1 - readings.unread)
    return training, readings.use


def priced(reading: Reading, price: float) -> Reading:
    """The same run with what its projected energy costs."""
    figures, energy = reading.figures, reading.figures.projection.kwh
    projection = replace(figures.projection, cost=None if energy is None else energy * price)
    return replace(reading, figures=replace(figures, projection=projection))


def compare(readings: Sequence[Reading], *, samples: int = DEFAULT_SAMPLES, price: float | None = None) -> Comparison:
    """The readings side by side; `samples` and `price` are those they were read with."""
    settings = differing_settings([reading.spec for reading in readings])
    return Comparison(samples, price, settings, tuple(reading.figures for reading in readings))


def compare_runs(runs: Iterable[RunDir], *, samples: int, price: float | None) -> Comparison:
    """Runs read one after the other, and put side by side.

    Raises: UsageError with every run whose description is missing or broken.
    """
    readings: list[Reading] = []
    faults: list[Fault] = []
    for run in runs:
        try:
            readings.append(read_run(run, samples=samples, price=price))
        except UsageError as error:
            faults += error.faults
    if faults:
        raise UsageError(faults)
    return compare(readings, samples=samples, price=price)


def differing_settings(specs: Sequence[Mapping[str, Any]]) -> tuple[Setting, ...]:
    """The dotted keys whose values differ, in the order of the specs."""
    flat = [dict(flat_settings(spec)) for spec in specs]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = (Setting(key, tuple(values.get(key) for values in flat)) for key in keys)
    return tuple(row for row in rows if any(value != row.values[0] for value in row.values))


def flat_settings(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; what is not set is left out."""
    for key, value in spec.items():
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{key}.")
        elif value is not None:
            yield prefix + key, value


def _setup(info: RunInfo) -> Setup:
    spec, train, model = info.spec, info.spec.get("train") or {}, info.spec.get("model") or {}
    zero = (spec.get("deepspeed") or {}).get("zero_optimization") or {}
    world, names = spec.get("num_gpus"), ("per_device_train_batch_size", "gradient_accumulation_steps")
    batch = (int(train[names[0]]), int(train[names[1]])) if all(name in train for name in names) else None
    bf16 = train.get("bf16")
    return Setup(
        method=spec.get("method"),
        launcher=spec.get("launcher"),
        device=spec.get("device"),
        world_size=world,
        cards=tuple(info.plan.get("cards") or ()) if info.cards else (),
        model=model.get("name_or_path"),
        batch=batch,
        effective_batch=batch[0] * batch[1] * int(world) if batch and world else None,
        precision=None if bf16 is None else "bf16" if bf16 else "fp32",
        gradient_checkpointing=train.get("gradient_checkpointing"),
        zero_stage=int(zero.get("stage", 0)) if spec.get("method") == "deepspeed" else None,
        offloaded=tuple(part for part in ("optimizer", "param") if is_offloaded(zero, f"offload_{part}")),
        optimizer=train.get("optim"),
        attention=model.get("attn_implementation"),
    )


def _learning(training: TrainingLog) -> Learning:
    start, curve = training.start, training.curve
    evaluation = training.evaluations[-1] if training.evaluations else None
    step = curve.steps[-1] if curve.steps else None
    return Learning(
        step=step,
        max_steps=start.max_steps if start else None,
        samples=step * start.effective_batch if step is not None and start else None,
        loss_first=curve.first,
        loss_last=curve.last,
        eval_step=evaluation.step if evaluation else None,
        eval_loss=evaluation.eval_loss if evaluation else None,
        chrf=evaluation.chrf if evaluation else None,
    )


def _memory(run: RunDir, state: RunState, training: TrainingLog, use: MachineUse) -> MemoryPeak:
    """The highest of what the readings, the supervisor's end and the ranks' own word say."""
    result = read_result(run)
    told = {each.index: each for each in state.state.vram} if state.state and state.phase in ENDED else {}
    cards = tuple(
        CardPeak(
            index,
            max(use.vram.get(index, 0), told[index].highest if index in told else 0),
            told[index].before if index in told else None,
            use.power.get(index),
        )
        for index in sorted(use.vram.keys() | told.keys())
    )
    ranks = dict(enumerate(result.peak_rss_per_rank)) if result else {}
    rss = tuple(max(ranks.get(rank, 0), use.rss.get(rank, 0)) for rank in sorted(ranks.keys() | use.rss.keys()))
    return MemoryPeak(
        cards=cards,
        vram_total=use.vram_total,
        allocated=training.sums.allocated,
        reserved=training.sums.reserved,
        rss_per_rank=rss,
        rss_total=use.rss_total,
        host_used=use.host_used,
        host_limit=use.host_limit,
    )


def _mfu(run: RunDir, info: RunInfo, pace: Pace | None) -> float | None:
    used = utilization(info, read_prepared(run), pace.samples_per_second if pace is not None else None)
    return used.share if used is not None else None


def _projection(pace: Pace | None, watts: float | None, samples: int, price: float | None) -> Projection:
    """`watts`: of all cards together; None unless each of them was read."""
    if pace is None:
        return Projection(None, None, None)
    seconds = samples / pace.samples_per_second
    kwh = None if watts is None else seconds * watts / JOULES_PER_KWH
    return Projection(seconds, kwh, None if kwh is None or price is None else kwh * price)


def _sentence(state: RunState) -> str:
    return state.diagnosis.sentence if state.phase == "failed" and state.diagnosis else state.message
