"""A run on the command line until it ends."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from t5panel.cli.console import is_ascii, note, say, say_json
from t5panel.errors import ExitCode
from t5panel.language import tr
from t5panel.plain import write_plainly

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir


def watch_or_leave(run: RunDir, *, detach: bool, as_json: bool) -> NoReturn:
    """Show a run that was started until it ends, or print its id. Ctrl-c asks it to stop, a second one kills it."""
    from t5panel import session

    if detach:
        if as_json:
            say_json({"run_id": run.run_id, "path": str(run.path)})
        else:
            say(run.run_id)
        sys.exit(ExitCode.DONE)
    presses = 0

    def on_interrupt(_number: int, _frame: object) -> None:
        nonlocal presses
        presses += 1
        session.request_stop(run, now=presses > 1)
        stopping = tr("stopping with a checkpoint; ctrl-c again kills at once")
        note("\n" + (tr("killing the run") if presses > 1 else stopping))

    signal.signal(signal.SIGINT, on_interrupt)
    sys.exit(follow_run(run, as_json=as_json))


def follow_run(run: RunDir, *, as_json: bool = False) -> int:
    """Show a run until it ends; its exit code."""
    from t5panel.headless import follow
    from t5panel.monitor.runs import user_faults
    from t5panel.render.faults import fault_lines
    from t5panel.render.run import snapshot_json, summary_lines

    if is_ascii():
        write_plainly()
    last = follow(run)
    for line in fault_lines(user_faults(run)):
        note(line)
    if as_json:
        say_json(snapshot_json(last))
    else:
        for line in summary_lines(last):
            say(line)
    state = last.state.state
    return state.exit_code if state is not None and state.exit_code is not None else ExitCode.TRAINING_FAILED
