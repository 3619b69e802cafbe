"""How long each end of a run takes on real cards, and whether it gives their memory back: `-m tests.benchmarks.ends`.

A t5-small trains on every card, under each launcher. Its end is clocked from the blow to the last process gone, and
again to each card's memory being back at its level before the run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from types import MappingProxyType

from t5panel.contract.layout import RunDir
from t5panel.launch.release import RELEASE_TOLERANCE
from t5panel.monitor.hardware import Nvml
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_state
from t5panel.session import request_stop
from tests.faults.blows import PRESETS, signal_launcher, signal_rank, signal_supervisor, stop, stop_now
from tests.faults.observed import within
from tests.faults.passes import await_step
from tests.trainers.runs import reversed_words, start_run, write_pairs

SECONDS = 60.0
SETTINGS: Mapping[str, object] = MappingProxyType(
    {
        "device": "cuda",
        "model.name_or_path": "builtin:t5-small",
        "train.bf16": True,
        "train.gradient_checkpointing": True,
        "train.optim": "adamw_torch_fused",
        "train.max_steps": 100_000,
        "oom_recovery": False,
    }
)
ENDS: Mapping[str, Callable[[RunDir, int], object]] = MappingProxyType(
    {
        "stop": stop,
        "stop --now": stop_now,
        "SIGKILL to the last rank": signal_rank(signal.SIGKILL),
        "SIGKILL to the launcher": signal_launcher(signal.SIGKILL),
        "SIGKILL to the supervisor": signal_supervisor(signal.SIGKILL),
    }
)


def used(nvml: Nvml) -> list[int]:
    """Bytes in use on each card."""
    return [card.used for card in nvml.cards()]


def clock(run: RunDir, end: Callable[[RunDir, int], object], before: list[int], nvml: Nvml) -> str:
    """Seconds to the last process gone and to the memory being back, and what the run says of it.

    Raises: TimeoutError, AssertionError when something is left, or nothing was held.
    """

    def is_back() -> bool:
        return all(now <= level + RELEASE_TOLERANCE for now, level in zip(used(nvml), before, strict=True))

    await_step(run, 3)
    assert not is_back(), "the run holds nothing on a card"
    begin = time.monotonic()
    end(run, len(before) - 1)
    within(lambda: not marked(run), seconds=SECONDS)
    gone = time.monotonic() - begin
    within(is_back, seconds=SECONDS)
    back = time.monotonic() - begin
    within(lambda: not read_state(run).alive, seconds=SECONDS)
    return f"gone {gone:5.1f} s   VRAM back {back:5.1f} s   {read_state(run).message}"


def main() -> int:
    """Print a line for each launcher and end; 1 when one of them left something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PRESETS, action="append", help="this launcher; may be given several times")
    parser.add_argument("--end", choices=ENDS, action="append", help="this end; may be given several times")
    wanted = parser.parse_args()
    nvml, failed = Nvml(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {f"XDG_{kind}_HOME": str(folder / kind) for kind in ("STATE", "CACHE", "CONFIG")}
        words = reversed_words(2000, seed=1)
        data = write_pairs(folder / "words.jsonl", [(word, word[::-1]) for word in words])
        for number, (preset, end) in enumerate(product(wanted.only or PRESETS, wanted.end or ENDS)):
            before = used(nvml)
            run = start_run(folder / f"run-{number}", preset, data, {**SETTINGS, "num_gpus": len(before)})
            try:
                figures = clock(run, ENDS[end], before, nvml)
            except (TimeoutError, AssertionError) as error:
                figures = f"FAILED {type(error).__name__}: {error}; {read_state(run).message}"
                failed += 1
                request_stop(run, now=True)
            sys.stdout.write(f"{preset:10} {end:26} {figures}\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
