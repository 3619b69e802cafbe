"""What DeepSpeed's ZeRO-3 does to a model: hooks before and after each module, and a linear layer of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from deepspeed.runtime.zero.linear import zero3_linear_wrap
from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

from t5panel.trainers.simulator.tape import Tape


class Listener:
    """In the place of the coordinator that brings weights and takes them away: it notes when it would."""

    def __init__(self, model: nn.Module, tape: Tape) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._tape = tape
        self._lent: dict[nn.Module, Tensor] = {}  # modules in a recomputation, and their weight before it

    def reset_step(self) -> None:
        """A forward pass begins."""

    def trace_prologue(self, module: nn.Module) -> None:
        """Before `fetch_sub_module`."""

    def is_record_trace(self) -> bool:
        """Whether it wants to know the order of modules."""
        return False

    def fetch_sub_module(self, module: nn.Module, forward: bool) -> None:
        """A module needs its weights."""
        self._take_back(module)
        self._tape.hook("pre_forward" if forward else "pre_backward", self._names[module])
        if forward and self._tape.recomputing:
            self._lend(module)

    def release_sub_module(self, module: nn.Module, forward: bool) -> None:
        """A module is done with its weights."""
        self._take_back(module)
        self._tape.hook("post_forward" if forward else "post_backward", self._names[module])

    def _lend(self, module: nn.Module) -> None:
        """A storage of its own for this recomputation: what is saved of it for the backward pass will keep it."""
        for weight in module.parameters(recurse=False):
            self._lent[module] = weight.data
            with _disable_current_modes():
                weight.data = torch.empty_like(weight)
            self._tape.follow(weight, self._names[module])

    def _take_back(self, module: nn.Module) -> None:
        if module not in self._lent:
            return
        before = len(self._tape.events)
        (weight,) = module.parameters(recurse=False)
        weight.data = self._lent.pop(module)
        if len(self._tape.events) == before:
            self._tape.hook("kept", self._names[module])
        else:  # nothing had saved it
            del self._tape.events[before:]


class Hooks(DeepSpeedZeRoOffload):  # type: ignore[misc] # DeepSpeed is untyped
    """DeepSpeed's own hooks on a model whose weights stay where they are."""

    def __init__(self, model: nn.Module, tape: Tape) -> None:
        self.module = model
        self.param_coordinator = None  # as long as the hooks are set up
        self.zenflow = False
        self.forward_hooks: list[object] = []
        self.backward_hooks: list[object] = []
        self.setup_zero_stage3_hooks()
        self.param_coordinator = Listener(model, tape)


@contextmanager
def hooked(model: nn.Module, tape: Tape) -> Iterator[None]:
    """Within it, the model runs as under ZeRO-3."""
    Hooks(model, tape)
    with mock.patch.object(functional, "linear", zero3_linear_wrap):
        yield
