"""The environment of a method that cannot live in the panel's own: absent, half made, another panel's, ready."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import msgspec
import pytest

from t5panel.contract.environments import (
    EnvironmentName,
    Finished,
    digest_of,
    environment_path,
    finished_file,
    own_version,
    package_folder,
    pins,
    python_in,
    read_environment,
    site_packages,
    untested,
)
from t5panel.launch.environment import DISK_BYTES
from t5panel.monitor.proc import boot_id
from t5panel.monitor.runs import read_info
from tests.house.household import House
from tests.unit.test_run_state import own_start_time, state_of

NAME: EnvironmentName = "llamafactory"
RUN = ("--preset", NAME, "--no-ui")


def made_up(**changes: object) -> Path:
    """An environment as its setup leaves it, with nothing in it."""
    folder, torch = environment_path(NAME), own_version("torch")
    site_packages(folder).mkdir(parents=True)
    python_in(folder).parent.mkdir()
    python_in(folder).symlink_to(sys.executable)
    for package in ("torch", "t5panel"):
        (site_packages(folder) / package).symlink_to(package_folder(package) or folder)
    versions = {"python": "3.11.7", **pins(NAME), "torch": str(torch)}
    finished = Finished(constraints=digest_of(NAME), versions=versions, seconds=100.0, size=1)
    finished_file(folder).write_bytes(msgspec.json.encode(msgspec.structs.replace(finished, **changes)))
    return folder


def condition() -> tuple[str, str]:
    """How the environment stands, and why it cannot be used."""
    found = read_environment(NAME)
    return found.condition, found.problem


def test_without_it_a_run_ends_with_exit_code_4_and_the_command_that_makes_it(house: House) -> None:
    answer = house.panel(*RUN)

    assert answer.returncode == 4
    assert (
        "environment.absent: the environment llamafactory is not set up\n    t5panel setup llamafactory"
        in answer.stderr
    )
    assert "t5panel setup llamafactory" in house.click("presets").stdout
    assert house.is_untouched()


def test_a_half_made_one_is_noticed(house: House) -> None:
    python_in(environment_path(NAME)).parent.mkdir(parents=True)

    answer = house.panel(*RUN)

    assert answer.returncode == 4
    assert "environment.unfinished" in answer.stderr


@pytest.mark.usefixtures("house")
def test_a_finished_one_is_ready_for_the_panel_that_made_it() -> None:
    made_up()

    assert condition() == ("ready", "")


@pytest.mark.usefixtures("house")
def test_one_with_other_packages_or_a_torch_that_has_gone_has_to_be_mended(tmp_path: Path) -> None:
    folder = made_up()
    torch = site_packages(folder) / "torch"
    torch.unlink()
    torch.symlink_to(tmp_path / "gone")
    assert condition() == ("other", "the environment llamafactory uses the torch of another installation")

    finished = msgspec.json.decode(finished_file(folder).read_bytes(), type=Finished)
    finished_file(folder).write_bytes(msgspec.json.encode(msgspec.structs.replace(finished, constraints="old")))
    assert condition() == ("other", "the environment llamafactory holds the packages of another version of t5panel")


def test_plan_and_doctor_show_the_interpreter_and_its_versions(house: House) -> None:
    python = str(python_in(made_up()))

    plan = json.loads(house.click("plan", "--preset", NAME, "--json").stdout)
    doctor = json.loads(house.panel("doctor", "--json").stdout)

    assert plan["interpreter"] == plan["command"]["argv"][0] == python
    assert (plan["versions"]["llamafactory"], plan["versions"]["transformers"]) == ("0.9.5", "5.6.0")
    assert doctor["facts"]["versions"]["python_of_llamafactory"]["packages"]["accelerate"] == "1.11.0"


def test_an_interpreter_of_the_users_own_is_left_alone_and_another_version_refused(house: House) -> None:
    answer = house.panel(*RUN, "--set", f"interpreter={sys.executable}")

    assert answer.returncode == 4
    assert "version.llamafactory: not tested with llamafactory missing (tested: 0.9.5)" in answer.stderr
    assert untested({**pins(NAME), "llamafactory": "0.9.6"}) == "not tested with llamafactory 0.9.6 (tested: 0.9.5)"


def test_a_full_disk_is_told_before_anything_is_made(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISK_BYTES, NAME, 10**18)

    answer = house.click("setup", NAME)

    assert answer.exit_code == 4
    assert "needs 1,000,000,000,000,000,000 bytes" in answer.stderr
    assert not environment_path(NAME).exists()


def test_removing_deletes_it_and_nothing_that_it_links_to(house: House) -> None:
    folder = made_up()

    answer = house.click("setup", NAME, "--remove")

    assert answer.exit_code == 0
    assert not os.path.lexists(folder)
    assert (Path(package_folder("torch") or "") / "version.py").is_file()
    assert "there is none" in house.click("setup", NAME, "--remove").stderr


def test_it_is_not_removed_under_runs_that_use_it_unless_by_force(house: House) -> None:
    folder = made_up()
    theirs, other = (house.fake_run("exit 0", name=name) for name in ("theirs", "other"))
    info = msgspec.structs.replace(read_info(theirs), interpreter=str(python_in(folder)))
    theirs.run_json.write_bytes(msgspec.json.encode(info))
    state = state_of(os.getpid(), own_start_time(), boot=boot_id(), phase="paused")
    for run in (theirs, other):
        run.state.write_bytes(msgspec.json.encode(state))

    refused = house.click("setup", NAME, "--remove")
    assert folder.is_dir()
    forced = house.click("setup", NAME, "--remove", "--force")

    assert (refused.exit_code, forced.exit_code) == (4, 0)
    assert refused.stderr == "llamafactory: run theirs uses it, paused\n    t5panel stop theirs, or --force\n"
    assert not os.path.lexists(folder)


def test_an_unknown_environment_is_a_usage_error(house: House) -> None:
    assert house.click("setup", "nonsense").exit_code == 2
