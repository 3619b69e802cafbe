"""What a run says of itself in words: pauses, recoveries, failures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from t5panel.contract.records import CommandInfo, Diagnosis, Phase, ProcessId, Recovery, RunInfo, State
from t5panel.monitor.runs import RunState
from t5panel.render.state import headline, note_text, pause_text, phase_word, recovery_texts
from t5panel.render.values import plain_text

TEN = datetime(2026, 1, 31, 22, tzinfo=UTC).timestamp()
NOW = TEN - 3 * 3600 - 300


def info(*, schedule: str | None = "22:00-08:00 UTC") -> RunInfo:
    """A run with a daily window."""
    command = CommandInfo((), {})
    return RunInfo("r", "manual", 0.0, {"schedule": schedule}, command, command, (), "python", {}, {})


def state(
    phase: Phase, message: str = "", *, until: float | None = None, diagnosis: Diagnosis | None = None
) -> RunState:
    """A state as the supervisor wrote it."""
    written = State(phase, "r", "", 0.0, ProcessId(1, 1), None, (), message=message, until=until, diagnosis=diagnosis)
    return RunState(phase, message, alive=phase == "paused", state=written, diagnosis=diagnosis)


def test_a_pause_says_until_when_by_the_clock_of_its_window() -> None:
    berlin = pause_text(info(schedule="23:00-08:00 Asia/Kathmandu"), state("paused", until=TEN), NOW)

    assert pause_text(info(), state("paused", until=TEN), NOW).endswith("(in 3 h 05 min)")
    assert pause_text(info(), state("paused", until=TEN), NOW).startswith("paused until 22:00")
    assert berlin == "paused until 03:45 Asia/Kathmandu (in 3 h 05 min)"


def test_a_pause_that_is_about_to_end_names_no_negative_time() -> None:
    assert "(" not in pause_text(info(), state("paused", until=TEN), TEN + 1)


def test_a_broken_window_in_a_foreign_run_costs_only_its_zone() -> None:
    assert pause_text(info(schedule="whenever"), state("paused", until=TEN), NOW).startswith("paused until ")


def test_a_run_that_waits_for_cards_is_queued_and_says_for_what() -> None:
    waiting = state("paused", "queued: card 0 is used by fake-1")

    assert phase_word(waiting) == "queued"
    assert note_text(info(), waiting, NOW) == "queued: card 0 is used by fake-1"
    assert phase_word(state("paused", until=TEN)) == "paused"
    assert pause_text(info(), state("paused"), NOW) == "queued"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the ranks ended without a result", "CUDA out of memory on rank 1"),
        ("CUDA out of memory on rank 1; a smaller batch helps", "CUDA out of memory on rank 1"),
        ("asked to stop, but CUDA out of memory on rank 1", "asked to stop, but CUDA out of memory on rank 1"),
    ],
)
def test_a_failed_run_is_headed_by_its_diagnosis(message: str, shown: str) -> None:
    found = Diagnosis("cuda-out-of-memory", "CUDA out of memory on rank 1")

    assert headline(state("failed", message, diagnosis=found)) == shown
    assert headline(state("failed", message)) == message
    assert note_text(info(), state("finished", message), NOW) == ""


def test_a_recovery_says_what_the_batch_was_and_is() -> None:
    def sizes(batch: int, accum: int) -> dict[str, int | bool]:
        return {"train.per_device_train_batch_size": batch, "train.gradient_accumulation_steps": accum}

    halved = Recovery(0, 120, "", sizes(8, 16), sizes(4, 32))
    evaluating = Recovery(
        0, 1_200, "", {"train.per_device_eval_batch_size": 16}, {"train.per_device_eval_batch_size": 8}
    )

    assert list(recovery_texts((halved, evaluating))) == [
        "batch 8 × 16 → 4 × 32 after an out-of-memory, from step 120 on",
        "per_device_eval_batch_size 16 → 8 after an out-of-memory, from step 1,200 on",
    ]


def test_a_text_of_a_log_loses_its_colours_and_bells() -> None:
    assert plain_text("\x1b[31mred\x1b[0m\a\tword\n") == "red word\n"
