"""A whole run as text, JSON values or a row of a list: its results, or why it failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from t5panel.cells import left
from t5panel.contract.records import Result, Step
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.monitor.runs import prepared_text
from t5panel.monitor.vram import VramPeak, vram_peak
from t5panel.plan.machine import GIB
from t5panel.render.faults import alert_text
from t5panel.render.figures import figures_json
from t5panel.render.state import change_texts, headline, note_text, phase_word, recovery_texts
from t5panel.render.values import duration, gib, loss_text, mib, plain_text

RESULT_NAME_CELLS = 15
TRACEBACK_LINES = 8
"""Of a traceback's end: its last frames and the exception."""


def result_line(name: str, text: str) -> str:
    """A line of a summary: its name in fifteen cells, then what there is to say."""
    return f"{left(name, RESULT_NAME_CELLS)}{text}"


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
