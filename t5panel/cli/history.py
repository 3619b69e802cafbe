"""Commands on runs as they are kept: the list, notes, comparisons, exports."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from t5panel.cells import left
from t5panel.cli.console import ends_with_exit_code, note, say, say_json
from t5panel.errors import Fault, UsageError
from t5panel.language import tr

if TYPE_CHECKING:
    from t5panel.contract.layout import RunDir


SMALLEST_PICTURE = 15


@click.command()
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
        say("".join(map(left, cells, (32, 22, 13, 12, 0))))


@click.command("note")
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


@click.command()
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


@click.command()
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
