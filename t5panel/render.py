"""Plans, snapshots and results as plain text or JSON values. Prints nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from t5panel.cells import left
from t5panel.contract.records import Change, Event, Recovery, Result, RunInfo, Step
from t5panel.contract.versions import SHOWN
from t5panel.contract.window import Window, parse_window
from t5panel.errors import Fault
from t5panel.language import tr
from t5panel.launch.commands import Command
from t5panel.monitor.history import Snapshot
from t5panel.monitor.runs import RunState, prepared_text
from t5panel.monitor.vram import VramPeak, vram_peak
from t5panel.plan.machine import GIB
from t5panel.plan.memory import CardMemory
from t5panel.plan.planning import Plan, batch_formula
from t5panel.plan.records import Prediction
from t5panel.render_figures import figure_words, figures_json
from t5panel.render_options import option_lines, options_json
from t5panel.render_speed import estimate_json, estimate_lines

SEVERITY_MARK = {"info": "·", "warning": "!", "error": "✗"}
_NOT_TEXT = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
MEMORY_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buckets", "workspace")
MEMORY_BASIS = "the model's own step replayed through torch's allocator at the longest rows (README, Measured)"
NEARLY_FULL = 0.92
"""Share of a memory from which it is shown in another colour."""
WORTH_TELLING = 0.05
"""Share of a step spent waiting for data."""
RESULT_NAME_CELLS = 15
TRACEBACK_LINES = 8
"""Of a traceback's end: its last frames and the exception."""


def gib(size: int) -> str:
    """Bytes as `1.23 GiB`."""
    return f"{size / GIB:.2f} GiB"


def mib(size: int) -> str:
    """Bytes as `412 MiB`."""
    return f"{size / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `12 min 30 s`, `3 h 05 min` or `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return tr("{seconds} s", seconds=whole)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return tr("{minutes} min {seconds:02d} s", minutes=minutes, seconds=rest)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return tr("{hours} h {minutes:02d} min", hours=hours, minutes=minutes)
    return tr("{days} d {hours} h", days=hours // 24, hours=hours % 24)


def fault_lines(faults: tuple[Fault, ...]) -> Iterator[str]:
    """Each fault with where it is and what would help."""
    for fault in faults:
        yield f"{fault.where}: {tr(fault.message)}"
        if fault.hint:
            yield f"    {tr(fault.hint)}"


def fault_json(faults: tuple[Fault, ...]) -> list[dict[str, str]]:
    """Faults as JSON values."""
    return [{"where": fault.where, "message": fault.message, "hint": fault.hint} for fault in faults]


def plan_json(plan: Plan, command: Command) -> dict[str, Any]:
    """A plan as `plan --json` prints it. Parts that are not estimated yet are null."""
    cards = [_card_json(card) for card in plan.cards]
    ram = plan.ram
    return {
        "preset": plan.preset,
        "verdict": plan.verdict,
        "world_size": plan.spec.num_gpus,
        "effective_batch": plan.spec.effective_batch,
        "device": plan.spec.device,
        "rehearsal": plan.rehearsal,
        "spec": plan.spec.model_dump(mode="json"),
        "interpreter": plan.spec.interpreter or sys.executable,
        "versions": dict(plan.versions),
        "vram": {
            "per_card": cards,
            "low": max((card.low for card in plan.cards), default=None),
            "high": max((card.high for card in plan.cards), default=None),
            "basis": MEMORY_BASIS if plan.cards else None,
            "context_basis": context_basis(plan) or None,
        },
        "ram": None
        if ram is None
        else {
            "capacity": ram.capacity,
            "total": ram.total,
            "per_rank": ram.per_rank,
            "parts": {"ranks": ram.ranks, "launcher": ram.launcher, "supervisor": ram.supervisor},
        },
        "command": {"argv": list(command.argv), "env": dict(command.env)},
        "findings": [
            {"severity": found.severity, "code": found.code, "message": found.message, "hint": found.hint}
            for found in plan.findings
        ],
        "suggestions": [
            {"set": dict(each.settings), "verdict": each.verdict, "reason": each.reason} for each in plan.suggestions
        ],
        "options": options_json(plan),
        "estimate": estimate_json(plan.estimate),
    }


def _card_json(card: CardMemory) -> dict[str, Any]:
    return {
        "index": card.index,
        "capacity": card.capacity,
        "requested": card.need.requested,
        "allocated": card.need.allocated,
        "reserved": card.need.reserved,
        "context": card.context,
        "low": card.low,
        "high": card.high,
        "verdict": card.verdict,
        "parts": memory_parts(card),
    }


def memory_parts(card: CardMemory) -> dict[str, int]:
    """A card's requested bytes by purpose."""
    parts = card.need.parts
    return {name: getattr(parts, name) for name in MEMORY_PARTS}


def context_basis(plan: Plan) -> str:
    """How the context on each card is known; empty without cards."""
    return ", ".join(dict.fromkeys(card.context_basis for card in plan.cards))


def plan_lines(plan: Plan, command: Command) -> Iterator[str]:
    """A plan for people."""
    spec = plan.spec
    what = tr(
        "{method} under {launcher}, {ranks} ranks on {device}",
        method=spec.method,
        launcher=spec.launcher,
        ranks=spec.num_gpus,
        device=spec.device,
    )
    lengths = tr(
        "up to {source} → {target} tokens", source=spec.data.max_source_length, target=spec.data.max_target_length
    )
    yield titled(tr("preset"), f"{plan.preset}: {what}")
    yield titled(tr("machine"), tr(plan.machine.summary))
    yield titled(tr("python"), interpreter_text(plan))
    yield titled(tr("model"), spec.model.name_or_path)
    yield titled(tr("data"), f"{spec.data.train}, {lengths}")
    yield titled(tr("batch"), tr("{formula} rows per optimizer step", formula=batch_formula(spec)))
    yield titled(tr("precision"), precision(plan))
    for card in plan.cards:
        sizes = {"need": card.expected, "capacity": card.capacity, "low": card.low, "high": card.high}
        words = {name: gib(size) for name, size in sizes.items()}
        text = tr("{need} of {capacity}, between {low} and {high}", **words)
        yield titled(tr("card {index}", index=card.index), text)
    if plan.cards:
        yield titled("", f"{parts_text(plan.cards[0])}; {tr(context_basis(plan))}")
    if plan.ram:
        total, capacity, per_rank = (gib(size) for size in (plan.ram.total, plan.ram.capacity, plan.ram.per_rank))
        text = tr("{total} of {capacity}, {each} per rank (estimate)", total=total, capacity=capacity, each=per_rank)
        yield titled(tr("host RAM"), text)
    yield from estimate_lines(plan.estimate)
    yield titled(tr("verdict"), tr(plan.verdict))
    yield from suggestion_lines(plan)
    yield from option_lines(plan)
    yield from finding_lines(plan)
    yield titled(tr("command"), command.line)


def titled(name: str, text: str) -> str:
    """A line of a plan: its name in ten cells, then what there is to say."""
    return f"{left(name, 9)} {text}"


def result_line(name: str, text: str) -> str:
    """A line of a summary: its name in fifteen cells, then what there is to say."""
    return f"{left(name, RESULT_NAME_CELLS)}{text}"


def interpreter_text(plan: Plan) -> str:
    """Which Python will run the ranks, and the versions that matter there."""
    shown = [f"{name} {plan.versions[name]}" for name in SHOWN if name in plan.versions]
    return " · ".join([plan.spec.interpreter or sys.executable, *shown])


def suggestion_lines(plan: Plan) -> Iterator[str]:
    """What would fit or be faster, why, and the options that set it."""
    for each in plan.suggestions:
        yield titled(tr("faster") if each.is_faster else tr("fits"), f"{tr(each.title)}, {tr(each.reason)}")
        yield f"    {each.arguments}"


def finding_lines(plan: Plan) -> Iterator[str]:
    """What was found, one line each, hints indented below."""
    for found in plan.findings:
        yield f"{SEVERITY_MARK[found.severity]} {found.code}: {tr(found.message)}"
        if found.hint:
            yield f"    {tr(found.hint)}"


def precision(plan: Plan) -> str:
    """`bf16, checkpointing` and the ZeRO stage."""
    spec = plan.spec
    words = ["bf16" if spec.train.bf16 else "fp32"]
    if spec.train.gradient_checkpointing:
        words.append(tr("gradient checkpointing"))
    if spec.deepspeed is not None:
        words.append(f"ZeRO-{spec.zero_stage}")
    return ", ".join(words)


def rehearsal_notice(plan: Plan) -> str:
    """The first line of a rehearsal: what it is and what it is not."""
    spec = plan.spec
    words = tr(
        "REHEARSAL: {why}. The same method, launcher and code path run on {ranks} CPU ranks "
        "with {model} and {data}; figures say nothing about a GPU.",
        why=_why_on_cpu(plan),
        ranks=spec.num_gpus,
        model=spec.model.name_or_path,
        data=spec.data.train,
    )
    return words + (" " + tr("Replaced: {settings}.", settings=", ".join(plan.replaced)) if plan.replaced else "")


def rehearsal_headline(plan: Plan) -> str:
    """`rehearsal_notice` for a screen: what runs here, and what its figures are not."""
    return tr(
        "{why}: {ranks} CPU ranks train {model}; figures say nothing about a GPU",
        why=_why_on_cpu(plan),
        ranks=plan.spec.num_gpus,
        model=plan.spec.model.name_or_path,
    )


def _why_on_cpu(plan: Plan) -> str:
    return tr("the CPU was asked for") if plan.machine.cards else tr("no NVIDIA card was found")


def parts_text(card: CardMemory) -> str:
    """`weights 0.4, … context 1.2 GiB`; what the allocator adds to the parts is told as its overhead."""
    sizes = card_parts(card)
    return ", ".join(f"{tr(name)} {size / GIB:.1f}" for name, size in sizes.items() if size >= GIB / 20) + " GiB"


def card_parts(card: CardMemory) -> dict[str, int]:
    """All that a card will show as used, by part; what the allocator adds to the requested bytes is its overhead."""
    overhead = card.need.reserved - card.need.requested
    return {**memory_parts(card), "overhead": overhead, "context": card.context}


def prediction_lines(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Each record's predicted peaks, and their errors where they were measured."""
    for each in predictions:
        figures = {"requested": each.requested, "allocated": each.allocated, "reserved": each.reserved}
        errors = each.error or {}
        shown = (
            f"{name} {size / GIB:7.3f}" + (f" {100 * errors[name]:+6.2f} %" if name in errors else "")
            for name, size in figures.items()
        )
        yield f"{each.id:<78} {'  '.join(shown)}  GiB{'  FALSE FIT' if each.false_fit else ''}"


def progress_line(snapshot: Snapshot, *, briefly: bool = False) -> str:
    """A run's present state on one line; `briefly`: without speed and memory, which stand elsewhere."""
    state, last = snapshot.state, snapshot.last
    if state.phase == "paused":
        word, text = phase_word(state), pause_text(snapshot.info, state, snapshot.taken)
        return " · ".join((text if text.startswith(tr(word)) else f"{tr(word)}: {text}", *_step_words(snapshot)[:2]))
    if last is None:
        progress = state.state.progress if state.state else None
        done = f" {tr(progress.what)} {progress.done:,}/{progress.total:,}" if progress else ""
        return f"{tr(state.phase)}: {tr(state.message)}{done}"
    words = _step_words(snapshot)
    if not briefly:
        words += [*figure_words(snapshot), *data_wait_words(snapshot)]
    if snapshot.sample and snapshot.sample.ranks and not briefly:
        words.append("RAM " + " ".join(f"{rank.rss / 2**20:.0f}" for rank in snapshot.sample.ranks) + " MiB")
    if snapshot.sample and snapshot.sample.cards and not briefly:
        words.append("VRAM " + " ".join(f"{card.used / GIB:.1f}" for card in snapshot.sample.cards) + " GiB")
    if snapshot.seconds_left and state.alive:
        words.append(tr("{time} left", time=duration(snapshot.seconds_left)))
    if state.phase != "running":
        words.append(tr(state.phase))
    return " · ".join(words)


def data_wait_words(snapshot: Snapshot) -> list[str]:
    """`waits for data 12%`: the share of the last steps, where it is worth telling."""
    wait = snapshot.data_wait
    return [] if wait is None or wait < WORTH_TELLING else [tr("waits for data {share:.0%}", share=wait)]


def _step_words(snapshot: Snapshot) -> list[str]:
    """Step, loss and learning rate; nothing before the first step."""
    last = snapshot.last
    if last is None:
        return []
    total = snapshot.max_steps or last.step
    return [
        tr("step {step:,}/{total:,}", step=last.step, total=total),
        tr("loss {loss}", loss=loss_text(last.loss)),
        f"lr {last.learning_rate:.2e}",
    ]


def phase_word(state: RunState) -> str:
    """The phase as people call it: a paused run that only waits for its cards is queued."""
    until = state.state.until if state.state is not None else None
    return "queued" if state.phase == "paused" and until is None else state.phase


def pause_text(info: RunInfo, state: RunState, now: float) -> str:
    """`paused until 22:00 (in 3 h 05 min)`, by the clock of its window; else for what a paused run waits."""
    until = state.state.until if state.state is not None else None
    if until is None:
        return tr(state.message or phase_word(state))
    left = " " + tr("(in {time})", time=duration(until - now)) if until > now else ""
    return tr("paused until {clock}", clock=_clock_text(until, info.spec.get("schedule"))) + left


def headline(state: RunState) -> str:
    """The one sentence on a run's phase: of a failed run its diagnosis, where there is one."""
    found = state.diagnosis if state.phase == "failed" else None
    return tr(state.message if found is None or state.message.endswith(found.sentence) else found.sentence)


def note_text(info: RunInfo, state: RunState, now: float) -> str:
    """What a list says of a run besides its phase: until when it is paused, why it failed or rests; mostly nothing."""
    if state.phase == "paused":
        return pause_text(info, state, now)
    # Nobody stopped it: its supervisor, or the machine, went away while it was paused.
    forgotten = state.phase == "stopped" and state.state is not None and state.state.phase == "paused"
    return headline(state) if state.phase == "failed" or forgotten else ""


def recovery_texts(recoveries: Iterable[Recovery]) -> Iterator[str]:
    """`batch 8 x 16 → 4 x 32 after an out-of-memory, from step 120 on`: each recovery, in their order."""
    for recovery in recoveries:
        keys = [f"train.{name}" for name in ("per_device_train_batch_size", "gradient_accumulation_steps")]
        if recovery.after.keys() == set(keys):
            change = (
                tr("batch")
                + " "
                + " → ".join(
                    " × ".join(str(values[key]) for key in keys) for values in (recovery.before, recovery.after)
                )
            )
        else:
            change = ", ".join(
                f"{key.removeprefix('train.')} {recovery.before[key]} → {value}"
                for key, value in recovery.after.items()
            )
        yield tr("{change} after an out-of-memory, from step {step:,} on", change=change, step=recovery.step)


def change_texts(changes: Iterable[Change]) -> Iterator[str]:
    """`num_gpus 3 → 2, gradient_accumulation_steps 2 → 3 from step 14 on`: what each resume changed."""
    for change in changes:
        words = (
            f"{key.removeprefix('train.')} {value_text(change.before[key])} → {value_text(value)}"
            for key, value in change.after.items()
        )
        yield tr("{change} from step {step:,} on", change=", ".join(words), step=change.step)


def value_text(value: object) -> str:
    """A value of a spec as YAML has it; `empty` for none."""
    return tr("empty") if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def alert_text(alert: Event) -> str:
    """`✗ stall: no step for 75 s`: sign, name and message on one line."""
    return f"{SEVERITY_MARK[alert.severity]} {alert.name}: {tr(' '.join(alert.message.split()))}"


def moment_text(moment: float) -> str:
    """Unix seconds as `2026-01-31 22:04:09`, by this machine's clock."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def _clock_text(moment: float, schedule: object) -> str:
    """A moment as `22:00` by the clock of a daily window; its zone stands behind where this machine's differs."""
    here = datetime.fromtimestamp(moment).strftime("%H:%M")
    window = _window(schedule)
    if window is None or window.clock(moment) == here:
        return here
    return f"{window.clock(moment)} {window.zone}"


def _window(schedule: object) -> Window | None:
    try:
        return parse_window(schedule) if isinstance(schedule, str) else None
    except ValueError:  # the run directory came from elsewhere
        return None


def plain_text(text: str) -> str:
    """A text from a log without colours and other control characters."""
    return _NOT_TEXT.sub("", text).expandtabs(4)


def loss_text(loss: float | None) -> str:
    """A loss, or that it was not finite."""
    return tr("not finite") if loss is None else f"{loss:.4f}"


def summary_lines(snapshot: Snapshot) -> Iterator[str]:
    """What a finished, stopped or failed run was, and where it is."""
    yield f"{tr(snapshot.state.phase)}: {headline(snapshot.state)}"
    yield from _failure_lines(snapshot)
    if snapshot.prepared is not None:
        yield result_line(tr("data"), tr(prepared_text(snapshot.prepared)))
    yield from (result_line(name, text) for name, text in result_rows(snapshot))
    yield from (result_line(tr("changed"), text) for text in change_texts(snapshot.info.changes))
    yield from (result_line(tr("recovered"), text) for text in recovery_texts(snapshot.info.recoveries))
    yield from (result_line(tr("alert"), alert_text(alert)) for alert in snapshot.alerts)
    if snapshot.note:
        yield result_line(tr("note"), snapshot.note)
    if snapshot.rejected_lines:
        text = tr("{count:,} lines of its files that cannot be read", count=snapshot.rejected_lines)
        yield result_line(tr("left out"), text)
    yield result_line(tr("run directory"), str(snapshot.run.path))


def _failure_lines(snapshot: Snapshot) -> Iterator[str]:
    """What would help a failed run, the end of the first failing rank's traceback, and where to read on."""
    diagnosis = snapshot.diagnosis
    if diagnosis is not None:
        if diagnosis.hint:
            yield f"→ {tr(diagnosis.hint)}"
        lines = plain_text(diagnosis.detail).strip("\n").splitlines()
        if lines:
            name = tr("its log") if diagnosis.rank is None else tr("rank {rank}", rank=diagnosis.rank)
            yield result_line(name, lines[0])
            yield from ("    …",) if len(lines) > TRACEBACK_LINES + 1 else ()
            yield from (f"    {line}" for line in lines[1:][-TRACEBACK_LINES:])
    if snapshot.state.phase == "failed":
        yield result_line(tr("logs"), log_place(snapshot))


def log_place(snapshot: Snapshot) -> str:
    """The log to read after a failure: of the rank that failed first, else all of them."""
    rank = snapshot.diagnosis.rank if snapshot.diagnosis is not None else None
    return str(snapshot.run.logs if rank is None else snapshot.run.rank_log(rank))


def result_rows(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """The figures of a run that ended well, and what any that ended took of its first card: names and texts."""
    result = snapshot.result
    if result is not None and snapshot.state.phase in ("finished", "stopped"):
        yield from _result_rows(result, snapshot.evaluations[-1].chrf if snapshot.evaluations else None)
    peak = vram_peak(snapshot)
    if peak is not None:
        yield (tr("on card {index}", index=peak.card), vram_text(peak))


def vram_text(peak: VramPeak) -> str:
    """`4.25 GiB allocated (predicted 4.21, -0.9 %), 4.63 reserved (4.65), 0.64 beside it (0.62)`."""
    predicted, errors = peak.predicted, peak.errors
    allocated, reserved, beside = "", "", ""
    if predicted is not None:
        error = f", {100 * errors['allocated']:+.1f} %" if "allocated" in errors else ""
        allocated = " " + tr("(predicted {size:.2f}{error})", size=predicted.allocated / GIB, error=error)
        reserved, beside = (f" ({size / GIB:.2f})" for size in (predicted.reserved, predicted.context))
    words = f"{gib(peak.allocated)} {tr('allocated')}{allocated}, {peak.reserved / GIB:.2f} {tr('reserved')}{reserved}"
    return words if peak.beside is None else f"{words}, {peak.beside / GIB:.2f} {tr('beside it')}{beside}"


def _result_rows(result: Result, chrf: float | None) -> Iterator[tuple[str, str]]:
    yield (tr("loss"), f"{loss_text(result.loss_first)} → {loss_text(result.loss_last)}")
    if result.eval_loss is not None:
        text = tr("loss {loss}", loss=f"{result.eval_loss:.4f}") + (f", chrF {chrf:.1f}" if chrf is not None else "")
        yield (tr("evaluation"), text)
    yield (tr("throughput"), tr("{rate:.1f} samples/s", rate=result.samples_per_second))
    ranks = (f"{tr('rank {rank}', rank=rank)} {mib(size)}" for rank, size in enumerate(result.peak_rss_per_rank))
    yield (tr("peak RAM"), ", ".join(ranks))
    if result.peak_vram_per_card:
        cards = (f"{tr('card {index}', index=card)} {gib(size)}" for card, size in enumerate(result.peak_vram_per_card))
        yield (tr("peak VRAM"), ", ".join(cards))
    yield (tr("checkpoint"), result.checkpoint or tr("none"))


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """A run as JSON values: its state, its last step and its result."""
    import msgspec

    last: Step | None = snapshot.last
    return {
        "run_id": snapshot.run.run_id,
        "path": str(snapshot.run.path),
        "note": snapshot.note,
        "phase": snapshot.state.phase,
        "message": snapshot.state.message,
        "alive": snapshot.state.alive,
        "until": snapshot.state.state.until if snapshot.state.state and snapshot.state.phase == "paused" else None,
        "alerts": [
            {"name": alert.name, "severity": alert.severity, "message": alert.message, "time": alert.time}
            for alert in snapshot.alerts
        ],
        "diagnosis": msgspec.to_builtins(snapshot.diagnosis) if snapshot.diagnosis else None,
        "recoveries": msgspec.to_builtins(snapshot.info.recoveries),
        "changes": msgspec.to_builtins(snapshot.info.changes),
        "max_steps": snapshot.max_steps,
        "last": msgspec.to_builtins(last) if last else None,
        "evaluation": msgspec.to_builtins(snapshot.evaluations[-1]) if snapshot.evaluations else None,
        "result": msgspec.to_builtins(snapshot.result) if snapshot.result else None,
        "vram": _vram_json(vram_peak(snapshot)),
        "samples_per_second": snapshot.samples_per_second,
        **figures_json(snapshot),
        "rejected_lines": snapshot.rejected_lines,
        "prepared": msgspec.to_builtins(snapshot.prepared) if snapshot.prepared else None,
    }


def _vram_json(peak: VramPeak | None) -> dict[str, Any] | None:
    if peak is None:
        return None
    import msgspec

    found: dict[str, Any] = {**msgspec.to_builtins(peak), "errors": peak.errors}
    return found


def run_row(snapshot: Snapshot) -> tuple[str, ...]:
    """One run as cells: id, age, method, phase, progress and what else is to be said."""
    info, state, last, total = snapshot.info, snapshot.state, snapshot.last, snapshot.max_steps
    age = duration(max(0.0, snapshot.taken - info.created))
    note = note_text(info, state, snapshot.taken)
    steps = tr("step {step:,}/{total:,}", step=last.step, total=total) if last and total else ""
    progress = steps or ("" if note else tr(state.message))
    own = f"✎ {snapshot.note}" if snapshot.note else ""
    words = (" ".join(part.split()) for part in (progress, note, own) if part)
    word = tr(phase_word(state))
    return (snapshot.run.run_id, tr("{age} ago", age=age), str(info.spec.get("method")), word, " · ".join(words))
