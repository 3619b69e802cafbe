"""The environments beside the panel's own: where they are, what they hold exactly, and how they stand."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

from t5panel.contract.layout import environments_home

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

EnvironmentName = Literal["llamafactory"]
ENVIRONMENTS: tuple[EnvironmentName, ...] = ("llamafactory",)
Condition = Literal["absent", "unfinished", "other", "ready"]
TESTED = ("llamafactory", "transformers", "accelerate")
"""Packages of whose private names the LLaMA-Factory trainer makes use: another version may mean something else."""
LINKED = ("t5panel", "torch")
"""What an environment does not install: it takes both from the panel's own environment."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What the setup leaves when everything could be imported."""

    constraints: str
    """Digest of the constraints file."""
    versions: dict[str, str]
    """Of Python and of the packages that matter to a run."""
    seconds: float
    size: int
    """Bytes of its own on the disk."""


@dataclass(frozen=True)
class Environment:
    """An environment as it stands."""

    name: EnvironmentName
    path: Path
    condition: Condition
    problem: str = ""
    """Why it cannot be used; empty when it can."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return python_in(self.path)


def environment_path(name: EnvironmentName) -> Path:
    """The folder of an environment."""
    return environments_home() / name


def python_in(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    """Where an environment for this Python has its packages: another Python could not load the panel's torch."""
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def finished_file(folder: Path) -> Path:
    """What the setup writes last."""
    return folder / "finished.json"


def constraints_file(name: EnvironmentName) -> Path:
    """The exact versions of an environment's packages, as they ship."""
    return Path(str(files("t5panel"))) / "constraints" / f"{name}.txt"


@cache
def pins(name: EnvironmentName) -> Mapping[str, str]:
    """Package → version of a constraints file."""
    lines = constraints_file(name).read_text(encoding="utf-8").splitlines()
    return MappingProxyType(dict(line.split("==") for line in lines if "==" in line))


def digest_of(name: EnvironmentName) -> str:
    """Changes whenever the constraints do."""
    import hashlib  # 4 MiB of OpenSSL, which a panel on a run does without

    return hashlib.sha256(constraints_file(name).read_bytes()).hexdigest()


def setup_command(name: EnvironmentName) -> str:
    """What a user types to make or mend it."""
    return f"t5panel setup {name}"


def environment_of(spec: RunSpec) -> EnvironmentName | None:
    """The environment that a run needs; None for the panel's own, and for an interpreter that the user named."""
    if spec.method != "llamafactory" or spec.interpreter not in (
        None,
        str(python_in(environment_path("llamafactory"))),
    ):
        return None
    return "llamafactory"


def with_interpreter(spec: RunSpec) -> RunSpec:
    """The same spec with the interpreter that its method needs, where the user names none."""
    name = environment_of(spec)
    if name is None:
        return spec
    return spec.model_copy(update={"interpreter": str(python_in(environment_path(name)))})


def read_environment(name: EnvironmentName) -> Environment:
    """How an environment stands, by its files alone: nothing is started or imported."""
    folder = environment_path(name)
    if not folder.exists():
        return Environment(name, folder, "absent", f"the environment {name} is not set up")
    try:
        finished = msgspec.json.decode(finished_file(folder).read_bytes(), type=Finished)
    except (OSError, msgspec.DecodeError):
        return Environment(name, folder, "unfinished", f"the setup of the environment {name} was not finished")
    if problem := _mismatch(name, folder, finished):
        return Environment(name, folder, "other", f"the environment {name} {problem}", finished.versions)
    return Environment(name, folder, "ready", versions=finished.versions)


def _mismatch(name: EnvironmentName, folder: Path, finished: Finished) -> str:
    """Why a finished environment does not fit the panel that asks; empty when it does."""
    if finished.constraints != digest_of(name):
        return "holds the packages of another version of t5panel"
    if not python_in(folder).exists() or not site_packages(folder).is_dir():
        return "was made for another Python"
    for package in LINKED:
        ours = package_folder(package)
        if ours is None or (site_packages(folder) / package).resolve() != ours.resolve():
            return f"uses the {package} of another installation"
    if finished.versions.get("torch") != own_version("torch"):
        return f"was tested with torch {finished.versions.get('torch')}, the panel has {own_version('torch')} now"
    return ""


def missing_environment(spec: RunSpec) -> str:
    """The command that makes or mends the environment of a run; empty when nothing is missing."""
    name = environment_of(spec)
    return "" if name is None or read_environment(name).condition == "ready" else setup_command(name)


def untested(versions: Mapping[str, str]) -> str:
    """Which packages are of another version than the LLaMA-Factory trainer was tested with; empty when none is."""
    known = pins("llamafactory")
    others = [
        f"{name} {versions.get(name, 'missing')} (tested: {known[name]})"
        for name in TESTED
        if versions.get(name) != known[name]
    ]
    return f"not tested with {', '.join(others)}" if others else ""


def package_folder(package: str) -> Path | None:
    """Where this Python has a package; it is not imported."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def own_version(package: str) -> str | None:
    """The version of a package in this Python."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
