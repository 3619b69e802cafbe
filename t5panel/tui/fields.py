"""The form's fields, made from RunSpec: key, kind, help; and between a value and its text."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from t5panel.contract.spec import RunSpec
from t5panel.language import later
from t5panel.presets import flat_keys, parse_assignments

Kind = Literal["text", "number", "choice", "flag", "yaml"]
ZERO_STAGE = "deepspeed.zero_optimization.stage"
MAIN_KEYS = (
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "num_gpus",
    "model.name_or_path",
    "data.train",
    "data.max_source_length",
    "data.max_target_length",
    "train.learning_rate",
    "train.num_train_epochs",
    "train.max_steps",
    "train.bf16",
    "train.gradient_checkpointing",
    ZERO_STAGE,
)
PRICE, SAMPLES = "estimate.price", "estimate.samples"
"""No settings of a run: what its time, energy and money are told for."""
CHOSEN_ELSEWHERE = ("method", "model.decoder_only")
"""The method is the preset's, and what kind of model it is the model says."""


class _Dumper(yaml.SafeDumper):
    """Safe YAML that quotes texts like `3e-4`, which presets read as numbers, and escapes line ends of all kinds."""


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = text.isprintable() and not text.startswith(tuple("+-.0123456789"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text_node)


@dataclass(frozen=True, slots=True)
class FormField:
    """One setting of the form."""

    key: str
    kind: Kind
    choices: tuple[str, ...]
    optional: bool
    help: str

    @property
    def label(self) -> str:
        """The setting's own name, without a part that goes without saying."""
        return self.key.removeprefix("train.").removeprefix("deepspeed.")

    @property
    def is_main(self) -> bool:
        """Whether it is shown before all settings are."""
        return self.key in (*MAIN_KEYS, PRICE, SAMPLES)


ESTIMATE_FIELDS = (
    FormField(PRICE, "number", (), optional=True, help=later("Money per kWh; empty: no cost is told.")),
    FormField(SAMPLES, "number", (), optional=True, help=later("Rows to tell time for; empty: those of the run.")),
)


def form_fields(*, sharded: bool) -> tuple[FormField, ...]:
    """All fields, the main ones first; `sharded` methods have DeepSpeed's."""
    known = {key: _field(key, info) for key, info in flat_keys(RunSpec) if key not in CHOSEN_ELSEWHERE}
    if sharded:
        help_text = "What DeepSpeed shards over the cards: 0 nothing, 1 optimizer, 2 and gradients, 3 and weights."
        known[ZERO_STAGE] = FormField(ZERO_STAGE, "choice", ("0", "1", "2", "3"), optional=False, help=help_text)
    else:
        known.pop("deepspeed")
    main = [known[key] for key in MAIN_KEYS if key in known]
    return (*main, *ESTIMATE_FIELDS, *(field for field in known.values() if not field.is_main))


def value_at(spec: RunSpec, key: str) -> Any:  # noqa: ANN401
    """The value of a dotted key in a spec, None where nothing stands."""
    value: Any = spec
    for name in key.split("."):
        value = (value or {}).get(name) if isinstance(value, dict) or value is None else getattr(value, name)
    return value


def text_of(value: Any) -> str:  # noqa: ANN401
    """A value as the form shows it; `read` gives it back."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return flow_yaml(value)


def flow_yaml(value: Any) -> str:  # noqa: ANN401
    """A value as YAML on one line, which `parse_assignments` reads back equal."""
    text = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6)
    return str(text).strip()[1:-1]


def read(field: FormField, text: str) -> Any:  # noqa: ANN401
    """The value of a text typed into a field; its type is checked by RunSpec.

    Raises: UsageError when the text is not YAML.
    """
    text = text.strip()
    if not text:
        return None
    match field.kind:
        case "text":
            return text
        case "flag":
            return text == "true"
        case "choice" if not field.choices[0].isdigit():
            return text
        case "yaml" if not text.startswith(("[", "{")):
            return parse_assignments([f"{field.key}=[{text}]"])[field.key]
        case _:
            return parse_assignments([f"{field.key}={text}"])[field.key]


def _field(key: str, info: FieldInfo) -> FormField:
    kinds, optional = _types(info.annotation)
    help_text = " ".join((info.description or "").split())
    first = kinds[0]
    if get_origin(first) is Literal:
        return FormField(key, "choice", tuple(map(str, get_args(first))), optional=optional, help=help_text)
    if first is bool:
        return FormField(key, "flag", ("true", "false"), optional=optional, help=help_text)
    kind: Kind = "text" if first is str else "number" if first in (int, float) else "yaml"
    return FormField(key, kind, (), optional=optional, help=help_text)


def _types(annotation: Any) -> tuple[list[Any], bool]:  # noqa: ANN401
    """The types a field takes besides None, and whether it takes None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation], False
    members = [_types(member)[0][0] for member in get_args(annotation)]
    return [member for member in members if member is not NoneType], NoneType in members
