"""What LLaMA-Factory's own parser says, as JSON: `python llamafactory_facts.py YAML...` in its environment."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import yaml

from t5panel.llamafactory_config import DEFAULTS
from t5panel.trainers import llamafactory_cli
from t5panel.trainers.llamafactory_modules import import_llamafactory

if __name__ == "__main__":
    parser = import_llamafactory().parser
    fields = [field for kind in parser._TRAIN_ARGS for field in dataclasses.fields(kind) if field.init]
    defaults = {field.name: field.default for field in fields if field.name in DEFAULTS}
    parsed = []
    for file in sys.argv[1:]:
        given = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        found: dict[str, object] = {}
        for part in parser._parse_train_args(given):
            found |= {key: getattr(part, key) for key in given if hasattr(part, key)}
        parsed.append(found)
    started: list[list[str]] = []

    class Ended:
        """A launcher's process that has ended well."""

        returncode = 0

    def remember(words: list[str], **_: object) -> Ended:
        started.append(words)
        return Ended()

    from llamafactory import launcher

    launcher.subprocess.run = remember
    os.environ |= {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "3", "RDZV_ID": "of-a-shell"}
    sys.argv[1:] = ["train"]
    with suppress(SystemExit):
        llamafactory_cli.main()
    facts = {"cli": started, "keys": sorted({field.name for field in fields}), "defaults": defaults, "parsed": parsed}
    sys.stdout.write("\n" + json.dumps(facts, default=str) + "\n")
