"""What panel and trainers share about a model's files: the kinds that can be trained, and the names of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

T5_TYPES = ("t5", "mt5", "umt5")
"""`model_type` of the encoder-decoder models that the trainers train."""
CAUSAL = ("ForCausalLM", "LMHeadModel")
"""How architectures that continue a text are called."""
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer_config.json")
"""Any of them makes a tokenizer; ByT5 has only the last."""


def is_decoder(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a decoder-only language model, with eyes and ears or without."""
    if config.get("is_encoder_decoder") or config.get("model_type") in T5_TYPES:
        return False
    names = tuple(config.get("architectures") or ())
    if "AutoModelForCausalLM" in (config.get("auto_map") or {}) or any(name.endswith(CAUSAL) for name in names):
        return True
    sees = "vision_config" in config or "audio_config" in config
    return sees and any(name.endswith("ForConditionalGeneration") for name in names)
