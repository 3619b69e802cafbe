"""Trainings of an encoder-decoder that LLaMA-Factory itself makes beside t5panel: they go wrong in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from t5panel.plan.planning import Finding

PROGRAMS = ("llamafactory-cli", "lmf")
LAUNCHER = "llamafactory/launcher.py"
"""What torchrun starts for it in every rank."""
MODEL = "model_name_or_path"


class StockTraining(msgspec.Struct, frozen=True):
    """A training that LLaMA-Factory itself makes."""

    pid: int
    config: Path | None
    """Its YAML; None where the settings are in its command line."""
    model: str


def foreign_findings(
    config_of: Callable[[str], Mapping[str, Any] | None], *, proc: Path = Path("/proc")
) -> tuple[Finding, ...]:
    """A warning for each; `config_of` gives a model's config.json, where it can be had."""
    return tuple(
        _finding(training, str(config.get("model_type", "model")))
        for training in stock_trainings(proc)
        if (config := config_of(training.model)) is not None and config.get("is_encoder_decoder")
    )


def _finding(training: StockTraining, kind: str) -> Finding:
    message = (
        f"pid {training.pid} trains {training.model} by llamafactory-cli: "
        f"it shows the encoder of a {kind} the answers, and what it trains cannot answer"
    )
    again = f"--config {training.config}" if training.config else f"--model {training.model}"
    return Finding("warning", "llamafactory.stock", message, f"end it; t5panel --preset llamafactory {again} is right")


def stock_trainings(proc: Path = Path("/proc")) -> Iterator[StockTraining]:
    """Each once, by its first process; those of other users that show neither command nor folder are left out."""
    seen: set[tuple[Path | None, str]] = set()
    for folder in sorted(
        (entry for entry in proc.iterdir() if entry.name.isdigit()), key=lambda entry: int(entry.name)
    ):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            training = _training(int(folder.name), _arguments(words), (folder / "cwd").readlink())
        except OSError:  # it has ended, or is not ours to look at
            continue
        if training is not None and (key := (training.config, training.model)) not in seen:
            seen.add(key)
            yield training


def _arguments(words: Sequence[str]) -> Sequence[str]:
    """What LLaMA-Factory was told to train with; nothing for another program."""
    for place, word in enumerate(words):
        if word.endswith(LAUNCHER):
            return words[place + 1 :]
        if (Path(word).name in PROGRAMS or word == "llamafactory.cli") and words[place + 1 : place + 2] == ["train"]:
            return words[place + 2 :]
    return ()


def _training(pid: int, arguments: Sequence[str], cwd: Path) -> StockTraining | None:
    if not arguments:
        return None
    if arguments[0].endswith((".yaml", ".yml", ".json")):
        import yaml

        config = cwd / arguments[0]
        try:
            settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return None
        name = settings.get(MODEL) if isinstance(settings, dict) else None
        return StockTraining(pid, config, _located(str(name), cwd)) if name else None
    pairs = dict(pairwise(arguments))
    name = pairs.get(f"--{MODEL}") or next((w.partition("=")[2] for w in arguments if w.startswith(f"--{MODEL}=")), "")
    return StockTraining(pid, None, _located(name, cwd)) if name else None


def _located(name: str, cwd: Path) -> str:
    """A model's folder as it is seen from anywhere; a hub id as it is."""
    return str(cwd / name) if (cwd / name).is_dir() else name
