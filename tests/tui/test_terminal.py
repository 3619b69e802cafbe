"""The panel's life and its terminal's: real processes in a pty."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from t5panel.session import spawn_supervisor
from tests.house.conftest import house as house  # noqa: PLC0414 - a fixture
from tests.house.household import House, eventually

from .recorded import living
from .terminals import ENTERS_ALTERNATE_SCREEN, LEAVES_ALTERNATE_SCREEN, WAIT_SECONDS, Terminal
from .visits import traces_of, visit


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals to end with the test."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_the_panel_and_gives_the_terminal_back(terminals: list[Terminal], number: signal.Signals) -> None:
    terminals.append(terminal := Terminal())
    terminal.read_until("rows a step")

    terminal.process.send_signal(number)

    assert terminal.end() == 0
    assert LEAVES_ALTERNATE_SCREEN in terminal.output


def test_a_dead_terminal_ends_the_panel_even_when_hangups_are_ignored(terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(ignore_hangup=True))
    terminal.read_until("rows a step")

    os.close(terminal.master)

    assert terminal.process.wait(WAIT_SECONDS) in (0, 128 + signal.SIGHUP)


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(home: Path, terminals: list[Terminal]) -> None:
    living(home)
    terminals.append(terminal := Terminal())
    terminal.read_until("● running")
    mine = terminal.settings()

    terminal.type(b"\x1a")
    terminal.wait_for_state("T")
    suspended, settings = terminal.take(), terminal.settings()
    terminal.process.send_signal(signal.SIGCONT)
    terminal.read_until("● running")
    again = terminal.settings()
    resumed = terminal.output
    terminal.type(b"q")

    assert terminal.end() == 0
    assert LEAVES_ALTERNATE_SCREEN in suspended
    assert ENTERS_ALTERNATE_SCREEN in resumed
    assert settings == terminal.before != mine
    assert again == mine


def test_panels_that_come_and_go_leave_a_run_its_terminals_and_the_machine_as_they_were(house: House) -> None:
    """The same a hundred times beside a real training: python -m tests.benchmarks.visits."""
    run = house.fake_run("waits", "guarded", "guarded")
    spawn_supervisor(run)
    eventually(lambda: run.samples.exists() and b'"rank":1' in run.samples.read_bytes(), seconds=30)
    before = traces_of(run)

    visits = [visit("no step yet") for _ in range(3)]

    assert [(one.exit_code, one.screen_left, one.settings_restored) for one in visits] == [(0, True, True)] * 3
    assert traces_of(run) == before


def test_no_colour_is_honoured_on_a_real_terminal(home: Path, terminals: list[Terminal]) -> None:
    living(home)
    terminals.append(terminal := Terminal(NO_COLOR="1"))

    terminal.read_until("evaluation 3.195")
    os.write(terminal.master, b"q")

    assert terminal.end() == 0
    assert b"goes on: t5panel attach 20260101-130000-manual" in terminal.output
    assert b"\x1b[38;2;86;180;233m" not in terminal.output


def test_the_first_frame_needs_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pydantic", "yaml", "msgspec", "pynvml", "psutil", "pyarrow", "t5panel.session")
    code = f"import sys, t5panel.cli, t5panel.tui.app; print([name for name in {heavy!r} if name in sys.modules])"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_the_whole_panel_needs_neither_torch_nor_numpy() -> None:
    screens = "t5panel.tui.screens.setup, t5panel.tui.screens.run, t5panel.tui.screens.runs"
    heavy = ("torch", "numpy", "pyarrow", "transformers", "tokenizers", "datasets", "huggingface_hub")
    code = f"import sys, {screens}; print([name for name in {heavy!r} if name in sys.modules])"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_a_panel_on_a_run_needs_neither_pydantic_nor_yaml_nor_tls() -> None:
    screens = "t5panel.tui.app, t5panel.tui.screens.run, t5panel.tui.screens.runs, t5panel.preflight.machine"
    heavy = ("pydantic", "yaml", "ssl", "_hashlib")
    code = (
        "import sys\nfrom t5panel.cli.start import without_ssl\nwith without_ssl(): import asyncio\n"
        f"import {screens}\nprint([name for name in {heavy!r} if name in sys.modules])\nimport ssl"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_the_setup_needs_no_openssl() -> None:
    code = (
        "from t5panel.cli.start import leave_out_hashes_of_openssl, without_ssl\nleave_out_hashes_of_openssl()\n"
        "with without_ssl(): import asyncio\nimport t5panel.tui.screens.setup, hashlib\n"
        "print('libcrypto' in open('/proc/self/maps').read(), hashlib.sha256(b'').hexdigest()[:4])"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["False", "e3b0"]
