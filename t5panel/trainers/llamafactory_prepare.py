"""Rows of a run read by LLaMA-Factory's data modules: `python -m t5panel.trainers.llamafactory_prepare RUN`."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from t5panel.contract.layout import PRIVATE, RunDir, token_cache_home, write_atomic
from t5panel.contract.llamafactory import (
    arguments,
    fresh_model,
    has_own_register,
    starts_at_random,
)
from t5panel.contract.llamafactory_keys import t5_faults
from t5panel.contract.records import Prepared
from t5panel.contract.spec import RunSpec
from t5panel.errors import Fault, PreflightError
from t5panel.trainers.llamafactory_decoder_rows import prepare_decoder
from t5panel.trainers.llamafactory_modules import LlamaFactory, import_llamafactory
from t5panel.trainers.llamafactory_rows import register_rows
from t5panel.trainers.llamafactory_sources import why_unreadable, write_register
from t5panel.trainers.prepare import BATCH_ROWS, Counts, Telling, main, only_one
from t5panel.trainers.source import Source
from t5panel.trainers.store import FORMAT, StoreWriter, length_quantiles
from t5panel.trainers.text import Tokenizer, load_tokenizer


def prepare(run: RunDir, spec: RunSpec) -> Prepared:
    """The tokenised rows of a run, from the cache or made now; the folder of each split and what was left out.

    Raises: PreflightError when the data cannot be used.
    """
    if spec.model.decoder_only:
        return prepare_decoder(run, spec)
    if faults := [Fault(*one) for one in t5_faults(spec.llamafactory)]:
        raise PreflightError(faults)
    tokenizer = load_tokenizer(spec.model)
    tokenizer.save_pretrained(run.tokenizer)
    if starts_at_random(spec):
        _leave_fresh_model(run, spec, tokenizer)
    sources = {} if has_own_register(spec) else write_register(run, spec)
    train = token_cache_home() / _fingerprint(run, spec, tokenizer, sources)
    held_out = train.with_name(f"{train.name}-held-out")
    train.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    with only_one(train.with_name(train.name + ".lock")):
        report = train / "counts.json"
        if not report.exists():
            try:
                counts = _read_all(run, spec, tokenizer, sources, (train, held_out))
            finally:
                shutil.rmtree(run.cache / "datasets", ignore_errors=True)
            write_atomic(report, json.dumps(asdict(counts)).encode())
    return Prepared(
        train=str(train),
        validation=str(held_out) if held_out.exists() else None,
        source_tokens=length_quantiles(train, "source"),
        target_tokens=length_quantiles(train, "target"),
        **json.loads(report.read_text(encoding="utf-8")),
    )


def _leave_fresh_model(run: RunDir, spec: RunSpec, tokenizer: Tokenizer) -> None:
    from t5panel.trainers.model import load_config

    load_config(spec).save_pretrained(fresh_model(run))
    tokenizer.save_pretrained(fresh_model(run))


def _read_all(
    run: RunDir, spec: RunSpec, tokenizer: Tokenizer, sources: Mapping[str, Source], folders: tuple[Path, Path]
) -> Counts:
    """Let LLaMA-Factory read everything; store the rows of training, and those held out where it knows of any."""
    from datasets.exceptions import DatasetGenerationError

    factory = import_llamafactory()
    register_rows(factory, spec.data, tokenizer)
    Telling(run, "LLaMA-Factory reads the data").show(0, 0)
    try:
        module = _dataset_module(factory, run, spec, tokenizer)
    except (DatasetGenerationError, KeyError, TypeError, ValueError) as error:
        raise why_unreadable(error, sources) from error
    counts = Counts()
    for folder, rows in zip(folders, (module.get("train_dataset"), module.get("eval_dataset")), strict=True):
        if rows is not None:
            shutil.rmtree(folder, ignore_errors=True)
            found = _stored(run, rows, folder, vocabulary=len(tokenizer))
            counts = found if folder is folders[0] else counts
            if found.rows == 0:
                raise PreflightError.of("data.train", f"all {found.dropped} rows have an empty prompt or response")
    return counts


def _dataset_module(factory: LlamaFactory, run: RunDir, spec: RunSpec, tokenizer: Tokenizer) -> dict[str, Any]:
    # As in a rank, but for what only a rank has: its card, and the engine that must be started on all of them.
    given = {key: value for key, value in arguments(spec, run).items() if key != "deepspeed"}
    settings = factory.parser.get_train_args({**given, "use_cpu": True, "bf16": False, "optim": "adamw_torch"})
    model_args, data_args, training_args = settings[0], settings[1], settings[2]
    template = factory.template.get_template_and_fix_tokenizer(tokenizer, data_args)
    found: dict[str, Any] = factory.loader.get_dataset(
        template, model_args, data_args, training_args, stage="sft", tokenizer=tokenizer, processor=None
    )
    return found


def _stored(run: RunDir, rows: Any, folder: Path, *, vocabulary: int) -> Counts:  # noqa: ANN401 - datasets is untyped
    counts, telling, total = Counts(), Telling(run, "storing the rows"), len(rows)
    with StoreWriter(folder, vocabulary=vocabulary) as store:
        for batch in rows.iter(BATCH_ROWS):
            pairs = [(s, t) for s, t in zip(batch["input_ids"], batch["labels"], strict=True) if s and t]
            if pairs:
                store.append(_arrays(source for source, _ in pairs), _arrays(target for _, target in pairs))
            dropped = len(batch["labels"]) - len(pairs)
            counts = counts.plus(Counts(len(pairs), dropped, sum(batch["cut_source"]), sum(batch["cut_target"])))
            telling.show(counts.rows + counts.dropped, total)
    telling.show(total, total, last=True)
    return counts


def _arrays(rows: Iterable[list[int]]) -> list[Any]:
    return [np.array(ids, dtype=np.uint32) for ids in rows]


def _fingerprint(run: RunDir, spec: RunSpec, tokenizer: Tokenizer, sources: Mapping[str, Source]) -> str:
    """A name for tokenised rows that changes whenever they would."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    files = [file for source in sources.values() for file in source.files] or _registered_files(spec)
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    parts = [
        "llamafactory",
        FORMAT,
        type(tokenizer).__name__,
        backend.to_str() if backend is not None else len(tokenizer),
        spec.data.max_source_length,
        spec.data.max_target_length,
        spec.llamafactory,
        [(source.prompt, source.response) for source in sources.values()],
        [(path, size) if str(run.path) in path else (path, size, time) for path, size, time in stats],
        spec.train.seed,  # LLaMA-Factory splits by it
        sys.version,
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:20]


def _registered_files(spec: RunSpec) -> list[Path]:
    """The register of the user's own, and every file beside it."""
    folder = Path((spec.llamafactory or {}).get("dataset_dir", "data"))
    return sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []


if __name__ == "__main__":
    sys.exit(main(prepare))
