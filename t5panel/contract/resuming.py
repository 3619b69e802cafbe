"""Which settings a checkpoint can be resumed with, so that every later step means the same rows. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from t5panel.contract.marker import Identity

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec


def identity_of_spec(spec: RunSpec, *, data: dict[str, Any], held_out: int | None) -> Identity:
    """The settings of a spec, with the rows that its data gave."""
    return Identity(
        data=data,
        held_out=held_out,
        method=spec.method,
        zero_stage=spec.zero_stage,
        # Also without ZeRO DeepSpeed's bf16 optimizer keeps its master weights in one part a rank.
        sharded=_has_engine(spec) and (spec.zero_stage > 0 or spec.train.bf16),
        world_size=spec.num_gpus,
        per_device_train_batch_size=spec.train.per_device_train_batch_size,
        gradient_accumulation_steps=spec.train.gradient_accumulation_steps,
        seed=spec.train.seed,
    )


def _has_engine(spec: RunSpec) -> bool:
    return spec.method == "deepspeed" or (spec.method == "llamafactory" and spec.deepspeed is not None)


def reasons_against(saved: Identity, now: Identity) -> Iterator[str]:
    """Every reason why the rows would be others or the files of a checkpoint could not be loaded."""
    if saved.method != now.method:
        yield f"method {saved.method} → {now.method}: its files are others"
    if saved.zero_stage not in (None, now.zero_stage):
        yield f"ZeRO stage {saved.zero_stage} → {now.zero_stage}: the optimizer's state is laid out otherwise"
    if saved.world_size != now.world_size and (now.sharded or saved.sharded):
        yield f"{saved.world_size} → {now.world_size} ranks: ZeRO shards belong to {saved.world_size} ranks"
    if saved.effective_batch != now.effective_batch:
        yield f"effective batch {_product(saved)} → {_product(now)}: step N would stand for other rows"
    if saved.seed != now.seed:
        yield f"seed {saved.seed} → {now.seed}: the rows would come in another order"
    if saved.held_out not in (None, now.held_out):
        yield f"{saved.held_out:,} → {now.held_out:,} rows held out of training: step N would stand for other rows"
    changed = [key for key in saved.data if key != "format" and saved.data[key] != now.data.get(key)]
    if changed:
        parts = ", ".join(f"{key} {saved.data[key]} → {now.data.get(key)}" for key in changed)
        yield f"the tokenised rows are others: {parts}"


def _product(batch: Identity) -> str:
    factors = (batch.per_device_train_batch_size, batch.gradient_accumulation_steps, batch.world_size)
    return f"{' × '.join(map(str, factors))} = {batch.effective_batch}"
