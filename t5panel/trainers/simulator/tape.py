"""The tape: every storage that a step brings to life and lets die, in order."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from t5panel.contract.memory_table import WORKSPACE, HookName

aten = torch.ops.aten
NOBODYS = 0
"""Key of storages that are not on the tape."""
MATRIX_PRODUCTS = (aten.mm.default, aten.bmm.default, aten.addmm.default)


class Birth(NamedTuple):
    """A storage of `size` bytes, also told as a coefficient times a monomial, comes to life."""

    key: int
    size: int
    coefficient: float
    monomial: str
    operation: str


class Death(NamedTuple):
    """A storage's last reference goes."""

    key: int


class Cut(NamedTuple):
    """A place where one section of the step ends and another begins."""

    name: str


class Ready(NamedTuple):
    """A weight's gradient is complete, in a storage that was born before."""

    key: int
    parameter: str


class Hook(NamedTuple):
    """A module's hook fires, or storages of its weights are kept or freed."""

    name: HookName
    module: str


Event = Birth | Death | Ready | Hook | Cut


@dataclass
class Symbols:
    """Which letter a length stands for. Lengths must be distinct, and no product of some may equal another."""

    letters: Mapping[int, str] = field(default_factory=dict)

    def term(self, shape: Iterable[int], width: int, size: int) -> tuple[float, str]:
        """Coefficient and monomial of a tensor's shape; plain bytes when the shape does not explain the storage."""
        lengths = [length for length in shape if length != 1]
        coefficient = width * prod(length for length in lengths if length not in self.letters)
        monomial = "".join(sorted("".join(self.letters[length] for length in lengths if length in self.letters)))
        explained = coefficient * prod(length for length in lengths if length in self.letters)
        return (coefficient, monomial) if explained == size else (size, "")


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch
    """Records births and deaths while it is active. Meta tensors only: nothing is computed.

    What a CUDA kernel does differently from its meta stand-in is told here, operation by operation.
    """

    def __init__(self, symbols: Symbols) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch
        self.events: list[Event] = []
        self.backward = False
        self.recomputing = 0
        self._symbols = symbols
        self._living: dict[int, int] = {}
        self._born = 0
        self._workspaces: set[bool] = set()
        self._aligned: set[int] = set()

    def cut(self, name: str) -> None:
        """Begin another section."""
        self.events.append(Cut(name))

    def hook(self, name: HookName, module: str) -> None:
        """Note a module's hook."""
        self.events.append(Hook(name, module))

    def watch(self, tensor: object, operation: str = "given") -> None:
        """Note a tensor's storage unless it is known."""
        if not isinstance(tensor, Tensor):
            return
        storage = tensor.untyped_storage()
        address = storage._cdata
        size = storage.nbytes()
        if address in self._living or size == 0:
            return
        term = self._symbols.term(tensor.shape, tensor.element_size(), size)
        self._living[address] = self._birth(size, term, operation)
        weakref.finalize(storage, self._death, address)

    def follow(self, tensor: Tensor, module: str) -> None:
        """Note the death of a storage of a module's weight, but not its birth: who brings it is not known here."""
        storage = tensor.untyped_storage()
        self._living[storage._cdata] = NOBODYS
        weakref.finalize(storage, self._freed, storage._cdata, module)

    def align_rows(self, tensor: Tensor, alignment: int) -> None:
        """A kernel wants a tensor's rows at multiples of so many elements: its storage was born with such rows.

        Where its own rows are others, a card copies it into one: `plan.kernel_events.Bias` tells of both.
        """
        storage = tensor.untyped_storage()
        length, key = tensor.shape[-1], self._living[storage._cdata]
        if key in self._aligned or storage.nbytes() != tensor.numel() * tensor.element_size():
            return
        self._aligned.add(key)
        shape = (*tensor.shape[:-1], up(length, alignment))
        size = tensor.element_size() * prod(shape)
        place = next(place for place in reversed(range(len(self.events))) if _bears(self.events[place], key))
        term = self._symbols.term(shape, tensor.element_size(), size)
        self.events[place] = Birth(key, size, *term, self.events[place].operation)  # type: ignore[union-attr]

    def watch_gradients(self, model: nn.Module) -> None:
        """Note when the gradient of each of a model's weights is complete."""
        for name, parameter in model.named_parameters():
            parameter.register_post_accumulate_grad_hook(partial(self._ready, name))  # type: ignore[no-untyped-call]

    def transient(self, size: float, like: Tensor, operation: str) -> None:
        """A temporary inside a kernel, `size` times as large as `like`'s storage."""
        whole = like.untyped_storage().nbytes()
        coefficient, monomial = self._symbols.term(like.shape, like.element_size(), whole)
        self.events.append(Death(self._birth(int(whole * size), (coefficient * size, monomial), operation)))

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch's own signature
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operation, or what CUDA has in its place, and note what it made."""
        made = self._stand_in(func, args) or func
        result = made(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else (result,)
        for output in reversed(outputs) if func is aten.native_dropout.default else outputs:  # the mask is made first
            for tensor in output if isinstance(output, tuple | list) else (output,):
                self.watch(tensor, func.__name__)
        if func in MATRIX_PRODUCTS and self.backward not in self._workspaces:  # once there is room for the product
            self._workspaces.add(self.backward)  # one per thread: the forward one and autograd's own
            self._birth(0, (1, WORKSPACE), "workspace")
        if func is aten._safe_softmax.default:  # a mask of bytes lives beside its result for a moment
            self.transient(1 / args[0].element_size(), args[0], "softmax")
        elif func is aten._softmax_backward_data.default:  # SoftMax.cu: the product of gradient and result
            self.transient(1, result, "softmax")
        return result

    def _stand_in(self, func: Any, args: tuple[Any, ...]) -> Callable[..., Any] | None:  # noqa: ANN401
        if func is aten.native_dropout.default:
            return lambda x, *_: (torch.empty_like(x), torch.empty_like(x, dtype=torch.bool))
        if func is aten.native_dropout_backward.default:
            return lambda gradient, *_: torch.empty_like(gradient)
        if func is aten._safe_softmax.default:
            return lambda x, *_, **__: torch.empty_like(x)
        if func is aten.add.Tensor and self.backward and not self.recomputing and _meet(args):
            # Two gradients of one tensor: autograd adds into the first, which a dispatch mode does not see. Not into a
            # view: its base holds the storage too. Source: can_accumulate_inplace in torch's input_buffer.cpp.
            return None if args[0]._is_view() else (lambda first, *_, **__: first)
        return None

    def _birth(self, size: int, term: tuple[float, str], operation: str) -> int:
        self._born += 1
        self.events.append(Birth(self._born, size, *term, operation))
        return self._born

    def _ready(self, name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.events.append(Ready(self._living[parameter.grad.untyped_storage()._cdata], name))

    def _freed(self, address: int, module: str) -> None:
        del self._living[address]
        self.hook("freed", module)

    def _death(self, address: int) -> None:
        self.events.append(Death(self._living.pop(address)))


def up(length: int, alignment: int) -> int:
    """The smallest multiple of `alignment` that is no less."""
    return -(-length // alignment) * alignment


def _bears(event: Event, key: int) -> bool:
    return isinstance(event, Birth) and event.key == key


def _meet(args: tuple[Any, ...]) -> bool:
    if len(args) != 2 or not isinstance(args[1], Tensor):
        return False
    one, other = args
    return bool(one.shape == other.shape and one.dtype == other.dtype)
