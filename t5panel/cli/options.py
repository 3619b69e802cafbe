"""The options that name a run, and the settings that they give."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from t5panel.cli.console import Handler, note
from t5panel.errors import Fault, UsageError

if TYPE_CHECKING:
    from t5panel.wish import Wish


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


def refuse_lost_options(context: click.Context) -> None:
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


def wish_of(options: dict[str, Any]) -> Wish:
    """What the options ask for.

    Raises: UsageError with every option that cannot be read.
    """
    from t5panel.wish import Wish

    named = {"device": options["device"], "model.name_or_path": options["model"], "data.train": options["data"]}
    overrides = {**_config(options["config"]), **overrides_of(options["assignments"], options["gpus"], named)}
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
    from t5panel.preflight.models import config_of

    config = read_config(name, lambda model, download: config_of(model, os.environ, download=download))
    for text in config.notes:
        note(f"{name}: {text}")
    return config.overrides


def overrides_of(
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
