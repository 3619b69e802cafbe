"""What an interpreter's torch was built for, read from its files: torch itself is never loaded here."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec

from t5panel.monitor.hardware import Driver
from t5panel.plan.planning import Finding

_VERSION = re.compile(r"^__version__\s*=\s*'([^']*)'", re.MULTILINE)
_CUDA = re.compile(r"^cuda\b[^=\n]*=\s*'(\d+)\.(\d+)", re.MULTILINE)


class TorchBuild(msgspec.Struct, frozen=True):
    """An installed torch and the CUDA it brings, `(13, 0)`; None for a build without CUDA."""

    version: str
    cuda: tuple[int, int] | None


def read_build(interpreter: str | None) -> TorchBuild | None:
    """The torch of an interpreter, ours for None; None when its files are not where a venv has them."""
    for file in _version_files(interpreter):
        text = file.read_text(encoding="utf-8", errors="replace")
        if version := _VERSION.search(text):
            cuda = _CUDA.search(text)
            return TorchBuild(version[1], (int(cuda[1]), int(cuda[2])) if cuda else None)
    return None


def _version_files(interpreter: str | None) -> Iterator[Path]:
    if interpreter is None or interpreter == sys.executable:
        spec = find_spec("torch")
        folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    else:
        program = Path(shutil.which(interpreter) or interpreter)
        folders = sorted(program.parent.parent.glob("lib/python3.*/site-packages/torch"))
    yield from (file for folder in folders if (file := folder / "version.py").is_file())


def build_findings(build: TorchBuild | None, driver: Driver | None) -> tuple[Finding, ...]:
    """What stands against this torch on a machine with this driver; nothing where either is not known.

    A driver runs every CUDA of its own major version: https://docs.nvidia.com/deploy/cuda-compatibility/
    """
    if build is None or driver is None:
        return ()
    if build.cuda is None:
        message = f"torch {build.version} is built without CUDA: it cannot use the cards"
        hint = f"install a CUDA build of torch{_newest(driver)} into the trainer's interpreter"
        return (Finding("error", "torch.no-cuda", message, hint),)
    if driver.cuda is not None and build.cuda[0] > driver.cuda[0]:
        message = (
            f"torch {build.version} needs CUDA {_dotted(build.cuda)}, "
            f"driver {driver.version} runs CUDA {_dotted(driver.cuda)} at most"
        )
        return (Finding("error", "torch.cuda", message, "update the driver, or install a torch for an older CUDA"),)
    return ()


def _newest(driver: Driver) -> str:
    return f" (CUDA {_dotted(driver.cuda)} or older)" if driver.cuda else ""


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
