"""RunSpec: everything a run is made of, checked once at the door. Names are Hugging Face's and DeepSpeed's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from t5panel.contract import llamafactory_keys
from t5panel.contract.deepspeed_keys import FILLED_FROM_TRAIN, escaping_paths, misplaced_autos, unknown_keys
from t5panel.contract.shapes import PREFIX, SHAPES, is_builtin
from t5panel.contract.window import parse_window
from t5panel.contract.words import Device, Launcher, Method

LAUNCHERS: dict[Method, tuple[Launcher, ...]] = {
    "manual": ("accelerate", "torchrun"),
    "trainer": ("torchrun", "accelerate"),
    "deepspeed": ("deepspeed", "torchrun"),
    "llamafactory": ("torchrun", "llamafactory-cli", "accelerate", "deepspeed"),
}

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


BUILTIN_DATA = ("builtin:docstrings",)


def _model_name(name: str) -> str:
    return _known_builtin(name, "model", tuple(PREFIX + shape for shape in SHAPES))


def _data_name(name: str) -> str:
    return _known_builtin(name, "data set", BUILTIN_DATA)


def _known_builtin(name: str, kind: str, known: tuple[str, ...]) -> str:
    if not name:
        raise PydanticCustomError("bad_name", "is empty", {"hint": f"a path, or built in: {', '.join(known)}"})
    if is_builtin(name) and name not in known:
        context = {"kind": kind, "name": name, "hint": f"built in: {', '.join(known)}"}
        raise PydanticCustomError("bad_name", "no built-in {kind} {name}", context)
    return name


ModelName = Annotated[str, AfterValidator(_model_name)]
DataName = Annotated[str, AfterValidator(_data_name)]


def _daily_window(text: str) -> str:
    try:
        parse_window(text)
    except ValueError as error:
        hint = "leave it empty to train at any time"
        raise PydanticCustomError("bad_name", "{problem}", {"problem": str(error), "hint": hint}) from error
    return text


DailyWindow = Annotated[str, AfterValidator(_daily_window)]


class Part(BaseModel):
    """A frozen part of a RunSpec: unknown keys and wrong types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelSpec(Part):
    """Which T5 is trained and how it starts."""

    name_or_path: ModelName = "builtin:t5-base"
    """A built-in shape (`builtin:t5-base`), a local folder, or a hub id such as `google-t5/t5-base`."""
    tokenizer: ModelName | None = None
    """A tokenizer folder or hub id; empty: the model's own, or the byte tokenizer for built-in shapes."""
    from_scratch: bool = False
    """Start from random weights of the model's shape instead of its trained weights."""
    attn_implementation: Literal["sdpa", "eager"] = "sdpa"
    """Attention kernel; flex_attention is refused because its T5 bias gradient is wrong."""
    decoder_only: bool = False
    """A decoder alone, which method llamafactory leaves to LLaMA-Factory; found by looking at the model."""


class DataSpec(Part):
    """Which prompt/response pairs are read."""

    train: DataName = "builtin:docstrings"
    """A parquet, JSONL or CSV file, a folder of such files, or `builtin:docstrings`."""
    validation: DataName | None = None
    """A file or folder like `train`; empty: rows held out of `train`."""
    prompt_column: str | None = None
    """Column of the prompt; empty: found by its usual names."""
    response_column: str | None = None
    """Column of the response; empty: found by its usual names."""
    max_source_length: PositiveInt = 512
    """Prompt tokens kept; longer prompts are truncated and counted."""
    max_target_length: PositiveInt = 512
    """Response tokens kept; longer responses are truncated and counted."""
    max_eval_samples: PositiveInt = 256
    """Rows evaluated; without a validation file these rows are held out of training."""
    max_predict_samples: Annotated[int, Field(ge=0)] = 16
    """Held-out rows answered by greedy generation at each evaluation; 0: none."""


class TrainSpec(Part):
    """How it is trained, in the names of Hugging Face TrainingArguments."""

    per_device_train_batch_size: PositiveInt = 8
    """Rows per card in one forward pass."""
    per_device_eval_batch_size: PositiveInt = 8
    """Rows per card in one evaluation pass."""
    gradient_accumulation_steps: PositiveInt = 16
    """Forward passes summed into one optimizer step."""
    learning_rate: PositiveFloat = 3e-4
    """Peak learning rate."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    """Schedule of the learning rate over the run."""
    warmup_steps: Annotated[float, Field(ge=0)] = 0.03
    """Optimizer steps of warm-up; below 1: a share of all steps."""
    weight_decay: Fraction = 0.0
    """Decoupled weight decay."""
    adam_beta1: Fraction = 0.9
    """AdamW decay of the first moment."""
    adam_beta2: Fraction = 0.999
    """AdamW decay of the second moment."""
    adam_epsilon: PositiveFloat = 1e-8
    """AdamW epsilon."""
    max_grad_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Gradient norm that is clipped to; 0: no clipping."""
    num_train_epochs: PositiveFloat = 1.0
    """Passes over the training rows, when max_steps is empty."""
    max_steps: PositiveInt | None = None
    """Optimizer steps; empty: from num_train_epochs."""
    logging_steps: PositiveInt = 1
    """Optimizer steps between two records of the loss."""
    eval_steps: PositiveInt | None = None
    """Optimizer steps between two evaluations; empty: at the end only."""
    save_steps: PositiveInt | None = None
    """Optimizer steps between two checkpoints; empty: at the end only."""
    save_total_limit: PositiveInt = 2
    """Complete checkpoints kept."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1 - 1024)] = 42
    """Seed of weights, data order and dropout."""
    bf16: bool = True
    """bfloat16 compute (autocast; under DeepSpeed its bf16 engine with an fp32 master copy)."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: less VRAM, about a third more time."""
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor"] = "adamw_torch_fused"
    """Optimizer."""
    dropout_rate: Fraction | None = None
    """Dropout of the model; empty: the model's own value."""
    dataloader_num_workers: Annotated[int, Field(ge=0)] = 0
    """Loader processes per rank; 0 reads the memory-mapped cache in the rank itself."""
    generation_max_length: PositiveInt = 128
    """Longest greedy answer at an evaluation, in tokens."""


class RunSpec(Part):
    """One run: method, machine share, model, data and training settings."""

    method: Method
    """Which trainer runs: manual loop, HF Trainer, DeepSpeed ZeRO or LLaMA-Factory."""
    launcher: Launcher
    """Which program starts the ranks."""
    num_gpus: PositiveInt = 3
    """Cards, one rank each; on a CPU the number of ranks."""
    gpus: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] | None = None
    """Cards by PCI index as nvidia-smi shows them; empty: the first num_gpus."""
    device: Device = "auto"
    """cuda, cpu, or auto: cuda when a card is found, else a rehearsal on the CPU."""
    interpreter: str | None = None
    """Python that runs the trainer; empty: the panel's own."""
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    train: TrainSpec = TrainSpec()
    deepspeed: dict[str, Any] | None = None
    """DeepSpeed's own JSON; batch, accumulation, clipping, precision and optimizer are filled in from `train`."""
    llamafactory: dict[str, Any] | None = None
    """LLaMA-Factory's own YAML keys for data sets and their reading; the other parts of a preset decide the rest."""
    schedule: DailyWindow | None = None
    """Daily window such as `22:00-08:00 Europe/Berlin`: paused with a checkpoint outside of it; empty: always."""
    oom_recovery: bool = False
    """After a CUDA out-of-memory go on from the newest checkpoint with half the batch and twice the accumulation."""
    on_event: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    """Program and arguments started at each warning and ending, told of it by variables T5PANEL_EVENT_*."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        found = _disagreements(self)
        if found:
            details = [
                InitErrorDetails(
                    type=PydanticCustomError("bad_name", "{problem}", {"problem": text, "hint": ""}),
                    loc=tuple(key.split(".")),
                    input=None,
                )
                for key, text in found
            ]
            raise ValidationError.from_exception_data("RunSpec", details)
        return self

    @property
    def zero_stage(self) -> int:
        """ZeRO stage, 0 without DeepSpeed."""
        if self.method not in ("deepspeed", "llamafactory"):
            return 0
        return int(self.zero_optimization.get("stage", 0))

    @property
    def zero_optimization(self) -> dict[str, Any]:
        """DeepSpeed's settings of ZeRO as they are written; empty without them."""
        return (self.deepspeed or {}).get("zero_optimization") or {}

    @property
    def effective_batch(self) -> int:
        """Rows per optimizer step over all ranks."""
        return self.train.per_device_train_batch_size * self.train.gradient_accumulation_steps * self.num_gpus


def _disagreements(spec: RunSpec) -> list[tuple[str, str]]:
    """Every contradiction between the parts of a spec: the setting where it shows, and a sentence."""
    found = []
    if spec.launcher not in LAUNCHERS[spec.method]:
        others = " or ".join(LAUNCHERS[spec.method])
        found.append(("launcher", f"launcher {spec.launcher!r} cannot start method {spec.method!r}; use {others}"))
    if spec.gpus is not None and len(set(spec.gpus)) != spec.num_gpus:
        text = f"gpus {spec.gpus} names {len(set(spec.gpus))} cards but num_gpus is {spec.num_gpus}"
        found.append(("num_gpus", text))
    if spec.model.decoder_only and spec.method != "llamafactory":
        text = f"method {spec.method!r} trains encoder-decoder models; a decoder-only one takes llamafactory"
        found.append(("model.decoder_only", text))
    strange = llamafactory_keys.faults_of(
        spec.method,
        spec.llamafactory,
        attention=spec.model.attn_implementation,
        validation=spec.data.validation,
        decoder_only=spec.model.decoder_only,
    )
    found += [("llamafactory", text) for text in strange]
    if spec.deepspeed is not None:
        found += [("deepspeed", text) for text in _deepspeed_faults(spec, spec.deepspeed)]
        found += _zero_faults(spec)
    return found


def _deepspeed_faults(spec: RunSpec, config: dict[str, Any]) -> Iterator[str]:
    if spec.method not in ("deepspeed", "llamafactory"):
        yield f"deepspeed settings have no effect on method {spec.method!r}; remove them"
    for key in FILLED_FROM_TRAIN:
        if config.get(key, "auto") != "auto":
            yield f"deepspeed.{key} is filled in from train.*; remove it"
    yield from sorted(unknown_keys(config))
    yield from misplaced_autos(config, FILLED_FROM_TRAIN)
    yield from escaping_paths(config)


def _zero_faults(spec: RunSpec) -> list[tuple[str, str]]:
    zero = (spec.deepspeed or {}).get("zero_optimization", {})
    if not isinstance(zero, dict):
        return [("deepspeed", "deepspeed.zero_optimization must be a mapping")]
    stage = zero.get("stage", 0)
    if stage not in (0, 1, 2, 3) or isinstance(stage, bool):
        text = f"deepspeed.zero_optimization.stage must be 0, 1, 2 or 3, not {stage!r}"
        return [("deepspeed.zero_optimization.stage", text)]
    if stage > 0 and spec.train.optim == "adafactor":
        text = "adafactor's factored state cannot be sharded by ZeRO 1-3; use adamw_torch_fused or stage 0"
        return [("deepspeed.zero_optimization.stage", text)]
    offloads = [name for name in ("offload_optimizer", "offload_param") if not isinstance(zero.get(name) or {}, dict)]
    texts = (f"deepspeed.zero_optimization.{name} must be a mapping such as {{device: cpu}}" for name in offloads)
    return [("deepspeed", text) for text in texts]
