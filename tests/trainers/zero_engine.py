"""The real DeepSpeed engine as rank 0 of several, on a CPU, watched: what it allocates and frees, in order.

`python -m tests.trainers.zero_engine CASE` prints a `Watched` as JSON. FakeProcessGroup's collectives do nothing, but
partitions and buffers are real. Temporaries of norms and overflow checks are left out: a few bytes on a card.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

STEPS = 3
BATCH, SOURCE, TARGET, VOCABULARY, LAYERS = 2, 24, 8, 513, 4
"""The vocabulary is a multiple of three: three ranks reduce its gradient as it is, with no flat copy beside what dies
late. Each stack has all blocks that a memory table tells apart."""
SCALAR = 8
"""Bytes: what is no larger is a scalar, which no one counts."""
OF_NORMS = ("abs", "stack", "pow", "sum", "linalg_vector_norm", "lift_fresh", "reciprocal", "clamp")
HOOKS = ("pre_forward", "post_forward", "pre_backward", "post_backward")


class Case(msgspec.Struct, frozen=True):
    """An engine to start: `zero_optimization`, ranks, and passes in an optimizer step."""

    zero: dict[str, Any]
    world: int = 3
    passes: int = 1
    checkpointing: bool = False


class Watched(msgspec.Struct, frozen=True):
    """Events: ["+", key, bytes, whether it is the model's] · ["-", key] · ["grad", parameter, key] · ["module", hook,
    name] · ["mark", name]."""

    events: list[list[Any]]
    sizes: list[int]
    groups: list[list[int]]
    modules: dict[str, list[int]]


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch
    """Notes every storage that an operation brings to life, and its death."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch
        self.events: list[list[Any]] = []
        self.in_pass = False
        self._living: dict[int, int | None] = {}
        self._born = 0

    def mark(self, name: str) -> None:
        """A phase begins."""
        self.events.append(["mark", name])
        self.in_pass = name.startswith("pass")

    def key_of(self, tensor: Tensor) -> int | None:
        """The key of a tensor's storage."""
        return self._living[tensor.untyped_storage()._cdata]

    def note(self, tensor: Tensor, operation: str = "") -> None:
        """Note a tensor's storage unless it is known."""
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if tensor.is_meta or size == 0 or place in self._living:
            return
        mine = self.in_pass and is_the_models()
        key = None
        if size > SCALAR and (mine or (tensor.is_floating_point() and operation not in OF_NORMS)):
            key = self._born = self._born + 1
            self.events.append(["+", key, size, mine])
        self._living[place] = key
        weakref.finalize(storage, self._freed, place)

    def _freed(self, place: int) -> None:
        key = self._living.pop(place)
        if key is not None:
            self.events.append(["-", key])

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - torch is free here
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.note(tensor, func.overloadpacket.__name__)
        return out


def is_the_models() -> bool:
    """Whether the running operation is the model's own: the engine's innermost frame only passes it on."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        path = frame.f_code.co_filename
        if "/deepspeed/" in path and not path.endswith(("nvtx.py", "comm/comm.py")):
            return frame.f_code.co_name in ("forward", "backward")
    return True


def model_of(case: Case) -> nn.Module:
    """A tiny T5."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=LAYERS,
        num_heads=4,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        attn_implementation="eager",
        use_cache=False,
    )
    model: nn.Module = T5ForConditionalGeneration(config)
    if case.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator] # transformers
    return model


def modules_of(model: nn.Module, numbers: Mapping[Tensor, int]) -> dict[str, list[int]]:
    """The weights that each module reads itself; a feed-forward one looks at its `wo` before it calls it."""
    owned = {}
    for name, module in model.named_modules():
        weights = list(module.parameters(recurse=False))
        weights += [child.weight for path, child in module.named_children() if path == "wo"]
        owned[name] = [numbers[weight] for weight in weights]
    return owned


def listen(model: nn.Module, watch: Watch) -> None:
    """Note the hooks with which stage 3 brings weights and takes them away."""
    from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload

    names = {module: name for name, module in model.named_modules()}

    def heard(hook: str) -> None:
        function = "{}_sub_module_{}_function".format(*hook.split("_"))
        original = getattr(DeepSpeedZeRoOffload, function)

        def noted(self: object, module: nn.Module) -> object:
            if hook == "post_forward" and torch._C._current_graph_task_id() != -1:  # recomputed
                for weight in module.parameters(recurse=False):
                    watch.events.append(["module", "kept", names[module]])
                    freed = ["module", "freed", names[module]]
                    weakref.finalize(weight.untyped_storage(), watch.events.append, freed)
            watch.events.append(["module", hook, names[module]])
            return original(self, module)

        setattr(DeepSpeedZeRoOffload, function, noted)

    for hook in HOOKS:
        heard(hook)


def engine_of(case: Case, model: nn.Module, groups: Iterable[list[Tensor]]) -> Any:  # noqa: ANN401 - DeepSpeed is untyped
    """The engine, in a group of ranks of which this process is the only one."""
    import deepspeed
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    dist.init_process_group("fake", rank=0, world_size=case.world, store=FakeStore())
    deepspeed.init_distributed(dist_backend="fake", auto_mpi_discovery=False, verbose=False, dist_init_required=False)
    optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=1e-4, fused=True)
    config = {
        "train_micro_batch_size_per_gpu": BATCH,
        "gradient_accumulation_steps": case.passes,
        "bf16": {"enabled": True},
        "zero_optimization": case.zero,
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 1.0,
    }
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]


def watched(case: Case) -> Watched:
    """Start the engine and train three steps."""
    model, watch = model_of(case), Watch()
    weights: list[Tensor] = list(model.parameters())
    numbers = {weight: number for number, weight in enumerate(weights)}
    sizes, modules = [weight.numel() for weight in weights], modules_of(model, numbers)
    groups = [[w for w in weights if w.ndim >= 2], [w for w in weights if w.ndim < 2]]
    ids = torch.ones(BATCH, SOURCE, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": ids, "labels": torch.ones(BATCH, TARGET, dtype=torch.long)}

    def ready(weight: Tensor) -> None:
        assert weight.grad is not None
        watch.events.append(["grad", numbers[weight], watch.key_of(weight.grad)])

    for weight in weights:
        weight.register_post_accumulate_grad_hook(ready)  # type: ignore[no-untyped-call] # torch
    listen(model, watch)
    with watch:
        for weight in weights:
            watch.note(weight)
        engine = engine_of(case, model, groups)
        engine.train()
        for step in range(STEPS):
            for _ in range(case.passes):
                watch.mark(f"pass {step}")
                loss = engine(**batch).loss
                engine.backward(loss)
                del loss
                watch.mark(f"step {step}")
                engine.step()
    return Watched(list(watch.events), sizes, [[numbers[w] for w in group] for group in groups], modules)


if __name__ == "__main__":
    found = watched(msgspec.json.decode(sys.argv[1], type=Case))
    os.write(1, msgspec.json.encode(found))
