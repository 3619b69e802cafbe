"""Files of a run as a crash or a power cut leaves them: what is whole is taken, what is torn never is."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.checkpoints import checkpoints_of
from t5panel.contract.layout import RunDir, append_line
from t5panel.contract.records import Metric, Start, Step, encode_line
from t5panel.monitor.history import History, Snapshot
from t5panel.monitor.runs import read_state
from t5panel.session import request_stop, spawn_supervisor
from t5panel.trainers.checkpoint import newest_verified
from t5panel.trainers.report import first_loss
from tests.faults.light import SAVE_EVERY
from tests.faults.observed import RANKS, await_steps, is_whole
from tests.house.household import House, eventually

LAST_BYTES = 200


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    """A real run of light ranks that was stopped behind its second checkpoint, and saved a third one then."""
    home = tmp_path_factory.mktemp("light")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("STATE", "CACHE", "CONFIG"):
            patch.setenv(f"XDG_{kind}_HOME", str(home))
        house = House(home, {})
        run = house.launched_by(house.fake_run("waits", *["light"] * RANKS), "manual", "tests.faults.light")
        spawn_supervisor(run)
        await_steps(run, 2 * SAVE_EVERY + 5)
        request_stop(run, now=False)
        eventually(lambda: not read_state(run).alive, seconds=60)
        yield run


@pytest.fixture
def run(stopped: RunDir, tmp_path: Path) -> RunDir:
    """A copy of it, to be damaged."""
    shutil.copytree(stopped.path, tmp_path / "run")
    return RunDir(tmp_path / "run")


@pytest.mark.parametrize("seed", range(60))
def test_a_checkpoint_cut_anywhere_is_left_for_the_newest_whole_one(seed: int, run: RunDir) -> None:
    dice = random.Random(seed)
    *_, older, newest = checkpoints_of(run)
    path = dice.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
    with path.open("r+b") as file:
        file.truncate(dice.randrange(path.stat().st_size))

    chosen, damaged = newest_verified(run)

    assert (chosen, damaged) == (older, (newest,))
    assert is_whole(older)


def test_the_whole_one_is_found_however_many_are_cut(run: RunDir) -> None:
    folders = checkpoints_of(run)
    assert len(folders) >= 2

    for count, folder in enumerate(reversed(folders), start=1):
        (folder / "state-1.bin").write_bytes(b"")
        left = folders[: len(folders) - count]
        assert newest_verified(run)[0] == (left[-1] if left else None)


def test_records_cut_at_any_of_the_last_bytes_lose_the_torn_one_and_no_other(run: RunDir) -> None:
    content, first = run.metrics.read_bytes(), first_loss(run.metrics)
    assert len(content) > LAST_BYTES

    for length in range(len(content) - LAST_BYTES, len(content)):
        run.metrics.write_bytes(content[:length])
        living = History(run)
        whole = steps_in(content[: content.rfind(b"\n", 0, length) + 1])

        assert steps_of(living.refresh()) == whole

        resume_at = whole[-1] - 5
        append_line(run.metrics, encode_line(started_at(resume_at)))  # as rank 0 does at a resume
        kept = [step for step in whole if step <= resume_at]

        assert steps_of(living.refresh()) == kept
        assert steps_of(History(run).refresh()) == kept
        assert first_loss(run.metrics) == first
        assert run.metrics.read_bytes().startswith(content[:length])


def steps_in(lines: bytes) -> list[int]:
    """The steps that whole lines tell of."""
    metrics = msgspec.json.Decoder(Metric).decode_lines(lines)
    return [metric.step for metric in metrics if isinstance(metric, Step)]


def steps_of(snapshot: Snapshot) -> list[int]:
    """The steps of a curve as a view gets it; no value of it is missing."""
    rows = snapshot.steps.rows(0, math.inf)
    assert len(rows.of("loss")) == len(rows.steps) == len(snapshot.steps)
    return list(rows.steps)


def started_at(step: int) -> Start:
    """The first record of a resumed run."""
    return Start(0.0, step, 1000, world_size=RANKS, parameters=1, train_rows=1, eval_rows=1, effective_batch=1)
