"""Where the ranks of a stalled run stand: their Python stacks, by themselves and by py-spy where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.contract.records import RankId
from t5panel.launch.helpers import Helpers
from t5panel.monitor.proc import is_alive

PY_SPY_SECONDS = 20.0


def dump_stacks(run: RunDir, ranks: Sequence[RankId], helpers: Helpers) -> None:
    """Have every living rank's stacks written to `logs/stacks-N.txt`; a rank registers its handler when it starts."""
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    for rank in ranks:
        if not is_alive(rank.pid, rank.start_time):
            continue
        if spy:
            helpers.start((spy, "dump", "--pid", str(rank.pid)), run.stacks(rank.rank), seconds=PY_SPY_SECONDS)
        with contextlib.suppress(OSError):
            os.kill(rank.pid, signal.SIGUSR2)
