"""One training step of a real transformers T5 on meta tensors, put on tape."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import T5ForConditionalGeneration, UMT5ForConditionalGeneration, masking_utils
from transformers.initialization import no_init_weights

from t5panel.contract.memory_table import Loss, Precision, kind_key
from t5panel.contract.shapes import Shape
from t5panel.trainers.loss import cross_entropy_sum
from t5panel.trainers.model import config_of
from t5panel.trainers.simulator.cuda import HALF, Autocast, like_cuda
from t5panel.trainers.simulator.tape import Event, Symbols, Tape

Contexts = Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]


@dataclass(frozen=True, slots=True)
class Kind:
    """All that decides which operations a step runs; sizes decide only how large they are."""

    precision: Precision
    attention: Literal["sdpa", "eager"]
    padded: bool
    checkpointing: bool
    dropout: bool
    gated: bool
    tied: bool
    loss: Loss
    model_type: Literal["t5", "umt5"] = "t5"
    sharded: bool = False
    """Under ZeRO-3."""

    @property
    def key(self) -> str:
        """The kind's name in a table."""
        return kind_key(**asdict(self))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows, tokens and the model's dimensions; `chunk` is in target tokens."""

    batch: int
    source: int
    target: int
    heads: int
    d_kv: int
    d_model: int
    d_ff: int
    vocabulary: int
    encoder_layers: int
    decoder_layers: int
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """One forward and backward pass. Weights and inputs are not on it; gradients of the weights do not die on it."""

    events: tuple[Event, ...]
    parameters: Mapping[str, tuple[int, ...]]


def record(kind: Kind, sizes: Sizes, symbols: Symbols | None = None) -> Recorded:
    """Run one forward and backward pass on meta tensors; cuts stand at the blocks' borders."""
    tape = Tape(symbols or Symbols())
    autocast = Autocast(enabled=kind.precision == "autocast")
    with _mask_rules(padded=kind.padded):
        contexts = _contexts(tape, autocast)
        model = _build(kind, sizes, contexts)
        inputs = _inputs(sizes)
        for tensor in (*model.parameters(), *inputs.values()):
            tape.watch(tensor)
        tape.events.clear()
        tape.watch_gradients(model)
        _cut_at_blocks(model, tape)
        gc.collect()
        gc.disable()  # storages die when their last reference goes, as in a rank; the collector's time is not theirs
        try:
            with _hooked(model, tape) if kind.sharded else nullcontext(), like_cuda(tape, autocast):
                tape.cut("begin")
                loss = _forward(kind, sizes, model, inputs, autocast, contexts)
                autocast.leave()
                tape.cut("loss")
                tape.backward = True
                torch.autograd.backward(loss)
        finally:
            gc.enable()
        events = tuple(tape.events)
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        return Recorded(events, shapes)


def _hooked(model: nn.Module, tape: Tape) -> AbstractContextManager[None]:
    from t5panel.trainers.simulator.hooks import hooked  # DeepSpeed: five CPU seconds that other kinds do not need

    return hooked(model, tape)


def _contexts(tape: Tape, autocast: Autocast) -> Contexts:
    """What torch's checkpoint enters: nothing in the forward pass, our rules in a recomputation."""
    return lambda: (nullcontext(), _Recomputing(tape, autocast))


def _forward(
    kind: Kind,
    sizes: Sizes,
    model: Any,  # noqa: ANN401
    inputs: dict[str, Tensor],
    autocast: Autocast,
    contexts: Contexts,
) -> Tensor:
    labels = inputs["labels"]
    if kind.loss == "model":
        loss: Tensor = model(**inputs, use_cache=False).loss
        return loss
    if kind.loss == "trainer":
        output = model(**inputs, **({"use_cache": False} if kind.checkpointing else {}))
        autocast.leave()
        if kind.precision == "autocast":
            output.logits = output.logits.float()  # accelerate returns float32
        return output.loss  # type: ignore[no-any-return]
    if kind.loss == "summed":
        shifted = model._shift_right(labels)
        output = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=shifted,
            use_cache=False,
        )
        autocast.leave()
        logits = output.logits.float() if kind.precision == "autocast" else output.logits
        del output
        with autocast.suspended():
            return cross_entropy_sum(logits, labels)
    rows = sizes.chunk if kind.loss == "chunked" else labels.numel()
    return _chunked_loss(model, inputs, rows, contexts)


def _chunked_loss(model: Any, inputs: dict[str, Tensor], rows: int, contexts: Contexts) -> Tensor:  # noqa: ANN401
    encoded = model.encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    decoded = model.decoder(
        input_ids=model._shift_right(inputs["labels"]),
        encoder_hidden_states=encoded,
        encoder_attention_mask=inputs["attention_mask"],
        use_cache=False,
    )[0]

    def chunk_loss(hidden: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model.lm_head(hidden).float(), labels, reduction="sum")

    if getattr(model.config, "scale_decoder_outputs", False):  # UMT5 knows no scale
        decoded = decoded * model.model_dim**-0.5
    hidden, labels = decoded.reshape(-1, decoded.shape[-1]), inputs["labels"].reshape(-1)
    parts = [
        checkpoint(
            chunk_loss,
            hidden[start : start + rows],
            labels[start : start + rows],
            use_reentrant=False,
            context_fn=contexts,
        )
        for start in range(0, hidden.shape[0], rows)
    ]
    total: Tensor = sum(parts) / (labels != -100).sum()
    return total


def _cut_at_blocks(model: Any, tape: Tape) -> None:  # noqa: ANN401
    """Cut the tape where a block begins, forward and backward."""
    for stack, letter in ((model.encoder, "e"), (model.decoder, "d")):
        for number, block in enumerate(stack.block):
            block.forward = _cutting(block.forward, f"{letter}{number}", tape)


def _cutting(forward: Callable[..., Any], name: str, tape: Tape) -> Callable[..., Any]:
    def cutting_forward(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if tape.backward:  # recomputed
            return forward(*args, **kwargs)
        tape.cut(f"F{name}")
        output = forward(*args, **kwargs)
        hidden = output[0] if isinstance(output, tuple) else output
        hidden.register_hook(lambda gradient: tape.cut(f"B{name}"))
        return output

    return cutting_forward


class _Recomputing(AbstractContextManager[None]):
    """A block's recomputation has an autocast region of its own, whose copies of weights go when it ends.

    A class and no generator: recomputation ends with an exception, which a generator's frames would keep alive, and
    with it the block's tensors.
    """

    def __init__(self, tape: Tape, autocast: Autocast) -> None:
        self._tape, self._autocast = tape, autocast

    def __enter__(self) -> None:
        self._tape.recomputing += 1

    def __exit__(self, *_: object) -> None:
        self._tape.recomputing -= 1
        self._autocast.leave()


def _build(kind: Kind, sizes: Sizes, contexts: Contexts) -> Any:  # noqa: ANN401
    config = config_of(
        Shape(
            vocab_size=sizes.vocabulary,
            d_model=sizes.d_model,
            d_kv=sizes.d_kv,
            d_ff=sizes.d_ff,
            num_layers=sizes.encoder_layers,
            num_decoder_layers=sizes.decoder_layers,
            num_heads=sizes.heads,
            gated=kind.gated,
            tied=kind.tied,
            model_type=kind.model_type,
        )
    )
    config.dropout_rate = 0.1 if kind.dropout else 0.0
    model_type = UMT5ForConditionalGeneration if kind.model_type == "umt5" else T5ForConditionalGeneration
    with torch.device("meta"), no_init_weights():
        model = model_type._from_config(config, attn_implementation=kind.attention)
        model.tie_weights()
        if not kind.tied:
            model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight))
    if kind.precision == "bf16":
        model = model.to(HALF)
    model.train()
    if kind.checkpointing:
        settings = {"use_reentrant": False, "context_fn": contexts}
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=settings)
        else:  # before transformers 5.23
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
        model.config.use_cache = False
    return model


def _inputs(sizes: Sizes) -> dict[str, Tensor]:
    def ids(length: int) -> Tensor:
        return torch.empty(sizes.batch, length, dtype=torch.long, device="meta")

    return {"input_ids": ids(sizes.source), "attention_mask": ids(sizes.source), "labels": ids(sizes.target)}


@contextmanager
def _mask_rules(padded: bool) -> Iterator[None]:
    """transformers leaves out a mask of ones, which it sees by its values: meta tensors have none."""
    rules = {"_ignore_bidirectional_mask_sdpa": not padded, "_ignore_causal_mask_sdpa": True}
    with ExitStack() as stack:
        for name, answer in rules.items():
            stack.enter_context(mock.patch.object(masking_utils, name, partial(_answer, answer)))
        yield


def _answer(answer: bool, *_: Any, **__: Any) -> bool:  # noqa: ANN401
    return answer
