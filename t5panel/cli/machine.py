"""Commands on this machine: an examination, and environments of methods."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

import click

from t5panel.cli.console import ends_with_exit_code, note, paint, say, say_json
from t5panel.errors import ExitCode, UsageError


@click.command()
@click.option("--preset", default="deepspeed", show_default=True, help="Preset whose cards and interpreter are tried.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def doctor(*, preset: str, as_json: bool) -> None:
    """Examine this machine: cards, memory, disk, system, versions, and whether the ranks reach each other."""
    from t5panel.preflight.doctor import Group, admit, examine
    from t5panel.preflight.report import doctor_json, group_lines, verdict_line

    patient, groups, width = admit(preset), list[Group](), shutil.get_terminal_size().columns
    for group in examine(patient):
        groups.append(group)
        for line in () if as_json else group_lines(group, width=width, paint=paint):
            say(line)
    if as_json:
        say_json(doctor_json(patient, groups))
    else:
        say(verdict_line(patient, groups, paint=paint))
    failed = any(finding.severity == "error" for group in groups for finding in group.findings)
    sys.exit(ExitCode.PREFLIGHT_FAILED if failed else ExitCode.DONE)


@click.command()
@click.argument("name", metavar="ENVIRONMENT")
@click.option("--remove", "removing", is_flag=True, help="Delete it.")
@click.option("--force", is_flag=True, help="Delete it although runs use it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def setup(*, name: str, removing: bool, force: bool, as_json: bool) -> None:
    """Make the environment of a method that cannot live in the panel's own: llamafactory."""
    from t5panel.contract.environments import ENVIRONMENTS, read_environment
    from t5panel.launch.environment import DISK_BYTES, DOWNLOAD_BYTES, remove, set_up

    known = next((one for one in ENVIRONMENTS if one == name), None)
    if known is None:
        raise UsageError.of("setup", f"no environment {name!r}", f"known: {', '.join(ENVIRONMENTS)}")
    if removing:
        removed = remove(known, force=force)
        note(f"{name}: removed" if removed else f"{name}: there is none")
    elif read_environment(known).condition != "ready":
        need, download = DISK_BYTES[known] / 1e6, DOWNLOAD_BYTES[known] / 1e6
        note(f"{name}: {need:,.0f} MB on the disk, {download:,.0f} MB to download; the panel's own torch is linked")
        set_up(known, _counting())
    found = read_environment(known)
    if as_json:
        facts = {"path": str(found.path), "python": str(found.python), "versions": dict(found.versions)}
        say_json({"name": found.name, "condition": found.condition, "problem": found.problem, **facts})
    elif not removing:
        shown = " · ".join(
            f"{key} {found.versions[key]}" for key in (name, "torch", "transformers") if key in found.versions
        )
        say(f"{name}: ready in {found.path} · {shown}")


def _counting() -> Callable[[str, int, int], None]:
    """Tells how many of how many parts are done: on a terminal in one line, else at each tenth."""
    told = -1

    def tell(text: str, done: int, total: int) -> None:
        nonlocal told
        if sys.stderr.isatty():
            click.echo(
                f"\r\x1b[K{done:4} of {total}  {text}"[: shutil.get_terminal_size().columns + 3], err=True, nl=False
            )
            if text == "trying it":
                click.echo(err=True)
        elif done in (0, total) or done * 10 // total > told:
            told = done * 10 // total
            note(f"{done:4} of {total}  {text}")

    return tell
