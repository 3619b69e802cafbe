"""What a run is doing, in words: its phase, its progress, until when it is paused, what was changed on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from t5panel.contract.records import Change, Recovery, RunInfo
from t5panel.contract.window import Window, parse_window
from t5panel.language import tr
from t5panel.monitor.history import Snapshot
from t5panel.monitor.runs import RunState
from t5panel.plan.machine import GIB
from t5panel.render.figures import figure_words
from t5panel.render.values import duration, loss_text, value_text

WORTH_TELLING = 0.05
"""Share of a step spent waiting for data."""


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
