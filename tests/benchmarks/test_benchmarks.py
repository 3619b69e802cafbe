"""The benchmarks run; what they print is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_benchmarks_print_every_figure_with_its_bar() -> None:
    root = Path(__file__).parent.parent.parent

    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.run", "--quick"], cwd=root, capture_output=True, text=True, check=True
    )

    assert [line.split(" ≤ ")[0].rstrip("0123456789. ") for line in done.stdout.splitlines()[1:]] == [
        *("t5panel --version", "t5panel plan", "supervisor, sampling", "supervisor", "headless front"),
        "keystroke in the setup",
        *("reopen a long run", "plot of a long run"),
    ]
