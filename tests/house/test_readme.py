"""README is true: its commands parse, its main ones run, its reference names what exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from textual.binding import Binding

from t5panel.cli import main
from t5panel.contract.layout import RunDir
from t5panel.contract.spec import DataSpec, ModelSpec, RunSpec
from t5panel.plan.planning import batch_formula
from t5panel.presets import load_preset, parse_assignments, preset_names

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("t5panel")]
NO_FILES = {
    "cache",
    "faults",
    "progress",
    "lock",
    "launcher_log",
    "supervisor_log",
    "prepare_log",
    "path",
    "run_id",
    "mark",
}


def run(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    """A README command as a user would run it, with a home of its own."""
    _, *words = shlex.split(line)
    homes = {f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "CACHE", "CONFIG")}
    return subprocess.run(
        [sys.executable, "-m", "t5panel", *words],
        env={**os.environ, **homes},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_the_two_commands_are_the_first_two_blocks() -> None:
    assert BLOCKS[0] == "pip install . && t5panel --preset deepspeed --no-ui\n"
    assert BLOCKS[1] == "pip install -e '.[dev]' && pytest\n"


def test_ci_installs_and_tests_by_the_readme() -> None:
    assert BLOCKS[1] in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses_and_its_settings_are_valid(line: str) -> None:
    _, *words = shlex.split(line)
    named = words and words[0] in main.commands
    command, rest = (main.commands[words[0]], words[1:]) if named else (main, words)
    parsed = command.make_context("t5panel", rest).params

    if parsed.get("preset"):
        load_preset(parsed["preset"], parse_assignments(parsed.get("assignments", ())))


def test_the_first_command_rehearses_and_says_what_it_did(tmp_path: Path) -> None:
    done = run(BLOCKS[0].split("&&")[1].strip(), tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("REHEARSAL: ")
    loss = re.search(r"^loss +([\d.]+) → ([\d.]+)$", done.stdout, re.MULTILINE)
    assert loss
    assert float(loss[2]) < float(loss[1]) - 1
    assert re.search(r"^throughput +[\d.]+ samples/s$", done.stdout, re.MULTILINE)
    assert len(re.findall(r"rank \d [\d,]+ MiB", done.stdout)) == 3
    directory = re.search(r"^run directory +(.+)$", done.stdout, re.MULTILINE)
    assert directory
    result = json.loads(RunDir(Path(directory[1])).result.read_text())
    assert result["status"] == "finished"
    assert max(result["peak_rss_per_rank"]) <= 500 * 2**20


def test_a_run_is_started_left_listed_stopped_and_resumed(tmp_path: Path) -> None:
    block = next(block for block in BLOCKS if "--detach" in block)
    start, runs, attach, stop, resume = block.splitlines()

    started = run(start, tmp_path)
    assert started.returncode == 0, started.stderr
    run_id = started.stdout.strip()

    assert run_id in run(runs, tmp_path).stdout
    assert json.loads(run(f"{attach} --json", tmp_path).stdout)["alive"]
    stopped = run(stop, tmp_path)
    assert stopped.returncode == 0
    assert "all processes gone" in stopped.stdout
    assert run(f"{resume} --detach", tmp_path).stdout.strip() == run_id
    assert run(f"{stop} --now", tmp_path).returncode == 0


def test_every_option_of_the_command_is_in_the_reference() -> None:
    options = {option for parameter in main.params if isinstance(parameter, click.Option) for option in parameter.opts}

    assert {option for option in options if f"`{option}" not in README and option not in README} <= {
        "-h",
        "--help",
        "--version",
    }


def test_every_subcommand_is_in_the_reference() -> None:
    assert [name for name in main.commands if f"`t5panel {name}" not in README] == []


def test_every_shipped_preset_is_in_the_table_with_its_batch() -> None:
    for name in preset_names()[:4]:
        spec = load_preset(name).spec
        assert re.search(rf"\| `{name}` \|.*\| {batch_formula(spec)} \|", README)


def test_every_key_of_a_preset_is_in_the_reference() -> None:
    keys = [*RunSpec.model_fields, *ModelSpec.model_fields, *DataSpec.model_fields]

    assert [key for key in keys if f"`{key}`" not in README] == []


def test_every_file_of_a_run_directory_is_in_the_reference() -> None:
    run_dir = RunDir(Path("/run"))
    properties = [name for name, value in vars(RunDir).items() if isinstance(value, property) and name not in NO_FILES]

    assert [name for name in properties if f"`{getattr(run_dir, name).name}" not in README] == []


def test_every_key_of_the_panel_is_in_the_reference() -> None:
    from t5panel.tui.app import PanelApp
    from t5panel.tui.screens.compare import CompareScreen
    from t5panel.tui.screens.run import RunScreen
    from t5panel.tui.screens.runs import RunsScreen
    from t5panel.tui.screens.setup import SetupScreen

    owners = (PanelApp, SetupScreen, RunScreen, RunsScreen, CompareScreen)
    bindings = [binding for owner in owners for binding in owner.BINDINGS]
    keys = [binding.key_display or binding.key for binding in bindings if isinstance(binding, Binding)]

    assert [key for key in keys if f"`{key}`" not in README] == []


def test_every_picture_exists() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)

    assert len(pictures) >= 2
    assert all((ROOT / picture.replace("%5B", "[").replace("%5D", "]")).is_file() for picture in pictures)
