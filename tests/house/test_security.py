"""What nobody else on the machine may read, what nothing may run, and where no preset may write."""

from __future__ import annotations

import ast
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import t5panel
from t5panel.contract.layout import PRIVATE, RunDir, all_runs, runs_home, token_cache_home
from t5panel.errors import UsageError
from t5panel.monitor.sockets import Listener, holders_of, listeners_of
from t5panel.presets import load_preset
from tests.house.household import House, ended

PACKAGE = Path(t5panel.__file__).parent
NEVER = ("os.system", "os.popen", "eval", "exec", "pickle.load", "pickle.loads", "marshal.loads", "yaml.unsafe_load")
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture
def loose_umask() -> Iterator[None]:
    """A user whose new files everybody may read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("loose_umask")
def test_runs_and_tokenised_rows_are_for_their_user_alone_under_any_umask(house: House) -> None:
    words = ("--preset", "manual", "--device", "cpu", "--detach")
    assert house.click(*words).exit_code == 0
    [run] = all_runs(runs_home())
    house.runs.append(run)
    elsewhere = RunDir(house.home / "disk" / "mine")
    assert house.click(*words, "--run-dir", str(elsewhere.path)).exit_code == 0
    house.runs.append(elsewhere)
    for started in (run, elsewhere):
        house.click("stop", str(started.path), "--now")
        ended(started)

    private = [run.path, elsewhere.path, runs_home(), *filter(Path.exists, [token_cache_home()])]

    assert {path: oct(path.stat().st_mode & 0o777) for path in private} == dict.fromkeys(private, oct(PRIVATE))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deepspeed.tensorboard.output_path", "/etc"),
        ("deepspeed.csv_monitor.job_name", "../../../elsewhere"),
        ("deepspeed.flops_profiler.output_file", "~/profile"),
        ("deepspeed.zero_optimization.offload_param.nvme_path", "/nvme"),
    ],
)
def test_a_preset_that_would_write_outside_of_its_run_directory_is_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError, match="leads out of the run directory"):
        load_preset("deepspeed", {key: value})


@pytest.mark.parametrize("key", ["train.output_dir", "train.logging_dir", "run_dir", "model.cache_dir"])
def test_no_other_key_names_a_place_to_write(key: str) -> None:
    with pytest.raises(UsageError, match="unknown key"):
        load_preset("deepspeed", {key: "/etc"})


@pytest.mark.parametrize("name", ["..", "...", "a b", "-rf", "x\ny", "é"])
def test_whatever_a_preset_is_called_its_run_stays_among_the_runs(house: House, name: str) -> None:
    own = house.home / f"{name}.yaml"
    own.write_text("method: manual\nlauncher: torchrun\n")

    house.click("--preset", str(own), "--device", "cpu", "--detach")

    runs = list(all_runs(runs_home()))
    house.runs.extend(runs)
    for run in runs:
        house.click("stop", str(run.path), "--now")
    assert [run.path.parent for run in runs] == [runs_home()]


def test_a_run_directory_that_is_a_link_is_not_followed(house: House) -> None:
    target, link = house.home / "precious", house.home / "link"
    target.mkdir()
    link.symlink_to(target)

    answer = house.click("--preset", "manual", "--device", "cpu", "--detach", "--run-dir", str(link))

    assert (answer.exit_code, list(target.iterdir())) == (4, [])


def calls(source: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file by its dotted name."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> str:
    """What a call passes by a name; empty for nothing."""
    return next((ast.unparse(given.value) for given in call.keywords if given.arg == name), "")


def is_dangerous(name: str, call: ast.Call) -> bool:
    """Whether a call may run what a file or a text says."""
    if name == "torch.load":
        return keyword(call, "weights_only") != "True"
    if name in ("yaml.load", "yaml.load_all"):
        return "_Loader" not in [ast.unparse(argument) for argument in call.args]
    never = (
        "os.system",
        "os.popen",
        "eval",
        "exec",
        "pickle.load",
        "pickle.loads",
        "marshal.loads",
        "yaml.unsafe_load",
    )
    return name in never or keyword(call, "shell") not in ("", "False")


def test_no_shell_no_pickle_and_only_safe_yaml() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}: {name}"
        for path in SOURCES
        for name, call in calls(path)
        if is_dangerous(name, call)
    ]

    assert found == []


@pytest.mark.parametrize(
    "line",
    ["torch.load(f)", "yaml.load(t, Loader)", "subprocess.run('ls', shell=True)", "pickle.loads(b)", "os.system('ls')"],
)
def test_what_is_dangerous_is_recognised(line: str, tmp_path: Path) -> None:
    source = tmp_path / "bad.py"
    source.write_text(line)

    assert [is_dangerous(name, call) for name, call in calls(source)] == [True]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::", False),
        ("10.0.0.1", False),
    ],
)
def test_only_the_loopback_is_local(address: str, *, local: bool) -> None:
    assert Listener(1, address, 80).local is local


def test_a_listening_socket_is_found_with_its_address_and_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as near, socket.create_server(("", 0)) as far:
        found = {listener.port: listener for listener in listeners_of([os.getpid()])}

        assert found[near.getsockname()[1]].local
        assert not found[far.getsockname()[1]].local
        assert os.getpid() in holders_of(found[near.getsockname()[1]])
