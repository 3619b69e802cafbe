"""Rows of a decoder-only model: LLaMA-Factory's own modules tokenise and keep them, once, before any rank starts."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from t5panel.contract.layout import RunDir, write_atomic
from t5panel.contract.llamafactory import arguments, has_own_register, tokenized_folder
from t5panel.contract.records import Prepared
from t5panel.contract.spec import RunSpec
from t5panel.errors import PreflightError
from t5panel.trainers.llamafactory_modules import LlamaFactory, import_llamafactory
from t5panel.trainers.llamafactory_sources import why_unreadable, write_register
from t5panel.trainers.prepare import BATCH_ROWS, Telling
from t5panel.trainers.source import Source
from t5panel.trainers.store import QUANTILES
from t5panel.trainers.text import first_line, where_from

OF_CARDS = frozenset(
    {
        *("deepspeed", "fp16", "pure_bf16", "tf32", "fp8", "fp8_backend", "fp8_enable_fsdp_float8_all_gather"),
        *("quantization_bit", "fsdp", "fsdp_config", "bf16_full_eval", "fp16_full_eval", "torch_compile", "optim"),
    }
)
"""Arguments that only a rank can follow, or that change no row."""


class TokenizedRows(msgspec.Struct, frozen=True):
    """What was tokenised: rows of training, rows held out, tokens of both and their checksum."""

    train_rows: int
    eval_rows: int
    tokens: int
    crc32: int
    lengths: tuple[int, ...]
    """Quantiles of the rows' lengths in tokens."""

    @classmethod
    def of(cls, run: RunDir) -> Self:
        """The rows of a run, as the preparation has left them."""
        return msgspec.json.decode(_counts(run).read_bytes(), type=cls)

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint compares."""
        return {"rows": self.train_rows, "tokens": self.tokens, "crc32": self.crc32}


def prepare_decoder(run: RunDir, spec: RunSpec) -> Prepared:
    """Tokenise the rows of a run, where that is not done yet.

    Raises: PreflightError when LLaMA-Factory cannot read its arguments, the tokenizer or the data.
    """
    if not _counts(run).exists():
        try:
            rows = _tokenise(run, spec)
        finally:
            shutil.rmtree(run.cache / "datasets", ignore_errors=True)
        write_atomic(_counts(run), msgspec.json.encode(rows))
    rows = TokenizedRows.of(run)
    return Prepared(
        train=str(tokenized_folder(run)),
        validation=None,
        rows=rows.train_rows + rows.eval_rows,
        dropped=0,
        truncated_sources=0,
        truncated_targets=0,
        source_tokens=rows.lengths,
    )


def _counts(run: RunDir) -> Path:
    return tokenized_folder(run).with_suffix(".json")


def _tokenise(run: RunDir, spec: RunSpec) -> TokenizedRows:
    sources = {} if has_own_register(spec) else write_register(run, spec)
    factory, telling = import_llamafactory(), Telling(run, "LLaMA-Factory tokenises the data")
    telling.show(0, 0)
    shutil.rmtree(tokenized_folder(run), ignore_errors=True)  # half of one
    module = _dataset_module(factory, spec, run, sources)
    train, held_out = module["train_dataset"], module.get("eval_dataset")
    evaluated = held_out.values() if isinstance(held_out, dict) else () if held_out is None else (held_out,)
    lengths, checksum = [], 0
    for batch in train.iter(BATCH_ROWS):
        for name in sorted(name for name in batch if name.endswith("input_ids")):
            for ids in batch[name]:
                lengths.append(len(ids))
                checksum = zlib.crc32(np.asarray(ids, dtype=np.int64).tobytes(), checksum)
        telling.show(len(lengths), len(train))
    quantiles = np.quantile(lengths, np.arange(1, QUANTILES + 1) / QUANTILES, method="higher").tolist()
    return TokenizedRows(len(train), sum(map(len, evaluated)), sum(lengths), checksum, tuple(quantiles))


def _dataset_module(
    factory: LlamaFactory, spec: RunSpec, run: RunDir, sources: Mapping[str, Source]
) -> Mapping[str, Any]:
    """LLaMA-Factory's own rows, by its own arguments.

    Raises: PreflightError with its words.
    """
    given = {key: value for key, value in arguments(spec, run).items() if key not in OF_CARDS}
    try:
        settings = factory.parser.get_train_args({**given, "use_cpu": True, "bf16": False})
    except (ImportError, ValueError) as error:
        raise PreflightError.of("llamafactory", f"LLaMA-Factory refuses its arguments: {first_line(error)}") from error
    model_args, data_args, training_args, finetuning_args = settings[:4]
    name = spec.model.name_or_path
    try:
        loaded = factory.models.load_tokenizer(model_args)
    except (OSError, ValueError) as error:
        message = f"LLaMA-Factory has no tokenizer from {name!r}: {first_line(error)}"
        raise PreflightError.of("model.name_or_path", message, where_from(name)) from error
    _show_no_rows(factory)
    try:
        template = factory.template.get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
    except ValueError as error:
        raise PreflightError.of("llamafactory.template", first_line(error)) from error
    return _read(factory, template, (model_args, data_args, training_args), finetuning_args.stage, loaded, sources)


def _read(
    factory: LlamaFactory,
    template: Any,  # noqa: ANN401 - all of these are LLaMA-Factory's
    settings: tuple[Any, Any, Any],
    stage: str,
    loaded: Mapping[str, Any],
    sources: Mapping[str, Source],
) -> Mapping[str, Any]:
    from datasets.exceptions import DatasetGenerationError

    kind = "rm" if stage == "dpo" else stage  # both learn from pairs
    try:
        found: dict[str, Any] = factory.loader.get_dataset(template, *settings, stage=kind, **loaded)
    except (DatasetGenerationError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise why_unreadable(error, sources) from error
    return found


def _show_no_rows(factory: LlamaFactory) -> None:
    """LLaMA-Factory prints a row of every data set: the rows are the user's, and logs are shared."""
    make = factory.loader._get_dataset_processor

    def silent(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        processor = make(*args, **kwargs)
        processor.print_data_example = lambda _example: None
        return processor

    factory.loader._get_dataset_processor = silent
