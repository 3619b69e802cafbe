"""`python -m t5panel.trainers.simulator FOLDER` writes the memory table of the installed torch and transformers.

Minutes on a few cores. A table of a new version belongs into `t5panel/plan/tables`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from t5panel.trainers.simulator.build import build, kinds, write


def main() -> int:
    """Build the whole table of the installed versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--match", default="", help="only kinds whose name contains this")
    wanted = parser.parse_args()
    chosen = [kind for kind in kinds() if wanted.match in kind.key]
    path = write(build(chosen, wanted.jobs), wanted.folder)
    sys.stdout.write(f"{path}: {len(chosen)} kinds, {path.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
