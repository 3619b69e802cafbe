"""What torch does differently on a CUDA card, told on meta tensors: autocast, fused dropout, the choice of attention.

Nothing is computed, so only shapes, dtypes, strides and lifetimes have to be right. Sources: torch's lists of autocast
operations (docs, "Autocast Op Reference"), its attention kernels, and measured peaks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from t5panel.trainers.simulator.tape import Tape, up

HALF = torch.bfloat16
LOGSUMEXP_ALIGNMENT, BIAS_ALIGNMENT, BIAS_GRADIENT_ALIGNMENT = 32, 8, 16
"""Elements. Source: attention.cu, sdp_utils_cpp.h (pad_bias) and attention_backward.cu of torch 2.11."""
QUERY_BLOCK = 64
"""Rows and columns of a block in which the kernel sums the query's gradient up, for heads of 64 elements at most.

Source: workspace_elements_gq in kernel_backward.h of the same; 16 bytes of each block are left out.
"""


class Autocast:
    """CUDA's autocast to bfloat16: casts of leaf weights are kept until the region ends, those of others are not."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._weights: dict[int, Tensor] = {}

    def leave(self) -> None:
        """The end of the region: the weights' copies go."""
        self._weights.clear()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within it nothing is cast."""
        enabled, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = enabled

    def lower(self, value: Any) -> Any:  # noqa: ANN401
        """A tensor as an operation of the lower-precision list takes it."""
        if not self.enabled or not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if value.is_leaf and value.requires_grad and value._base is None:
            if id(value) not in self._weights:
                self._weights[id(value)] = value.to(HALF)
            return self._weights[id(value)]
        return value.to(HALF)

    def raised(self, value: Any) -> Any:  # noqa: ANN401
        """A tensor as an operation of the float32 list takes it."""
        if self.enabled and isinstance(value, Tensor) and value.dtype == HALF:
            return value.float()
        return value


class EfficientAttention(torch.autograd.Function):
    """The memory-efficient kernel: keeps query, key, value, bias, output and a logsumexp padded to 32."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        """Attention of (batch, heads, length, width) tensors."""
        batch, heads, length, width = query.shape
        output = query.new_empty(batch, length, heads, width).transpose(1, 2)
        logsumexp = query.new_empty((batch, heads, _padded(length)), dtype=torch.float32)
        ctx.save_for_backward(bias, key, query, value, logsumexp, output)  # freed in this order
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of query, key and value, and of the bias when it needs one."""
        bias, key, query, value, logsumexp, output = ctx.saved_tensors
        if gradient.stride(-1) != 1:
            gradient = gradient.contiguous()
        batch, heads, length, _ = query.shape
        with torch._C._AutoDispatchBelowAutograd():  # what a kernel returns is no view
            gradients = tuple(map(_gradient, (query, key, value)))
            of_bias = None
            if bias is not None and ctx.needs_input_grad[3]:
                columns = bias.shape[-1]
                of_bias = bias.new_empty((*bias.shape[:-1], up(columns, BIAS_GRADIENT_ALIGNMENT)))[..., :columns]
        delta = query.new_empty((batch, heads, _padded(length)), dtype=torch.float32)
        sums = query.new_empty((batch, heads, up(length, QUERY_BLOCK), QUERY_BLOCK), dtype=torch.float32)
        del sums, delta
        del output, logsumexp, value, query, key, bias  # a C++ function's names go in the reverse of their order
        return (*gradients, of_bias)


def _padded(length: int) -> int:
    return up(length, LOGSUMEXP_ALIGNMENT)


def _gradient(tensor: Tensor) -> Tensor:
    batch, heads, length, width = tensor.shape
    return tensor.new_empty(batch, length, heads, width).transpose(1, 2)


def math_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float, scale: float | None
) -> Tensor:
    """The fall-back kernel, in float32: taken when the bias is not contiguous in its last dimension."""
    dtype = query.dtype
    query, key, value = query.float(), key.float(), value.float()
    root = math.sqrt(scale if scale is not None else query.shape[-1] ** -0.5)
    scaled = query * root  # a name of the kernel's, which lives until it returns
    weights = torch.matmul(scaled, key.transpose(-2, -1) * root)
    if bias is not None:
        weights.add_(bias)
    weights = torch.ops.aten._safe_softmax(weights, -1)  # the same name: the scores go here
    if dropout > 0:
        weights = torch.ops.aten.native_dropout(weights, dropout, True)[0]
    _weights = weights.to(dtype)  # the kernel returns them too, and makes them first
    return torch.matmul(weights, value).to(dtype)


@contextmanager
def like_cuda(tape: Tape, autocast: Autocast) -> Iterator[None]:
    """Within it, torch's functions behave as on a CUDA card with this autocast."""
    lower, raised = autocast.lower, autocast.raised
    dropout, cross_entropy = functional.dropout, functional.cross_entropy
    log_softmax, nll_loss = functional.log_softmax, functional.nll_loss

    def in_half(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: original(*reversed([lower(arg) for arg in reversed(args)]), **kwargs)

    def in_float(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: original(*map(raised, args), **kwargs)

    def fused_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return dropout(input, p, training, inplace)
        output: Tensor = torch.ops.aten.native_dropout(input, p, True)[0]
        return output

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,  # noqa: ANN401
    ) -> Tensor:
        bias, value, key, query = map(lower, (attn_mask, value, key, query))
        if bias is not None and bias.stride(-1) != 1:
            with autocast.suspended():
                return math_attention(query, key, value, bias, dropout_p, scale)
        if bias is not None:
            tape.align_rows(bias, BIAS_ALIGNMENT)
        if bias is not None and bias.shape[0] == 1 and query.shape[0] > 1:
            bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        output: Tensor = EfficientAttention.apply(query, key, value, bias)  # type: ignore[no-untyped-call] # torch
        return output

    def loss(
        input: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        if not autocast.enabled or input.dtype != HALF:
            return cross_entropy(input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        # Autocast leaves the log-softmax of half-precision logits alone; only the loss itself is computed in float32.
        return nll_loss(log_softmax(input, -1).float(), target, weight, None, ignore_index, None, reduction)

    patches = {
        (functional, "linear"): in_half(functional.linear),
        (torch, "matmul"): in_half(torch.matmul),
        (torch.Tensor, "matmul"): in_half(torch.Tensor.matmul),
        (torch, "bmm"): in_half(torch.bmm),
        (functional, "softmax"): in_float(functional.softmax),
        (torch, "softmax"): in_float(torch.softmax),
        (functional, "log_softmax"): in_float(functional.log_softmax),
        (torch, "pow"): in_float(torch.pow),
        (torch.Tensor, "pow"): in_float(torch.Tensor.pow),
        (torch, "rsqrt"): in_float(torch.rsqrt),
        (functional, "dropout"): fused_dropout,
        (functional, "scaled_dot_product_attention"): attention,
        (functional, "cross_entropy"): loss,
    }
    with ExitStack() as stack:
        for (owner, name), function in patches.items():
            stack.enter_context(mock.patch.object(owner, name, function))
        stack.enter_context(tape)
        yield
