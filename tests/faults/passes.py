"""A training of a real model that loses a rank, is stopped, and is resumed both times equals an undisturbed one."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t5panel.contract.checkpoints import newest_checkpoint, step_of
from t5panel.contract.layout import RunDir
from t5panel.contract.records import Step
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_state
from t5panel.session import request_stop, resume
from tests.faults.observed import await_start, load_words, metrics_of, ranks_of, starts_of, within
from tests.faults.promises import Report
from tests.trainers.runs import reversed_words, start_run, steps, write_pairs

STEPS, SAVE_EVERY = 24, 4
SETTINGS: Mapping[str, Any] = {
    "train.max_steps": STEPS,
    "train.save_steps": SAVE_EVERY,
    "train.save_total_limit": 2,
    "train.eval_steps": 9,
    "train.dropout_rate": 0.1,  # the random state must come back too
    "train.max_grad_norm": 0.5,
    "data.max_eval_samples": 24,
}
TOLERANCE = {"manual": 0.0, "trainer": 0.0, "deepspeed": 1e-6}
"""How much the losses may differ, by preset."""
LONGEST_SECONDS = 300.0


@dataclass(frozen=True)
class FullPass:
    """One launcher's."""

    preset: str
    seed: int

    @property
    def name(self) -> str:
        """What it is called in a list of tasks."""
        return f"full pass {self.preset}"

    def carry_out(self, home: Path) -> Report:
        """Train twice, once undisturbed, and compare."""
        report = Report(passes=1)
        home.mkdir(parents=True, exist_ok=True)
        words = reversed_words(400, seed=1, shortest=3, longest=14)
        data = write_pairs(home / "words.jsonl", [(word, word[::-1]) for word in words])
        run = RunDir(home / "disturbed")
        try:
            whole = start_run(home / "whole", self.preset, data, SETTINGS)
            await_end(whole, "finished")
            start_run(run.path, self.preset, data, SETTINGS)
            disturb(run, random.Random(f"{self.preset} {self.seed}"), report)
            compare(whole, run, TOLERANCE[self.preset])
        except (TimeoutError, AssertionError, OSError) as error:
            words_of_run = read_state(run).message
            report.faults.append(f"{self.name}: {type(error).__name__}: {error}; {words_of_run} ({load_words()})")
        return report


def disturb(run: RunDir, dice: random.Random, report: Report) -> None:
    """Kill a rank, resume, stop, resume, and let it finish."""
    await_step(run, dice.randint(SAVE_EVERY + 1, 2 * SAVE_EVERY + 2))
    os.kill(ranks_of(run)[dice.randrange(3)].pid, signal.SIGKILL)
    report.blows["SIGKILL to a rank"] += 1
    await_end(run, "failed")
    state = read_state(run)
    report.deaths += 1
    assert state.diagnosis is not None
    assert state.diagnosis.code == "killed", state.message
    go_on(run, report)
    await_step(run, dice.randint(3 * SAVE_EVERY, 4 * SAVE_EVERY))
    begin = time.monotonic()
    request_stop(run, now=False)
    await_end(run, "stopped")
    report.took("stop", time.monotonic() - begin)
    report.blows["stop"] += 1
    go_on(run, report)
    await_end(run, "finished")


def go_on(run: RunDir, report: Report) -> None:
    """Resume from the newest checkpoint, nowhere else."""
    newest = newest_checkpoint(run)
    assert newest is not None
    before = len(starts_of(run))
    resume(run)
    report.resumes += 1
    assert (wrong := await_start(run, before, step_of(newest))) == "", wrong


def await_step(run: RunDir, step: int) -> None:
    """Wait until a step is logged."""
    within(
        lambda: any(isinstance(one, Step) and one.step >= step for one in metrics_of(run)) or not read_state(run).alive,
        seconds=LONGEST_SECONDS,
    )
    assert read_state(run).alive, read_state(run).message


def await_end(run: RunDir, phase: str) -> None:
    """Wait until the run ends, and nothing of it is left."""
    within(lambda: not read_state(run).alive, seconds=LONGEST_SECONDS)
    assert read_state(run).phase == phase, read_state(run).message
    within(lambda: not marked(run), seconds=10)


def compare(whole: RunDir, disturbed: RunDir, tolerance: float) -> None:
    """Every step that the disturbed run made, also those made twice, has the loss of the undisturbed one."""
    expected = {step.step: step.loss for step in steps(whole)}
    made = steps(disturbed)
    assert sorted(expected) == list(range(1, STEPS + 1))
    assert {step.step for step in made} == set(expected)
    assert made[-1].step == STEPS
    for step in made:
        loss = expected[step.step]
        assert step.loss is not None
        assert loss is not None
        assert math.isclose(step.loss, loss, rel_tol=0.0, abs_tol=tolerance), (
            f"step {step.step}: {step.loss}, not {loss}"
        )
