"""Making an environment beside the panel's own: exact packages, the panel's own torch linked in, tried before use."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from t5panel.contract.environments import (
    Environment,
    EnvironmentName,
    Finished,
    constraints_file,
    digest_of,
    environment_path,
    finished_file,
    package_folder,
    pins,
    python_in,
    read_environment,
    setup_command,
    site_packages,
)
from t5panel.contract.layout import RunDir, all_runs, runs_home, write_atomic
from t5panel.errors import Fault, PreflightError, UsageError
from t5panel.launch.locks import take_lock
from t5panel.monitor.runs import read_info, read_state

DISK_BYTES: dict[EnvironmentName, int] = {"llamafactory": 650_000_000}
"""What it fills. Source: measured, Python 3.11, the constraints of this version: 608 MB."""
DOWNLOAD_BYTES: dict[EnvironmentName, int] = {"llamafactory": 165_000_000}
"""What is downloaded for it. Source: the sizes of those files, 158 MiB."""
ONE_PACKAGE = ("Collecting ", "Processing ", "Requirement already satisfied: ")
"""How pip begins the line of each requirement."""
TRIAL_SECONDS = 600
TRIALS: dict[EnvironmentName, str] = {"llamafactory": "t5panel.trainers.llamafactory_trial"}
"""The module that imports all that a run will, and prints the versions as JSON."""
SCRIPT = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""

Tell = Callable[[str, int, int], None]
"""Hears what is done now, and how many of how many packages are there."""


def set_up(name: EnvironmentName, tell: Tell) -> Environment:
    """Make an environment, or finish or mend the one that is there.

    Raises: UsageError while another setup of it runs; PreflightError when the disk, the network or a package says no.
    """
    folder = environment_path(name)
    with _alone(folder):
        there = read_environment(name)
        if there.condition == "ready":
            return there
        begin, total = time.monotonic(), len(pins(name))
        complete = there.condition == "other" and _holds_the_packages(name, folder)
        finished_file(folder).unlink(missing_ok=True)
        if not complete:
            _check_room(name, folder)
            tell("making a virtual environment", 0, total)
            _make_venv(folder)
            for done, package in _install(name, folder):
                tell(package, done, total)
        tell("linking the panel's torch", total, total)
        _link(site_packages(folder), folder / "bin")
        tell("trying it", total, total)
        versions = _try(name, folder)
        seconds = time.monotonic() - begin
        finished = Finished(constraints=digest_of(name), versions=versions, seconds=seconds, size=size_of(folder))
        write_atomic(finished_file(folder), msgspec.json.encode(finished))
    return read_environment(name)


def _holds_the_packages(name: EnvironmentName, folder: Path) -> bool:
    """Whether only what is linked has changed: another panel, or another torch in it."""
    finished = msgspec.json.decode(finished_file(folder).read_bytes(), type=Finished)
    return finished.constraints == digest_of(name) and site_packages(folder).is_dir() and python_in(folder).exists()


def _make_venv(folder: Path) -> None:
    other_python = folder.exists() and not site_packages(folder).is_dir()
    argv = [sys.executable, "-m", "venv", *(["--clear"] if other_python else []), str(folder)]
    _run(argv, "a virtual environment cannot be made", VENV_HINT)


def remove(name: EnvironmentName, *, force: bool = False) -> bool:
    """Delete an environment; False when there is none. What it links to stays.

    Raises: UsageError while it is being set up; PreflightError while runs use it, unless by `force`.
    """
    folder = environment_path(name)
    if not folder.exists():
        return False
    with _alone(folder):
        if not force and (runs := runs_in(name)):
            raise PreflightError(
                Fault(
                    name, f"run {run.run_id} uses it, {read_state(run).phase}", f"t5panel stop {run.run_id}, or --force"
                )
                for run in runs
            )
        finished_file(folder).unlink(missing_ok=True)  # a deletion that is cut short leaves none that looks whole
        shutil.rmtree(folder)
    _lock_of(folder).unlink(missing_ok=True)
    return True


def runs_in(name: EnvironmentName) -> tuple[RunDir, ...]:
    """The living runs, paused and queued ones too, whose ranks are of an environment."""
    python = str(python_in(environment_path(name)))
    return tuple(run for run in all_runs(runs_home()) if read_state(run).alive and _interpreter_of(run) == python)


def _interpreter_of(run: RunDir) -> str:
    try:
        return read_info(run).interpreter
    except UsageError:  # its description is damaged, and it is no run that could go on
        return ""


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; of what is linked only the link."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_symlink() or file.is_file())


VENV_HINT = "Debian and Ubuntu keep venv apart: apt install python3-venv"
PIP_HINT = "is the package index reachable? pip's own settings and PIP_* variables hold here; what is there is kept"


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = take_lock(_lock_of(folder))
    if lock is None:
        raise UsageError.of(folder.name, "is being set up by another process")
    try:
        yield
    finally:
        os.close(lock)


def _check_room(name: EnvironmentName, folder: Path) -> None:
    """What an unfinished setup has installed already counts as room."""
    there = size_of(folder) if folder.exists() else 0
    free = shutil.disk_usage(folder.parent).free + there
    if free < DISK_BYTES[name]:
        message = f"needs {DISK_BYTES[name]:,} bytes, {folder.parent} has {free:,} free"
        raise PreflightError.of(name, message, "name another disk with the variable XDG_DATA_HOME")


def _install(name: EnvironmentName, folder: Path) -> Iterator[tuple[int, str]]:
    """Install the exact packages, telling of each as pip comes to it.

    Raises: PreflightError with pip's last words.
    """
    argv = [str(python_in(folder)), "-m", "pip", "install", "--no-deps", "--no-input", "--no-compile"]
    argv += ["--progress-bar", "off", "--disable-pip-version-check", "-r", str(constraints_file(name))]
    errors: list[str] = []
    done = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as pip:
        assert pip.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in pip.stdout:
            if line.startswith(ONE_PACKAGE):
                done += 1
                yield min(done, len(pins(name))), _package_in(line)
            elif line.startswith("Installing collected"):
                yield done, "installing them"
            elif line.startswith("ERROR"):
                errors.append(line.strip())
    if pip.returncode != 0:
        raise PreflightError.of(name, f"pip: {errors[0] if errors else f'exit code {pip.returncode}'}", PIP_HINT)


def _package_in(line: str) -> str:
    """`torch==2.13.0` of `Collecting torch==2.13.0 (from -r …)`; a file's name of one on the disk."""
    word = next(word for word in line.split() if "==" in word or "/" in word)
    return word.rsplit("/", 1)[-1]


def _link(site: Path, programs: Path) -> None:
    """Let an environment see this Python's t5panel and torch, with what torch needs and the environment lacks.

    Not installed again: gigabytes of a CUDA build would be there twice, and the user chose the build that is here.
    """
    for entry in _folders_of_torch(site):
        _replace_by_link(site / entry.name, entry)
    ours = package_folder("t5panel")
    assert ours is not None  # noqa: S101 - this module is in it
    _replace_by_link(site / "t5panel", ours)
    program = programs / "torchrun"
    program.write_text(
        SCRIPT.format(python=python_in(programs.parent), module="torch.distributed.run", function="main")
    )
    program.chmod(0o755)


def _folders_of_torch(site: Path) -> Iterator[Path]:
    """Top-level files and folders of torch and of each package it needs that the environment has none of."""
    wanted, seen = ["torch"], set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        if name != "torch" and _installed_in(site, name):
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # one for another platform
        _describe(site, package)
        yield from _top_level(package)
        requirements = (Requirement(text) for text in package.requires or ())
        wanted += [need.name for need in requirements if need.marker is None or need.marker.evaluate({"extra": ""})]


def _installed_in(site: Path, name: str) -> bool:
    """Whether an environment has a package of its own: one that we linked has no RECORD."""
    plain = canonicalize_name(name)
    return any(canonicalize_name(name_of(record.parent)) == plain for record in site.glob("*.dist-info/RECORD"))


def name_of(dist_info: Path) -> str:
    """`typing_extensions` of `typing_extensions-4.16.0.dist-info`."""
    return dist_info.name.partition("-")[0]


def _describe(site: Path, package: Distribution) -> None:
    """Leave a package's name and version. Without a RECORD no pip will ever delete through our links."""
    folder = site / f"{package.name.replace('-', '_')}-{package.version}.dist-info"
    for earlier in site.glob(f"{package.name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(earlier)
    folder.mkdir()
    (folder / "METADATA").write_text(package.read_text("METADATA") or "", encoding="utf-8")


def _top_level(package: Distribution) -> Iterator[Path]:
    names = {file.parts[0] for file in package.files or () if file.parts[0] != ".."}
    for name in sorted(names):
        if not name.endswith((".dist-info", ".egg-info")) and name != "__pycache__":
            yield Path(str(package.locate_file(name)))


def _replace_by_link(link: Path, target: Path) -> None:
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.symlink_to(target)


def _try(name: EnvironmentName, folder: Path) -> dict[str, str]:
    """Import in the environment all that a run will; the versions found.

    Raises: PreflightError with the last line of what it said.
    """
    argv = [str(python_in(folder)), "-P", "-m", TRIALS[name]]
    hint = f"{setup_command(name)} --remove, then {setup_command(name)}"
    answer = _run(argv, "what was installed cannot be imported", hint)
    versions: dict[str, str] = msgspec.json.decode(answer.strip().rpartition("\n")[2], type=dict[str, str])
    return versions


def _run(argv: list[str], problem: str, hint: str) -> str:
    """What a program prints.

    Raises: PreflightError with its last words when it fails.
    """
    try:
        answer = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=TRIAL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreflightError.of("setup", f"{problem}: {error}", hint) from error
    if answer.returncode != 0:
        words = (answer.stderr.strip() or answer.stdout.strip() or f"exit code {answer.returncode}").splitlines()[-1]
        raise PreflightError.of("setup", f"{problem}: {words}", hint)
    return answer.stdout
