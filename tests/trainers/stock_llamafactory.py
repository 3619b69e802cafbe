"""LLaMA-Factory as it is, started as its own launcher starts it: `python stock_llamafactory.py ARGUMENTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from t5panel.trainers.llamafactory_modules import import_llamafactory

if __name__ == "__main__":
    import_llamafactory().tuner.run_exp(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
