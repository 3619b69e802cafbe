"""A look at the user's data in a process of its own, which can be given up at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

import msgspec

from t5panel.contract.data_look import DataLook
from t5panel.contract.spec import RunSpec


class Peek:
    """Looks at the training data of a spec, in the interpreter that would train on it."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._given_up = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def looks(self) -> Iterator[DataLook]:
        """What is known at once, then more; ends early once it is given up. Blocks: for a thread."""
        python = self._spec.interpreter or sys.executable
        argv = [python, "-P", "-m", "t5panel.trainers.peek"]  # -P: the user's folder is no place to import from
        words = "no output"
        with tempfile.TemporaryFile() as spec:
            spec.write(self._spec.model_dump_json().encode())
            spec.seek(0)
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=spec,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "HF_HUB_OFFLINE": "1"},  # a look downloads nothing
                    start_new_session=True,
                )
            except OSError as error:
                yield _failure(f"{python} does not answer: {error.strerror}")
                return
        with process:
            self._process = process
            if self._given_up.is_set():
                process.kill()
            for line in process.stdout or ():
                try:
                    yield msgspec.json.decode(line, type=DataLook)
                except msgspec.DecodeError:
                    words = line.decode(errors="replace").strip() or words
        if process.returncode != 0 and not self._given_up.is_set():
            yield _failure(f"{python} cannot look at the data: {words}")

    def give_up(self) -> None:
        """End it now, from any thread."""
        self._given_up.set()
        if self._process is not None:
            self._process.kill()


def _failure(message: str) -> DataLook:
    return DataLook(faults=(("interpreter", message, "name a Python with t5panel in it: --set interpreter=PATH"),))
