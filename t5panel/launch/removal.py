"""Taking an ended run from the disk: its directory, or only its link where the directory lives elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t5panel.contract.layout import RunDir
from t5panel.errors import UsageError
from t5panel.launch.locks import take_lock
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_state


def lives_in(run: RunDir, home: Path) -> bool:
    """Whether the directory itself lies in a folder, and no link to it."""
    return run.path.resolve().parent == home.resolve()


def remove_run(run: RunDir, home: Path) -> None:
    """Remove an ended run from `home`; a directory that lives elsewhere stays, and is listed no more.

    Raises: UsageError when it lives, or anything of it does; OSError when the disk does not let us.
    """
    if read_state(run).alive:
        raise UsageError.of(run.run_id, "is still running", f"t5panel stop {run.run_id}")
    left = marked(run)
    if left:
        processes = f"processes of it still live: {', '.join(map(str, left))}"
        raise UsageError.of(run.run_id, processes, f"t5panel stop {run.run_id} --now")
    if lives_in(run, home):
        with _held(run):
            # In one move: a list never shows half a run.
            doomed = run.path.rename(run.path.with_name(f".{run.run_id}.{os.getpid()}.removed"))
        shutil.rmtree(doomed)
    for link in list(home.iterdir()):
        if link.is_symlink() and link.resolve() == run.path.resolve():
            link.unlink()


@contextmanager
def _held(run: RunDir) -> Iterator[None]:
    """The lock of the one supervisor: nobody resumes the run meanwhile.

    Raises: UsageError when a supervisor holds it.
    """
    lock = take_lock(run.lock)
    if lock is None:
        raise UsageError.of(run.run_id, "is being started", f"t5panel attach {run.run_id}")
    try:
        yield
    finally:
        os.close(lock)
