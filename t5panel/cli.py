"""The command line: parse, call, print, exit. The only place that makes exit codes."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from t5panel import __version__
from t5panel.cells import left
from t5panel.errors import ExitCode, Fault, T5PanelError, UsageError
from t5panel.language import LANGUAGES, Language, chosen_language, speak, tr
from t5panel.plain import is_plain, plain_line, write_plainly

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir
    from t5panel.plan.machine import Machine
    from t5panel.presets import Preset
    from t5panel.session import Prospect
    from t5panel.wish import Wish

Handler = Callable[..., Any]
PLAIN = f"{__name__}.plain"
KILL_WAIT_SECONDS = 15.0
SMALLEST_PICTURE = 15
SILENCE_SECONDS = 180.0
"""A supervisor that is stopping its run and has not been heard of for so long is waited for no more."""


def say(text: str) -> None:
    """Data to stdout."""
    click.echo(plain_line(text) if _is_plain() else text)


def note(text: str) -> None:
    """Diagnostics to stderr."""
    click.echo(plain_line(text) if _is_plain() else text, err=True)


def say_json(value: Any) -> None:  # noqa: ANN401
    """One JSON value to stdout."""
    click.echo(json.dumps(value, ensure_ascii=_is_plain(), indent=1))


def _is_plain() -> bool:
    """Whether what is read here has to be ASCII. Asked of the command, for click would make its own stream of ours."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(PLAIN))


def run_options(command: Handler) -> Handler:
    """The options that name a run, shared by `t5panel`, `t5panel plan` and `t5panel show`."""
    options = [
        click.option("--preset", help="Preset name, or path of a YAML file."),
        click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), help="Where to train."),
        click.option("--gpus", help="Cards by PCI index, for example 0,2."),
        click.option("--config", help="LLaMA-Factory YAML of your own, for --preset llamafactory."),
        click.option("--model", help="Built-in shape, local folder or hub id."),
        click.option("--data", help="Parquet, JSONL or CSV file, or a folder of them."),
        click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any key of the spec, dotted."),
        click.option("--run-dir", type=click.Path(path_type=Path), help="Run directory to create."),
        click.option("--samples", type=click.IntRange(min=1), help="Rows to estimate time and energy for."),
        click.option("--price", type=click.FloatRange(min=0), help="Money per kWh."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _settle(context: click.Context, option: click.Parameter, asked: Language | bool | None) -> None:
    """From here on in the language and the characters that were asked for, else in those of the environment."""
    if asked:
        context.meta[f"{__name__}.{option.name}"] = asked
    language = context.meta.get(f"{__name__}.lang")
    terminal = sys.stdout.isatty() or sys.stderr.isatty()
    plain = context.meta.get(f"{__name__}.ascii") or (
        language is None and is_plain(os.environ, encoding=sys.stdout.encoding, terminal=terminal)
    )
    context.meta[PLAIN] = plain
    speak("en" if plain else language or chosen_language(os.environ))


def display_options(command: click.Command) -> None:
    """`--lang` and `--ascii`, before a command and after it."""
    lang = "Language of the texts; else that of LC_ALL, LC_MESSAGES or LANG."
    plain = "ASCII only, in English; also where the terminal or the locale has nothing else."
    command.params += [
        click.Option(["--lang"], type=click.Choice(LANGUAGES), help=lang, expose_value=False, callback=_settle),
        click.Option(["--ascii"], is_flag=True, help=plain, expose_value=False, callback=_settle),
    ]


def ends_with_exit_code(command: Handler) -> Handler:
    """Turn our errors into messages and exit codes."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return command(*args, **kwargs)
        except T5PanelError as error:
            from t5panel.render.faults import fault_json, fault_lines

            if kwargs.get("as_json"):
                say_json({"error": type(error).__name__, "faults": fault_json(error.faults)})
            for line in fault_lines(error.faults):
                note(line)
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            note("\n" + tr("interrupted"))
            sys.exit(ExitCode.STOPPED_BY_USER)

    return wrapped


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
        _refuse_lost_options(context)
        return
    if not (no_ui or detach or dry_run):
        _open_panel(options)
        return
    if options["preset"] is None:
        raise UsageError.of("--preset", "is missing", "for example t5panel --preset deepspeed --no-ui")
    prospect = _prospect(options)
    if dry_run:
        _print_plan(prospect, as_json=as_json)
        sys.exit(_plan_exit_code(prospect))
    _start(prospect, detach=detach, yes=yes, force=force, queue=queue, as_json=as_json)


@main.command()
@run_options
@click.option("--machine", help="Plan for another machine, for example '3xRTX 3080 20GiB,12GiB'.")
@ends_with_exit_code
def plan(*, machine: str | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Show what a preset would run, and whether it fits."""
    if options["preset"] is None:
        raise UsageError.of("--preset", "is missing", "see `t5panel presets`")
    prospect = _prospect(options, _described_machine(machine))
    _print_plan(prospect, as_json=as_json)
    sys.exit(_plan_exit_code(prospect))


@main.command()
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


@main.command()
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


@main.command()
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


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def runs(*, as_json: bool) -> None:
    """List the runs, newest first."""
    from t5panel.monitor.history import History
    from t5panel.render.run import run_row, snapshot_json
    from t5panel.session import list_runs

    found = [(History(run).refresh(), info) for run, info in list_runs()]
    if as_json:
        say_json(
            [{**snapshot_json(snapshot), "preset": info.preset, "created": info.created} for snapshot, info in found]
        )
        return
    if not found:
        note(tr("no runs yet; start one with: t5panel --preset deepspeed --no-ui"))
    for snapshot, _ in found:
        cells = run_row(snapshot)
        say("".join(map(left, cells, (32, 22, 12, 12, 0))))


@main.command()
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
        sys.exit(_follow(found))
    except KeyboardInterrupt:
        note("\n" + tr("left; the run goes on: t5panel attach {run}", run=found.run_id))


@main.command("note")
@click.argument("run")
@click.argument("text", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def note_on(*, run: str, text: str | None, as_json: bool) -> None:
    """Print the note on a run, or write TEXT as its note; an empty one takes it away."""
    from t5panel.launch.notes import write_note
    from t5panel.monitor.runs import read_note
    from t5panel.session import find_run

    found = find_run(run)
    if text is not None:
        write_note(found, text)
    kept = read_note(found)
    if as_json:
        say_json({"run_id": found.run_id, "note": kept})
    elif text is None:
        say(kept)


@main.command()
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


@main.command()
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
    session.resume(found, _overrides(assignments, gpus), queue=queue)
    _watch_or_leave(found, detach=detach, as_json=as_json)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--samples", type=click.IntRange(min=1), help="Rows to tell time and energy for; ten million if not given."
)
@click.option("--price", type=click.FloatRange(min=0), help="Money per kWh.")
@click.option("--markdown", is_flag=True, help="Print Markdown tables.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def compare(*, runs: tuple[str, ...], samples: int | None, price: float | None, markdown: bool, as_json: bool) -> None:
    """Put runs side by side: the settings that differ, and what each of them measured."""
    from t5panel.monitor.compare import compare_runs
    from t5panel.plan.forecast import DEFAULT_SAMPLES
    from t5panel.render.compare import comparison_json, comparison_lines, markdown_lines

    if markdown and as_json:
        raise UsageError.of("--markdown", "cannot be asked for together with --json")
    found = compare_runs(_find_all(runs), samples=samples or DEFAULT_SAMPLES, price=price)
    if as_json:
        say_json(comparison_json(found))
        return
    width = shutil.get_terminal_size().columns
    for line in markdown_lines(found) if markdown else comparison_lines(found, width=width):
        say(line)


@main.command()
@click.argument("run")
@click.option("--csv", "tables", type=click.Path(path_type=Path), metavar="DIR", help="Steps, evaluations, readings.")
@click.option("--tensorboard", "events", type=click.Path(path_type=Path), metavar="DIR", help="Event files.")
@click.option("--svg", "picture", type=click.Path(path_type=Path), metavar="FILE", help="The run screen as a picture.")
@click.option("--size", default="120x30", show_default=True, help="Columns and rows of the picture.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def export(
    *, run: str, tables: Path | None, events: Path | None, picture: Path | None, size: str, as_json: bool
) -> None:
    """Write a run for other programs: as tables, as event files of TensorBoard, as a picture."""
    from t5panel.monitor.export import write_csv, write_events
    from t5panel.session import find_run

    cells = [int(word) for word in size.split("x") if word.isascii() and word.isdecimal()]
    if len(cells) != 2 or min(cells) < SMALLEST_PICTURE:
        raise UsageError.of("--size", f"{size!r} is no size", "columns x rows, for example 120x30")
    if tables is None and events is None and picture is None:
        raise UsageError.of("export", "nothing was asked for", "--csv DIR, --tensorboard DIR or --svg FILE")
    found, written = find_run(run), list[Path]()
    try:
        if tables is not None:
            written += write_csv(found, tables)
        if events is not None:
            write_events(found, events)
            written.append(events)
        if picture is not None:
            from t5panel.tui.picture import write_picture

            write_picture(found, picture, width=cells[0], height=cells[1])
            written.append(picture)
    except OSError as error:
        raise UsageError.of(str(error.filename), error.strerror or str(error)) from error
    if as_json:
        say_json({"run_id": found.run_id, "written": [str(path) for path in written]})
    for path in () if as_json else written:
        say(str(path))


def _find_all(names: tuple[str, ...]) -> tuple[RunDir, ...]:
    """The runs of these names, each once, in their order.

    Raises: UsageError with every name that is no run.
    """
    from t5panel.session import find_run

    found: list[RunDir] = []
    faults: list[Fault] = []
    for name in names:
        try:
            found.append(find_run(name))
        except UsageError as error:
            faults += error.faults
    if faults:
        raise UsageError(faults)
    return tuple(dict.fromkeys(found))


@main.command()
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
        for line in () if as_json else group_lines(group, width=width, paint=_paint):
            say(line)
    if as_json:
        say_json(doctor_json(patient, groups))
    else:
        say(verdict_line(patient, groups, paint=_paint))
    failed = any(finding.severity == "error" for group in groups for finding in group.findings)
    sys.exit(ExitCode.PREFLIGHT_FAILED if failed else ExitCode.DONE)


@main.command()
@click.argument("name", metavar="ENVIRONMENT")
@click.option("--remove", "removing", is_flag=True, help="Delete it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@ends_with_exit_code
def setup(*, name: str, removing: bool, as_json: bool) -> None:
    """Make the environment of a method that cannot live in the panel's own: llamafactory."""
    from t5panel.contract.environments import ENVIRONMENTS, read_environment
    from t5panel.launch.environment import DISK_BYTES, DOWNLOAD_BYTES, remove, set_up

    known = next((one for one in ENVIRONMENTS if one == name), None)
    if known is None:
        raise UsageError.of("setup", f"no environment {name!r}", f"known: {', '.join(ENVIRONMENTS)}")
    if removing:
        removed = remove(known)
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


def _paint(text: str, tone: str) -> str:
    """A text in the colour of its tone; plain without a terminal, and with NO_COLOR."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    colours = {"good": "green", "warning": "yellow", "error": "red"}
    return click.style(text, fg=colours.get(tone), bold=tone == "title", dim=tone == "quiet")


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


def _refuse_lost_options(context: click.Context) -> None:
    """Options before a command would have no effect."""
    given = click.core.ParameterSource.COMMANDLINE
    lost = [
        param.opts[0]
        for param in context.command.params
        if param.expose_value and context.get_parameter_source(param.name or "") is given
    ]
    if lost:
        words = f"t5panel {context.invoked_subcommand} {' '.join(lost)} …"
        raise UsageError.of(" ".join(lost), "has no effect before a command", f"write: {words}")


def _wish(options: dict[str, Any]) -> Wish:
    from t5panel.wish import Wish

    named = {"device": options["device"], "model.name_or_path": options["model"], "data.train": options["data"]}
    overrides = {**_config(options["config"]), **_overrides(options["assignments"], options["gpus"], named)}
    return Wish(
        options["preset"] or "deepspeed",
        overrides,
        options["run_dir"],
        samples=options.get("samples"),
        price=options.get("price"),
    )


def _config(name: str | None) -> Mapping[str, Any]:
    """What a LLaMA-Factory YAML sets, and a note of what in it is outdated or has no effect."""
    if name is None:
        return {}
    from t5panel.llamafactory_config import read_config

    config = read_config(name)
    for text in config.notes:
        note(f"{name}: {text}")
    return config.overrides


def _overrides(
    assignments: tuple[str, ...], gpus: str | None, named: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """Dotted keys with the values that the options give them; those that have an option of their own win.

    Raises: UsageError with every option that cannot be read.
    """
    faults: list[Fault] = []
    overrides: dict[str, Any] = {}
    try:
        overrides |= _assignments(assignments)
    except UsageError as error:
        faults += error.faults
    overrides |= {key: value for key, value in (named or {}).items() if value is not None}
    if gpus is not None:
        cards = _card_list(gpus)
        overrides |= {"gpus": cards, "num_gpus": len(cards)}
        if not cards:
            faults.append(Fault("--gpus", f"{gpus!r} is no list of cards", "for example --gpus 0,2"))
    if faults:
        raise UsageError(faults)
    return overrides


def _assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    if not assignments:
        return {}  # the panel then paints its first frame before YAML and pydantic are loaded
    from t5panel.presets import parse_assignments

    return parse_assignments(assignments)


def _card_list(text: str) -> list[int]:
    """`0,2` as numbers; empty for anything that is no such list."""
    words = [word.strip() for word in text.split(",")]
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []


def _prospect(options: dict[str, Any], machine: Machine | None = None) -> Prospect:
    from t5panel.session import prospect

    return prospect(_wish(options), machine=machine)


def _described_machine(text: str | None) -> Machine | None:
    from t5panel.monitor.hardware import cores
    from t5panel.plan.machine import parse_machine

    return None if text is None else parse_machine(text, cores=cores())


def _print_plan(prospect: Prospect, *, as_json: bool) -> None:
    from t5panel.render.plan import plan_json, plan_lines, rehearsal_notice

    if as_json:
        say_json(plan_json(prospect.plan, prospect.command))
        return
    if prospect.plan.rehearsal:
        say(rehearsal_notice(prospect.plan))
    for line in plan_lines(prospect.plan, prospect.command):
        say(line)


def _plan_exit_code(prospect: Prospect) -> ExitCode:
    from t5panel.session import MEMORY_CODES

    errors = prospect.plan.errors
    if any(finding.code not in MEMORY_CODES for finding in errors):
        return ExitCode.PREFLIGHT_FAILED
    return ExitCode.DOES_NOT_FIT if errors else ExitCode.DONE


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
    _watch_or_leave(run, detach=detach, as_json=as_json)


def _watch_or_leave(run: RunDir, *, detach: bool, as_json: bool) -> NoReturn:
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
    sys.exit(_follow(run, as_json=as_json))


def _follow(run: RunDir, *, as_json: bool = False) -> int:
    """Show a run until it ends; its exit code."""
    from t5panel.headless import follow
    from t5panel.monitor.runs import user_faults
    from t5panel.render.faults import fault_lines
    from t5panel.render.run import snapshot_json, summary_lines

    if _is_plain():
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


@contextmanager
def _without_ssl() -> Iterator[None]:
    """asyncio imports TLS where it can, and a panel never needs it: 4.7 MiB of its memory."""
    if "asyncio" in sys.modules:
        yield
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # the import system's word for "not there"
    try:
        yield
    finally:
        del sys.modules["ssl"]


def _open_panel(options: dict[str, Any]) -> None:
    if not sys.stdout.isatty():
        raise UsageError.of("t5panel", "the panel needs a terminal", "use --no-ui, or `t5panel runs`")
    import gc

    wish = _wish(options)
    gc.disable()  # until the first frame, which the panel ends: an eighth of its start
    with _without_ssl():
        import asyncio  # noqa: F401 - as Textual will have it
    from t5panel.tui.app import run_panel

    run_panel(wish, plain=_is_plain())


for each in (main, *main.commands.values()):
    display_options(each)
