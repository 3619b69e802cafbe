"""The benchmarks run; what they print is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_benchmarks_print_every_figure_with_its_bar_and_the_panel_keeps_those_that_no_load_moves() -> None:
    root = Path(__file__).parent.parent.parent

    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.run", "--quick"], cwd=root, capture_output=True, text=True, check=True
    )

    rows = done.stdout.splitlines()[1:]
    living = ("run screen drawn", "run screen", "run screen, 1 Hz", "run screen, 1 Hz", "run behind the setup")
    assert [row.split(" ≤ ")[0].rstrip("0123456789. ") for row in rows] == [
        *("t5panel --version", "t5panel plan", "supervisor, sampling", "supervisor", "headless front"),
        *("keystroke in the setup", "first frame", "first frame, relative", "setup screen", *living),
        *("reopen a run", "compare it", "reopen a run", "compare it", "plot, any scale", *living),
    ]
    memory = ("supervisor  ", "headless front", "setup screen", "run screen  ")
    steady = ("first frame, relative", *memory, "run behind", "reopen", "compare")
    assert [row for row in rows if row.startswith(steady) and " OVER " in row] == []
