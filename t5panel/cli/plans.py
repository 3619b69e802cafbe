"""Commands before a start: plans, predictions of memory, presets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t5panel.cli.console import ends_with_exit_code, note, say, say_json
from t5panel.cli.options import run_options, wish_of
from t5panel.errors import ExitCode, Fault, UsageError
from t5panel.language import tr

if TYPE_CHECKING:
    from t5panel.plan.machine import Machine
    from t5panel.presets import Preset
    from t5panel.session import Prospect


@click.command()
@run_options
@click.option("--machine", help="Plan for another machine, for example '3xRTX 3080 20GiB,12GiB'.")
@ends_with_exit_code
def plan(*, machine: str | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Show what a preset would run, and whether it fits."""
    if options["preset"] is None:
        raise UsageError.of("--preset", "is missing", "see `t5panel presets`")
    prospect = prospect_of(options, _described_machine(machine))
    print_plan(prospect, as_json=as_json)
    sys.exit(plan_exit_code(prospect))


@click.command()
@click.argument("records", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def estimate(*, records: Path, as_json: bool) -> None:
    """Predict the memory of measured steps, and by how much that is off."""
    import msgspec

    from t5panel.plan.context import CONTEXT
    from t5panel.plan.records import Unpredicted, predict, read_records, summary, torch_notes
    from t5panel.render.faults import fault_lines
    from t5panel.render.plan import prediction_lines

    try:
        text = records.read_bytes()
    except OSError as error:
        raise UsageError.of(str(records), error.strerror or str(error), "a JSON list of records") from error
    measured = read_records(text, str(records))
    found = list(predict(measured, str(records), context=CONTEXT))
    predictions = [each for each in found if not isinstance(each, Unpredicted)]
    faults = tuple(fault for each in found if isinstance(each, Unpredicted) for fault in each.faults)
    if not predictions and faults:
        raise UsageError(faults)
    if as_json:
        say_json(msgspec.to_builtins(found))
    else:
        for line in prediction_lines(predictions):
            say(line)
    for line in summary(predictions):
        (note if as_json else say)(line)
    for line in (*torch_notes(measured), *fault_lines(faults)):
        note(line)
    if faults:
        sys.exit(ExitCode.USAGE)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def presets(*, as_json: bool) -> None:
    """List the presets."""
    from t5panel.contract.environments import missing_environment
    from t5panel.plan.planning import batch_formula
    from t5panel.presets import find_preset, load_preset, preset_names
    from t5panel.render.faults import fault_lines

    found: list[Preset] = []
    faults: list[Fault] = []
    for name in preset_names():
        try:
            found.append(load_preset(name))
        except UsageError as error:
            faults += error.faults
    if as_json:
        rows = [
            {"name": p.name, "summary": p.summary, "path": str(find_preset(p.name)), "method": p.spec.method}
            for p in found
        ]
        say_json([{**row, "installed": not missing_environment(p.spec)} for row, p in zip(rows, found, strict=True)])
    for preset in () if as_json else found:
        command = missing_environment(preset.spec)
        missing = "  " + tr("(first: {command})", command=command) if command else ""
        say(f"{preset.name:14}{batch_formula(preset.spec):20}{tr(preset.summary)}{missing}")
    for line in fault_lines(tuple(faults)):
        note(line)
    sys.exit(ExitCode.USAGE if faults else ExitCode.DONE)


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def show(*, name: str, as_json: bool) -> None:
    """Show a preset with every default filled in."""
    from t5panel.presets import find_preset, load_preset

    preset = load_preset(name)
    body = {"summary": preset.summary, **preset.spec.model_dump(mode="json")}
    if as_json:
        say_json(body)
        return
    import yaml

    say(f"# {find_preset(name)}")
    say(yaml.safe_dump(body, sort_keys=False, allow_unicode=True).rstrip())


def prospect_of(options: dict[str, Any], machine: Machine | None = None) -> Prospect:
    """The plan and the command of what the options ask for, here or on another machine."""
    from t5panel.session import prospect

    return prospect(wish_of(options), machine=machine)


def _described_machine(text: str | None) -> Machine | None:
    from t5panel.monitor.hardware import cores
    from t5panel.plan.machine import parse_machine

    return None if text is None else parse_machine(text, cores=cores())


def print_plan(prospect: Prospect, *, as_json: bool) -> None:
    """A plan to stdout."""
    from t5panel.render.plan import plan_json, plan_lines, rehearsal_notice

    if as_json:
        say_json(plan_json(prospect.plan, prospect.command))
        return
    if prospect.plan.rehearsal:
        say(rehearsal_notice(prospect.plan))
    for line in plan_lines(prospect.plan, prospect.command):
        say(line)


def plan_exit_code(prospect: Prospect) -> ExitCode:
    """How a command ends that only plans."""
    from t5panel.session import MEMORY_CODES

    errors = prospect.plan.errors
    if any(finding.code not in MEMORY_CODES for finding in errors):
        return ExitCode.PREFLIGHT_FAILED
    return ExitCode.DOES_NOT_FIT if errors else ExitCode.DONE
