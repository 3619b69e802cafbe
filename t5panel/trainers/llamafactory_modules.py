"""LLaMA-Factory's own modules, imported where neither torchaudio nor torchvision is."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from t5panel.contract.environments import setup_command, untested
from t5panel.contract.versions import installed_versions
from t5panel.errors import PreflightError


@dataclass(frozen=True)
class LlamaFactory:
    """The modules that take our registrations, and those that are only called. All untyped."""

    loader: Any
    """llamafactory.data.loader: reads data sets, and asks for a processor of their rows."""
    models: Any
    """llamafactory.model.loader: loads configs and weights."""
    workflow: Any
    """llamafactory.train.sft.workflow: supervised fine-tuning."""
    tuner: Any
    """llamafactory.train.tuner: the entry."""
    parser: Any
    """llamafactory.hparams.parser: the arguments."""
    template: Any
    """llamafactory.data.template."""


def import_llamafactory() -> LlamaFactory:
    """The modules.

    Raises: PreflightError when the versions are not those that were tested.
    """
    if problem := untested(installed_versions()):
        raise PreflightError.of("llamafactory", problem, setup_command("llamafactory"))
    stand_in_for_audio()
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARN")
    from llamafactory.data import loader, template
    from llamafactory.hparams import parser
    from llamafactory.model import loader as models
    from llamafactory.train import tuner
    from llamafactory.train.sft import workflow

    return LlamaFactory(loader, models, workflow, tuner, parser, template)


def load_states(optimizer: Any, schedule: Any, checkpoint: Path, device: Any) -> None:  # noqa: ANN401
    """Resume both. The Trainer's own way loads for the device `cpu:0` of accelerate 1.11, which torch does not know."""
    import torch
    from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

    for state, name in ((optimizer, OPTIMIZER_NAME), (schedule, SCHEDULER_NAME)):
        state.load_state_dict(torch.load(checkpoint / name, map_location=device, weights_only=True))


def stand_in_for_audio() -> None:
    """An empty torchaudio: LLaMA-Factory imports it whatever is trained, and its wheels need a CUDA build of torch."""
    if "torchaudio" not in sys.modules and find_spec("torchaudio") is None:
        module = ModuleType("torchaudio")
        module.__spec__ = ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = module
