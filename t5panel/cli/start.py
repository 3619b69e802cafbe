"""`t5panel` itself: opens the panel, or starts a run without it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import click

from t5panel import __version__
from t5panel.cli.console import ends_with_exit_code, is_ascii, note
from t5panel.cli.follow import watch_or_leave
from t5panel.cli.options import refuse_lost_options, run_options, wish_of
from t5panel.cli.plans import plan_exit_code, print_plan, prospect_of
from t5panel.errors import UsageError
from t5panel.language import tr

if TYPE_CHECKING:
    from t5panel.session import Prospect


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@run_options
@click.option("--no-ui", is_flag=True, help="Run the preset without the panel.")
@click.option("--detach", is_flag=True, help="Start the run, print its id and leave.")
@click.option("--dry-run", is_flag=True, help="Print what would run and leave.")
@click.option("--yes", is_flag=True, help="Start without asking.")
@click.option("--force", is_flag=True, help="Start although the memory plan says no.")
@click.option("--queue", is_flag=True, help="Wait until the cards are free, in turn.")
@click.version_option(__version__, message="t5panel %(version)s")
@click.pass_context
@ends_with_exit_code
def main(
    context: click.Context,
    *,
    no_ui: bool,
    detach: bool,
    dry_run: bool,
    yes: bool,
    force: bool,
    queue: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Train T5 on a few GPUs: a terminal panel, or headless with --no-ui."""
    if context.invoked_subcommand is not None:
        refuse_lost_options(context)
        return
    if not (no_ui or detach or dry_run):
        _open_panel(options)
        return
    if options["preset"] is None:
        raise UsageError.of("--preset", "is missing", "for example t5panel --preset deepspeed --no-ui")
    prospect = prospect_of(options)
    if dry_run:
        print_plan(prospect, as_json=as_json)
        sys.exit(plan_exit_code(prospect))
    _start(prospect, detach=detach, yes=yes, force=force, queue=queue, as_json=as_json)


def _start(prospect: Prospect, *, detach: bool, yes: bool, force: bool, queue: bool, as_json: bool) -> NoReturn:
    from t5panel import session
    from t5panel.plan.planning import batch_formula
    from t5panel.render.plan import precision, rehearsal_notice

    plan = prospect.plan
    if plan.rehearsal:
        note(rehearsal_notice(plan))
    what = tr("{model} on {data}", model=plan.spec.model.name_or_path, data=plan.spec.data.train)
    note(f"{plan.preset}: {what}, {tr('batch')} {batch_formula(plan.spec)}, {precision(plan)}")
    if plan.verdict == "tight" and not yes and sys.stdin.isatty():
        click.confirm(tr("the memory plan says tight; start all the same?"), abort=True, err=True)
    run = session.start(prospect, force=force, queue=queue, tell=lambda text: note(tr(text)))
    note(tr("run {run}", run=run.run_id))
    watch_or_leave(run, detach=detach, as_json=as_json)


@contextmanager
def without_ssl() -> Iterator[None]:
    """asyncio imports TLS where it can, and a panel never needs it: 4.7 MiB of its memory."""
    if "asyncio" in sys.modules:
        yield
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # the import system's word for "not there"
    try:
        yield
    finally:
        del sys.modules["ssl"]


def leave_out_hashes_of_openssl() -> None:
    """From here on hashlib has Python's own, where it was built with them: 3.3 MiB of the panel's memory less."""
    own = (
        "_md5",
        "_sha1",
        "_sha3",
        "_blake2",
        *(("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")),
    )
    if "_hashlib" not in sys.modules and all(map(find_spec, own)):
        sys.modules["_hashlib"] = None  # type: ignore[assignment]  # as above


def _open_panel(options: dict[str, Any]) -> None:
    if not sys.stdout.isatty():
        raise UsageError.of("t5panel", "the panel needs a terminal", "use --no-ui, or `t5panel runs`")
    import gc

    wish = wish_of(options)
    gc.disable()  # until the first frame, which the panel ends: an eighth of its start
    leave_out_hashes_of_openssl()
    with without_ssl():
        import asyncio  # noqa: F401 - as Textual will have it
    from t5panel.tui.app import run_panel

    run_panel(wish, plain=is_ascii())
