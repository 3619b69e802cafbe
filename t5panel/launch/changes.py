"""An ended run with other settings: what its checkpoint allows, and what it is started with then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from t5panel.contract.checkpoints import newest_checkpoint
from t5panel.contract.layout import RunDir
from t5panel.contract.marker import Marker, marker_of
from t5panel.contract.records import Change, RunInfo
from t5panel.contract.resuming import identity_of_spec, reasons_against
from t5panel.errors import Fault, UsageError
from t5panel.launch.commands import card_indices, command_for, prepare_command_for
from t5panel.monitor.gpu_memory import same_rows

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

WHERE = "--set"
FREE = frozenset(
    {
        *("launcher", "num_gpus", "gpus", "interpreter", "schedule", "oom_recovery", "on_event"),
        *("data.train", "data.validation", "data.max_predict_samples", "model.attn_implementation"),
        *("train.per_device_train_batch_size", "train.per_device_eval_batch_size"),
        *("train.gradient_accumulation_steps", "train.gradient_checkpointing", "train.max_grad_norm"),
        *("train.max_steps", "train.num_train_epochs", "train.dropout_rate", "train.dataloader_num_workers"),
        *("train.logging_steps", "train.eval_steps", "train.save_steps", "train.save_total_limit"),
        "train.generation_max_length",
    }
)
"""What a checkpoint does not decide, as long as it agrees with the marker; moved data is compared when it is read."""
WEIGHED = frozenset({"method", "train.seed", "deepspeed.zero_optimization.stage"})
"""What the marker itself is asked about."""
FIXED = {
    "data": "step N would stand for other rows",
    "deepspeed": "the optimizer's state was saved under it",
    "device": "a run goes on where it began",
    "model": "the checkpoint holds the weights of this model",
    "train": "the checkpoint restores optimizer, schedule and precision as they were",
}
"""Why the rest of a spec's part stays as it was."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A run as it goes on: run.json, the spec in it, and the files that its launcher reads."""

    info: RunInfo
    spec: RunSpec
    files: Mapping[Path, str]


def changed_run(run: RunDir, info: RunInfo, values: Mapping[str, Any], *, cores: int) -> Changed:
    """An ended run with other values of dotted keys; the change is noted in its run.json.

    Raises: UsageError with every value that is none, and every reason why the newest checkpoint does not go with it.
    """
    from t5panel.presets import check_document, with_value

    document = dict(info.spec)
    for key, value in values.items():
        document = with_value(document, key, value)
    spec = check_document(document, name=info.preset, where=WHERE).spec
    after = spec.model_dump(mode="json")
    keys = [key for key in values if _value_at(info.spec, key) != _value_at(after, key)]
    folder = newest_checkpoint(run)
    marker = marker_of(folder) if folder else None
    if marker is not None and (faults := list(_faults(marker, spec, keys))):
        raise UsageError(faults)
    change = Change(
        time.time(),
        marker.step if marker else 0,
        {key: _value_at(info.spec, key) for key in keys},
        {key: _value_at(after, key) for key in keys},
    )
    command, prepare = command_for(spec, run, cores=cores), prepare_command_for(spec, run)
    changed = msgspec.structs.replace(
        info,
        spec=after,
        command=command.record,
        prepare=prepare.record,
        cards=card_indices(spec) if spec.device == "cuda" else (),
        interpreter=spec.interpreter or sys.executable,
        plan={**info.plan, "effective_batch": spec.effective_batch, "world_size": spec.num_gpus},
        changes=(*info.changes, change) if keys else info.changes,
    )
    return Changed(changed, spec, {**prepare.files, **command.files})


def _faults(marker: Marker, spec: RunSpec, keys: list[str]) -> Iterator[Fault]:
    """Why a checkpoint does not go with a spec."""
    for key in keys:
        if key not in FREE and key not in WEIGHED:
            part = key.partition(".")[0]
            yield Fault(key, FIXED.get(part, "it cannot be changed"), "start a new run with it")
    now = identity_of_spec(spec, data=marker.data, held_out=marker.held_out)
    for reason in reasons_against(marker, now):
        yield Fault(f"checkpoint-{marker.step}", reason, _hint(marker, spec))
    if spec.train.max_steps is not None and spec.train.max_steps <= marker.step:
        message = f"{spec.train.max_steps:,} steps are done: the checkpoint is of step {marker.step:,}"
        yield Fault("train.max_steps", message)


def _hint(marker: Marker, spec: RunSpec) -> str:
    """The nearest batch that keeps the rows of a step, where that is what is wrong."""
    rows = marker.effective_batch
    if rows == spec.effective_batch:
        return ""
    found = same_rows(rows, ranks=spec.num_gpus, largest=spec.train.per_device_train_batch_size)
    if found is None:
        return f"{rows} rows do not divide among {spec.num_gpus} ranks"
    size, accumulation = found
    batch = f"--set train.per_device_train_batch_size={size} " if size != spec.train.per_device_train_batch_size else ""
    return f"the same rows: {batch}--set train.gradient_accumulation_steps={accumulation}"


def _value_at(document: Mapping[str, Any], dotted_key: str) -> Any:  # noqa: ANN401
    value: Any = document
    for part in dotted_key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
