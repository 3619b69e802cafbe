"""What panel and trainers share about a model's files: the kinds that can be trained, and the names of weights."""

from __future__ import annotations

T5_TYPES = ("t5", "mt5", "umt5")
"""`model_type` of the encoder-decoder models that the trainers train."""
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer_config.json")
"""Any of them makes a tokenizer; ByT5 has only the last."""
