"""A fake launcher: `python fake_launcher.py RUN ENDING BEHAVIOUR...` starts a fake rank per behaviour, then ends so.

Endings: `waits` for its ranks and returns 0; `leaves` them alive and returns 0 as soon as they live; `finishes` with a
result and returns 1; `lingers` with a result; `fails` without a result and returns 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from t5panel.contract.layout import RunDir
from tests.house.fake_rank import write_result


def launch(run: RunDir, ending: str, behaviours: list[str]) -> int:
    """Start the ranks, end as told; the exit code."""
    program = str(Path(__file__).with_name("fake_rank.py"))
    ranks = [
        subprocess.Popen(
            [sys.executable, program, str(run.path), behaviour],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(behaviours))},
        )
        for rank, behaviour in enumerate(behaviours)
    ]
    match ending:
        case "waits":
            for rank in ranks:
                rank.wait()
        case "leaves":
            while len(list(run.logs.glob("alive-*"))) < len(ranks):
                time.sleep(0.01)
        case "finishes":
            write_result(run, "finished")
            return 1
        case "lingers":
            write_result(run, "finished")
            time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(launch(RunDir(Path(sys.argv[1])), sys.argv[2], sys.argv[3:]))
