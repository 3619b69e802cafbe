"""Commands on a run that lives, or shall live again: attach, stop, resume."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING

import click

from t5panel.cli.console import ends_with_exit_code, note, say, say_json
from t5panel.cli.follow import follow_run, watch_or_leave
from t5panel.cli.options import overrides_of
from t5panel.errors import ExitCode
from t5panel.language import tr

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir


KILL_WAIT_SECONDS = 15.0
SILENCE_SECONDS = 180.0
"""A supervisor that is stopping its run and has not been heard of for so long is waited for no more."""


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print the present state as JSON and leave.")
@ends_with_exit_code
def attach(*, run: str, as_json: bool) -> None:
    """Watch a run until it ends; ctrl-c leaves it running."""
    from t5panel.session import find_run

    found = find_run(run)
    if as_json:
        from t5panel.monitor.history import History
        from t5panel.render.run import snapshot_json

        say_json(snapshot_json(History(found).refresh()))
        return
    try:
        sys.exit(follow_run(found))
    except KeyboardInterrupt:
        note("\n" + tr("left; the run goes on: t5panel attach {run}", run=found.run_id))


@click.command()
@click.argument("run")
@click.option("--now", is_flag=True, help="Kill at once, without a checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def stop(*, run: str, now: bool, as_json: bool) -> None:
    """End a run: with a checkpoint, or at once."""
    from t5panel.monitor.proc import marked
    from t5panel.monitor.runs import read_state
    from t5panel.session import end_leftovers, find_run, request_stop

    found = find_run(run)
    begin = time.monotonic()
    if request_stop(found, now=now):
        _wait_for_end(found, limit=KILL_WAIT_SECONDS if now else math.inf)
    else:
        note(tr("{run} has ended already", run=found.run_id))
        end_leftovers(found)
    state, alive = read_state(found), marked(found)
    seconds = time.monotonic() - begin
    if as_json:
        say_json(
            {"run_id": found.run_id, "phase": state.phase, "message": state.message, "alive": alive, "seconds": seconds}
        )
    else:
        pids = ", ".join(map(str, alive))
        gone = tr("processes still alive: {pids}", pids=pids) if alive else tr("all processes gone")
        say(tr("{state}; {processes} after {seconds:.1f} s", state=tr(state.message), processes=gone, seconds=seconds))
    sys.exit(ExitCode.TRAINING_FAILED if alive else ExitCode.DONE)


@click.command()
@click.argument("run")
@click.option("--gpus", help="Other cards by PCI index, for example 0,2.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Another value from here on.")
@click.option("--detach", is_flag=True, help="Start, print the id and leave.")
@click.option("--queue", is_flag=True, help="Wait until its cards are free, in turn.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def resume(
    *, run: str, gpus: str | None, assignments: tuple[str, ...], detach: bool, queue: bool, as_json: bool
) -> None:
    """Continue a stopped or failed run from its newest complete checkpoint.

    With --set or --gpus it goes on with other settings, as far as every later step still means the same rows.
    """
    from t5panel import session

    found = session.find_run(run)
    session.resume(found, overrides_of(assignments, gpus), queue=queue)
    watch_or_leave(found, detach=detach, as_json=as_json)


def _wait_for_end(run: RunDir, *, limit: float) -> None:
    """Until a run has ended, as long as its supervisor shows a sign of life, at most `limit` seconds."""
    from t5panel.monitor.runs import read_state

    begin = heard = time.monotonic()
    heartbeat = 0.0
    while (state := read_state(run)).alive and time.monotonic() - heard < SILENCE_SECONDS:
        if time.monotonic() - begin > limit:
            return
        if state.state is not None and state.state.heartbeat != heartbeat:
            heartbeat, heard = state.state.heartbeat, time.monotonic()
        time.sleep(0.1)
