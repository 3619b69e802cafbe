"""Panels that come and go beside a real training: `python -m tests.benchmarks.visits [--count 100]`. Prints figures."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.monitor.history import History
from t5panel.monitor.runs import read_state
from t5panel.session import prospect, request_stop, start
from t5panel.wish import Wish
from tests.house.household import ended, eventually
from tests.tui.visits import traces_of, visit

SETTINGS = {
    "device": "cpu",
    "num_gpus": 2,
    "train.max_steps": 1_000_000,
    "train.logging_steps": 1,
    "train.save_steps": 1_000_000,
    "train.eval_steps": 1_000_000,
}
QUIET_SECONDS = 20.0


@contextmanager
def training() -> Iterator[RunDir]:
    """A rehearsal of the manual preset that makes steps until it is stopped."""
    run = start(prospect(Wish("manual", SETTINGS, None)))
    try:
        eventually(lambda: steps_of(run) > 20, seconds=180)
        yield run
    finally:
        request_stop(run, now=True)
        ended(run)


def steps_of(run: RunDir) -> int:
    """The newest step."""
    last = History(run).refresh().last
    return last.step if last is not None else 0


def main(words: list[str]) -> None:
    """Visit it so many times, and say what is left of that."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.visits", description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    count = parser.parse_args(words).count
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("STATE", "CACHE", "CONFIG"):
            os.environ[f"XDG_{kind}_HOME"] = str(Path(folder) / kind.lower())
        with training() as run:
            begin = steps_of(run)
            time.sleep(QUIET_SECONDS)
            quiet = (steps_of(run) - begin) / QUIET_SECONDS
            before, begin, clock = traces_of(run), steps_of(run), time.monotonic()
            visits = [visit("tokens/s") for _ in range(count)]
            seconds = time.monotonic() - clock
            made, after, alive = steps_of(run) - begin, traces_of(run), read_state(run).alive
    ends = sum(one.exit_code == 0 for one in visits)
    screens, settings = sum(one.screen_left for one in visits), sum(one.settings_restored for one in visits)
    for line in (
        f"{count} panels in {seconds:.0f} s: {ends} ended with 0, {screens} left the alternate screen, "
        f"{settings} gave the terminal's settings back",
        f"panels left {len(after.panels)}, open files of the supervisor {before.supervisor_files} → "
        f"{after.supervisor_files}, files of the run {len(before.files)} → {len(after.files)}, "
        f"processes {'the same' if before.processes == after.processes else 'others'} ({len(after.processes)})",
        f"the run {'lives' if alive else 'has ended'}: {made} steps meanwhile, {made / seconds:.2f} a second; "
        f"{quiet:.2f} without a panel",
    ):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
