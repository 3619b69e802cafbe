"""The panel's life and its terminal's: real processes in a pty."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .recorded import living

LEAVES_ALTERNATE_SCREEN = b"\x1b[?1049l"
WAIT_SECONDS = 30.0


class Terminal:
    """`t5panel` in a pty of 80x24."""

    def __init__(self, *, ignore_hangup: bool = False, **environment: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); " if ignore_hangup else ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{ignored}from t5panel.cli import main; main()"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        os.close(slave)
        self.output = b""

    def read_until(self, text: str) -> None:
        """Read what the panel writes until it has written this."""
        deadline = time.monotonic() + WAIT_SECONDS
        while text.encode() not in self.output:
            assert time.monotonic() < deadline, self.output[-2000:]
            self._read()

    def end(self) -> int:
        """Read on until the panel ends; its exit code."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "the panel does not end"
            self._read()
        self._read()
        return self.process.returncode

    def _read(self) -> None:
        if select.select([self.master], [], [], 0.05)[0]:
            try:
                self.output += os.read(self.master, 65536)
            except OSError:  # the other end is closed
                time.sleep(0.02)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals to end with the test."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()


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
    code = f"import sys, {screens}; print([name for name in ('torch', 'numpy', 'pyarrow') if name in sys.modules])"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def test_a_panel_on_a_run_needs_neither_pydantic_nor_yaml_nor_tls() -> None:
    screens = "t5panel.tui.app, t5panel.tui.screens.run, t5panel.tui.screens.runs, t5panel.preflight.machine"
    heavy = ("pydantic", "yaml", "ssl")
    code = (
        "import sys\nfrom t5panel.cli import _without_ssl\nwith _without_ssl(): import asyncio\n"
        f"import {screens}\nprint([name for name in {heavy!r} if name in sys.modules])\nimport ssl"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"
