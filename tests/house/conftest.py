"""A home of its own for every test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from t5panel.monitor.proc import marked
from tests.house.household import House

SHIM = Path(__file__).parent.parent / "data" / "nvml_shim.c"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A home of its own; whatever a test leaves alive in it is killed."""
    env = {f"XDG_{kind.upper()}_HOME": str(tmp_path / kind) for kind in ("state", "cache", "config", "data")}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    house = House(tmp_path, env)
    yield house
    for run in house.runs:
        for pid in marked(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libnvidia-ml.so.1 that is ours."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("a made-up driver needs gcc")
    folder = tmp_path_factory.mktemp("driver")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", SHIM], check=True)
    return folder


@pytest.fixture
def box(house: House, driver: Path) -> House:
    """A home on a machine whose cards stand in the file `cards`; without it the driver is not loaded."""
    house.env["LD_LIBRARY_PATH"] = str(driver)
    house.env["FAKE_NVML"] = str(house.home / "cards")
    return house
