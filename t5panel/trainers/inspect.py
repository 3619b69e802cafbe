"""A look at the user's model and data before a run directory exists: `python -m t5panel.trainers.inspect` < spec.

Reads a RunSpec as JSON from stdin and prints facts and faults as JSON. Loads no torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from t5panel.contract.llamafactory import has_own_register
from t5panel.contract.model_files import T5_TYPES, WEIGHT_FILES, is_decoder
from t5panel.contract.shapes import builtin_shape, is_builtin
from t5panel.contract.spec import RunSpec
from t5panel.contract.versions import installed_versions
from t5panel.errors import Fault, T5PanelError
from t5panel.trainers.source import find_source
from t5panel.trainers.text import END, first_line, import_transformers_without_torch, load_tokenizer, where_from

PADDING = 0


def inspect(spec: RunSpec) -> dict[str, Any]:
    """Versions, model facts and every fault of a spec's model and data."""
    faults: list[Fault] = []
    config = _model_config(spec, faults)
    faults += _tokenizer_faults(spec, config)
    for key, path in (("data.train", spec.data.train), ("data.validation", spec.data.validation)):
        if path is None or is_builtin(path) or has_own_register(spec):
            continue
        found = find_source(path, spec.data, key)
        if isinstance(found, list):
            faults += found
    decoder_only = config is not None and not _is_t5(config)
    return {
        "versions": installed_versions(),
        "config": None if decoder_only else config,
        "decoder_only": decoder_only,
        "faults": [asdict(fault) for fault in faults],
    }


def _is_t5(config: Mapping[str, Any]) -> bool:
    return config.get("model_type", T5_TYPES[0]) in T5_TYPES


def _model_config(spec: RunSpec, faults: list[Fault]) -> dict[str, Any] | None:
    """The model's config.json, or None with a fault."""
    name = spec.model.name_or_path
    if is_builtin(name):
        return {"vocab_size": builtin_shape(name).vocab_size}
    import_transformers_without_torch()
    from transformers import PretrainedConfig

    try:
        config, _ = PretrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        faults.append(Fault("model.name_or_path", f"no model from {name!r}: {first_line(error)}", where_from(name)))
        return None
    if config.get("model_type") not in T5_TYPES and not (spec.method == "llamafactory" and is_decoder(config)):
        faults.append(_stranger(name, config))
        return None
    if spec.model.decoder_only and not is_decoder(config):
        message = f"{name!r} is an encoder-decoder: as a decoder it would be shown the answers that it is to learn"
        faults.append(Fault("model.decoder_only", message, "leave model.decoder_only out"))
    if not spec.model.from_scratch and not has_weights(name):
        message = f"{name!r} has a config but no weights"
        hint = f"--set model.from_scratch=true starts at random; {where_from(name)}"
        faults.append(Fault("model.name_or_path", message, hint))
    return dict(config)


def _stranger(name: str, config: Mapping[str, Any]) -> Fault:
    """A model that the chosen method does not train."""
    hint = f"t5panel trains {', '.join(T5_TYPES)} (encoder-decoder) models"
    if is_decoder(config):
        hint += "; decoder-only ones are LLaMA-Factory's: --preset llamafactory"
    return Fault("model.name_or_path", f"{name!r} is a {config.get('model_type', 'nameless')} model", hint)


def has_weights(name: str) -> bool:
    """False when a folder, or offline the hub's cache, holds no weights; True for a hub id that can be downloaded."""
    if Path(name).is_dir():
        return any((Path(name) / file).is_file() for file in WEIGHT_FILES)
    from huggingface_hub import constants, try_to_load_from_cache

    cached = any(isinstance(try_to_load_from_cache(name, file), str) for file in WEIGHT_FILES)
    return cached or not constants.HF_HUB_OFFLINE


def _tokenizer_faults(spec: RunSpec, config: dict[str, Any] | None) -> list[Fault]:
    own_tokenizer = spec.model.tokenizer is None
    if own_tokenizer and (config is None or is_builtin(spec.model.name_or_path)):
        return []  # every built-in shape has room for the byte tokenizer; transformers need not be loaded to say so
    import_transformers_without_torch()
    try:
        tokenizer = load_tokenizer(spec.model)
    except T5PanelError as error:
        return list(error.faults)
    if config is not None and not _is_t5(config):
        return []  # LLaMA-Factory's templates look after its end token
    faults = []
    size = len(tokenizer)
    vocabulary = (config or {}).get("vocab_size", size)
    if size > vocabulary:
        message = f"the tokenizer has {size:,} tokens, the model's vocabulary only {vocabulary:,}"
        hint = "take the model's own tokenizer or a shape with a larger vocabulary"
        faults.append(Fault("model.tokenizer", message, hint))
    last, padding = next(reversed(tokenizer("a")["input_ids"]), None), tokenizer.pad_token_id
    if (last, padding) != (END, PADDING):
        message = f"a text ends in token {last} and is padded with {padding}; T5's are {END} and {PADDING}"
        hint = "without an end token a model never learns to stop: give the tokenizer a post-processor that adds it"
        faults.append(Fault("model.tokenizer", message, hint))
    return faults


if __name__ == "__main__":
    sys.stdout.write(json.dumps(inspect(RunSpec.model_validate_json(sys.stdin.read()))))
