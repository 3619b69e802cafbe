"""The packages that a trainer needs, and which of them are installed."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("torch", "transformers", "accelerate", "deepspeed", "datasets", "pyarrow", "numpy"),
    *("sacrebleu", "sentencepiece", "protobuf"),
)


def installed_versions() -> dict[str, str]:
    """Versions of Python and of these packages, without importing one; missing packages are left out."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
