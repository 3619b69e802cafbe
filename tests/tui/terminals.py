"""Real panels in ptys of their own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

ENTERS_ALTERNATE_SCREEN = b"\x1b[?1049h"
LEAVES_ALTERNATE_SCREEN = b"\x1b[?1049l"
WAIT_SECONDS = 30.0


class Terminal:
    """`t5panel` in a pty of 80x24."""

    def __init__(self, *, ignore_hangup: bool = False, **environment: str) -> None:
        self.master, self._slave = pty.openpty()
        self.before = termios.tcgetattr(self.master)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); " if ignore_hangup else ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{ignored}from t5panel.cli import main; main()"],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        self.output = b""

    def close(self) -> None:
        """End the panel if it lives, and the terminal."""
        self.process.kill()
        self.process.wait()
        for end in (self.master, self._slave):
            with suppress(OSError):  # the test closed it
                os.close(end)

    def settings(self) -> list[object]:
        """How the terminal treats its input now: raw, or as a shell wants it."""
        return termios.tcgetattr(self.master)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def take(self) -> bytes:
        """What was written until now; later reading begins after it."""
        self._read()
        taken, self.output = self.output, b""
        return taken

    def wait_for_state(self, letter: str) -> None:
        """Until the kernel says that the panel is in a state: T for stopped."""
        deadline = time.monotonic() + WAIT_SECONDS
        stat = Path(f"/proc/{self.process.pid}/stat")
        while stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] != letter:
            assert time.monotonic() < deadline, "the panel does not stop"
            self._read()

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
