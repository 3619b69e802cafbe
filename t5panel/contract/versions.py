"""The packages that a trainer needs, and which of them are installed."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("torch", "transformers", "accelerate", "deepspeed", "datasets", "pyarrow", "numpy"),
    *("sacrebleu", "sentencepiece", "protobuf"),
)
"""What every trainer needs."""
OTHERS = ("llamafactory", "peft", "trl")
"""What only one of them needs; their versions are told where they are installed."""
SHOWN = ("llamafactory", "torch", "transformers", "accelerate", "deepspeed")
"""What is shown of them where there is little room."""


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages of trainers, without importing one; missing packages are left out."""
    found = {"python": sys.version.split()[0]}
    for name in (*PACKAGES, *OTHERS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
