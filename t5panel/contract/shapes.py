"""Published T5-family shapes under the names `builtin:*`: random weights, no download."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "builtin:"


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a T5 model, in T5Config's names; lengths in elements."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    gated: bool
    tied: bool = True
    model_type: str = "t5"
    relative_attention_num_buckets: int = 32

    @property
    def parameters(self) -> int:
        """Number of parameters, embeddings counted once when tied. Source: modeling_t5.py of transformers."""
        attention = 4 * self.d_model * self.d_kv * self.num_heads
        feed_forward = (3 if self.gated else 2) * self.d_model * self.d_ff
        bias = self.relative_attention_num_buckets * self.num_heads
        encoder_bias, decoder_bias = (
            (bias * self.num_layers, bias * self.num_decoder_layers) if self.model_type == "umt5" else (bias, bias)
        )
        encoder = self.num_layers * (attention + feed_forward + 2 * self.d_model) + self.d_model + encoder_bias
        decoder = (
            self.num_decoder_layers * (2 * attention + feed_forward + 3 * self.d_model) + self.d_model + decoder_bias
        )
        embeddings = self.vocab_size * self.d_model * (1 if self.tied else 2)
        return embeddings + encoder + decoder


SHAPES: dict[str, Shape] = {
    "tiny": Shape(384, 64, 16, 128, 2, 2, 4, gated=True),
    "t5-small": Shape(32128, 512, 64, 2048, 6, 6, 8, gated=False),
    "t5-base": Shape(32128, 768, 64, 3072, 12, 12, 12, gated=False),
    "t5-large": Shape(32128, 1024, 64, 4096, 24, 24, 16, gated=False),
    "t5-3b": Shape(32128, 1024, 128, 16384, 24, 24, 32, gated=False),
    "v1_1-small": Shape(32128, 512, 64, 1024, 8, 8, 6, gated=True),
    "v1_1-base": Shape(32128, 768, 64, 2048, 12, 12, 12, gated=True),
    "v1_1-large": Shape(32128, 1024, 64, 2816, 24, 24, 16, gated=True),
    "mt5-small": Shape(250112, 512, 64, 1024, 8, 8, 6, gated=True),
    "mt5-base": Shape(250112, 768, 64, 2048, 12, 12, 12, gated=True),
    "umt5-small": Shape(256384, 512, 64, 1024, 8, 8, 6, gated=True, model_type="umt5"),
    "umt5-base": Shape(256384, 768, 64, 2048, 12, 12, 12, gated=True, model_type="umt5"),
    "byt5-small": Shape(384, 1472, 64, 3584, 12, 4, 6, gated=True),
    "byt5-base": Shape(384, 1536, 64, 3968, 18, 6, 12, gated=True),
}
"""Source: the config.json of each published model on the Hugging Face hub; `tiny` is ours.

mT5 is T5 v1.1 with a larger vocabulary, and is built as one. All are tied: transformers 5 ties the embeddings of every
T5 that starts from random weights (configuration_t5.py), also where the published weights have a head of their own.
"""


def is_builtin(name: str) -> bool:
    """True for names of built-in models and data."""
    return name.startswith(PREFIX)


def builtin_shape(name: str) -> Shape:
    """The shape called `builtin:<name>`; a RunSpec holds no other name."""
    return SHAPES[name.removeprefix(PREFIX)]
