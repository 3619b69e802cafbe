"""The model of a run: a published shape with random weights, or trained weights from a folder or the hub."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel, T5Config, UMT5Config, set_seed

from t5panel.contract.shapes import Shape, builtin_shape, is_builtin
from t5panel.contract.spec import RunSpec

_CONFIGS = {"t5": T5Config, "umt5": UMT5Config}
_NOT_FRESH = ("model_type", "architectures", "tie_word_embeddings", "scale_decoder_outputs", "transformers_version")


def build_model(spec: RunSpec, device: torch.device) -> PreTrainedModel:
    """The model on a device in float32, ready to train: no cache, checkpointing and dropout as the spec says.

    Built on the device itself, so that three ranks never hold three copies in host RAM. Also sets the global seed.
    """
    set_seed(spec.train.seed)
    config = load_config(spec)
    name = spec.model.name_or_path
    attention = spec.model.attn_implementation
    if is_builtin(name) or spec.model.from_scratch:
        with device:
            model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    else:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            name, config=config, attn_implementation=attention, dtype=torch.float32, device_map={"": device}
        )
    # The decoder has a config of its own; left alone, every training forward would build a key/value cache.
    for part in (model.config, model.encoder.config, model.decoder.config):
        part.use_cache = False
    if spec.train.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model


def load_config(spec: RunSpec) -> Any:  # noqa: ANN401 - transformers' configs are untyped here
    """The model's config with the spec's dropout."""
    name = spec.model.name_or_path
    config = config_of(builtin_shape(name)) if is_builtin(name) else AutoConfig.from_pretrained(name)
    if spec.model.from_scratch and not is_builtin(name):
        config = fresh_config(config)
    if spec.train.dropout_rate is not None:
        config.dropout_rate = spec.train.dropout_rate
    return config


def fresh_config(config: Any) -> Any:  # noqa: ANN401
    """The config of a published model, fit for random weights.

    transformers 5 ties the embeddings of every T5 that starts at random; a tied head must be scaled, as T5's first
    version is. With the unscaled outputs that v1.1 and mT5 were published with, the first loss would be over 100.
    """
    if config.model_type not in ("t5", "mt5"):
        return config
    published = config.to_dict()
    return T5Config(**{key: value for key, value in published.items() if key not in _NOT_FRESH})


def config_of(shape: Shape) -> Any:  # noqa: ANN401
    """A transformers config of a built-in shape."""
    return _CONFIGS[shape.model_type](
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        d_kv=shape.d_kv,
        d_ff=shape.d_ff,
        num_layers=shape.num_layers,
        num_decoder_layers=shape.num_decoder_layers,
        num_heads=shape.num_heads,
        feed_forward_proj="gated-gelu" if shape.gated else "relu",
        tie_word_embeddings=shape.tied,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )


def parameter_count(model: torch.nn.Module) -> int:
    """Parameters of a model, also where ZeRO-3 has taken them apart."""
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
