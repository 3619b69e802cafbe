"""YAML → Preset: where presets are found, how overrides are laid over them, every fault reported at once."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from t5panel.contract.layout import user_presets_home, write_atomic
from t5panel.contract.paths import user_path
from t5panel.contract.spec import DataSpec, ModelSpec, RunSpec, TrainSpec
from t5panel.errors import Fault, UsageError

Document = dict[str, Any]

REHEARSAL: Mapping[str, Any] = {
    "model.name_or_path": "builtin:tiny",
    "data.max_source_length": 64,
    "data.max_target_length": 48,
    "data.max_eval_samples": 48,
    "data.max_predict_samples": 6,
    "train.max_steps": 16,
    "train.learning_rate": 1e-2,
    "train.bf16": False,
    "train.gradient_checkpointing": False,
    "train.generation_max_length": 48,
}
"""What a rehearsal on the CPU lays over a shipped preset, under the user's own settings."""

REHEARSAL_OF_OWN = ("train.bf16", "data.max_source_length", "data.max_target_length", "train.generation_max_length")
"""What it lays over a preset of the user's own, where that one says nothing; and the model, a shipped one there too."""

SHIPPED = ("deepspeed", "trainer", "manual", "llamafactory")
"""Presets that come with t5panel, in the order in which they are listed."""

_PARTS: dict[str, type[BaseModel]] = {"model": ModelSpec, "data": DataSpec, "train": TrainSpec}


@dataclass(frozen=True)
class Preset:
    """A checked preset: its name, its one-line summary and the spec it stands for."""

    name: str
    summary: str
    spec: RunSpec
    document: Document = field(compare=False)
    """The YAML as written plus overrides, before defaults."""
    shipped: bool = False
    """True for a file that comes with t5panel."""
    replaced: tuple[str, ...] = ()
    """Keys whose values a rehearsal has changed."""


class _Loader(yaml.CSafeLoader):
    """Safe YAML that reads `3e-4` as a number and refuses a key given twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> Document:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def shipped_presets_home() -> Path:
    """The folder of the presets that come with t5panel, in a wheel or in a checkout."""
    installed = Path(str(files("t5panel"))) / "_presets"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "presets"


def search_path() -> tuple[Path, ...]:
    """Folders searched for a preset's name, the user's own first."""
    return (Path(".t5panel"), user_presets_home(), shipped_presets_home())


def preset_names() -> tuple[str, ...]:
    """Every preset that can be named, shipped ones in their fixed order first."""
    found = {path.stem for home in search_path() if home.is_dir() for path in home.glob("*.yaml")}
    return (*(name for name in SHIPPED if name in found), *sorted(found - set(SHIPPED)))


def find_preset(name_or_path: str) -> Path:
    """The YAML file of a preset.

    Raises: UsageError when there is none, naming the likely one.
    """
    looks_like_path = name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path
    file = user_path(name_or_path if looks_like_path else f"{name_or_path}.yaml", "--preset")
    for path in (file,) if looks_like_path else tuple(home / file for home in search_path()):
        if path.is_file():
            return path
    if looks_like_path:
        raise UsageError.of("--preset", f"no file {name_or_path}", "give a preset's name or the path of a YAML file")
    raise UsageError.of("--preset", f"no preset {name_or_path!r}", _did_you_mean(name_or_path, preset_names()))


def read_document(path: Path) -> Document:
    """The mapping in a YAML file.

    Raises: UsageError with the line when it is no YAML, and when it is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError.of(str(path), f"cannot be read: {error}") from error
    document = _parse_yaml(text, str(path))
    if not isinstance(document, dict):
        raise UsageError.of(
            str(path), "is not a preset: its top level must be a mapping of keys", "see `t5panel show deepspeed`"
        )
    return document


def parse_assignments(assignments: Sequence[str]) -> Document:
    """`["train.seed=1", ...]` as a mapping of dotted keys to YAML values.

    Raises: UsageError with every assignment that is none.
    """
    found: Document = {}
    faults: list[Fault] = []
    for item in assignments:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            faults.append(Fault("--set", f"{item!r} is not key=value", "for example --set train.seed=1"))
            continue
        try:
            found[key.strip()] = _parse_yaml(value, f"--set {key.strip()}")
        except UsageError as error:
            faults += error.faults
    if faults:
        raise UsageError(faults)
    return found


def load_preset(name_or_path: str, *overrides: Mapping[str, Any]) -> Preset:
    """The preset with dotted overrides laid over it, later ones on top.

    Raises: UsageError with every fault of the file and of the overrides.
    """
    path = find_preset(name_or_path)
    document = read_document(path)
    faults: list[Fault] = []
    for key, value in (pair for layer in overrides for pair in layer.items()):
        try:
            document = with_value(document, key, value)
        except UsageError as error:
            faults += error.faults
    preset = check_document(document, name=path.stem, where=str(path), faults=faults)
    return replace(preset, shipped=path.resolve().is_relative_to(shipped_presets_home().resolve()))


def own_preset_path(name: str) -> Path:
    """Where a preset of the user's own is kept."""
    return user_presets_home() / f"{name}.yaml"


def name_fault(name: str) -> str:
    """Why no preset of the user's own can have this name; empty when one can."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        return "a name has letters, digits, and . + - _ after the first"
    if name in SHIPPED:
        return f"{name} comes with t5panel"
    return ""


def save_preset(name: str, preset: Preset, spec: RunSpec) -> Path:
    """Write what a preset and its overrides set as one of the user's own, with the values that `spec` has for it.

    Raises: UsageError for a name that cannot be one; OSError.
    """
    if fault := name_fault(name):
        raise UsageError.of(name, fault)
    summary = f"{preset.spec.method}, saved from {preset.name}"
    values = spec.model_dump(mode="json")
    given = preset.spec.model_dump(mode="json", exclude_unset=True)
    body = {
        key: {name: values[key][name] for name in part} if key in _PARTS else values[key] for key, part in given.items()
    }
    path = own_preset_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, yaml.safe_dump({"summary": summary, **body}, sort_keys=False, allow_unicode=True).encode())
    return path


def rehearsal_changes(preset: Preset, overrides: Mapping[str, Any]) -> Document:
    """What a rehearsal lays over a preset: nothing that the user has set, in a file of their own or otherwise."""
    changes = {key: value for key, value in REHEARSAL.items() if key not in overrides}
    if preset.shipped:
        return changes
    free = {"model.name_or_path", *(key for key in REHEARSAL_OF_OWN if not _is_set(preset.document, key))}
    return {key: value for key, value in changes.items() if key in free}


def _is_set(document: Document, dotted_key: str) -> bool:
    part, key = dotted_key.split(".")
    return key in (document.get(part) or {})


def check_document(document: Document, *, name: str, where: str, faults: Sequence[Fault] = ()) -> Preset:
    """A preset from a document.

    Raises: UsageError with every fault, those found before among them.
    """
    summary = document.get("summary", "")
    body = {key: value for key, value in document.items() if key != "summary"}
    found = [*faults] if isinstance(summary, str) else [*faults, Fault(f"{where}: summary", "must be text")]
    try:
        spec = RunSpec.model_validate(body)
    except ValidationError as error:
        raise UsageError([*found, *(_fault(detail, where) for detail in error.errors())]) from error
    if found:
        raise UsageError(found)
    return Preset(name, summary, spec, document)


def with_value(document: Document, dotted_key: str, value: Any) -> Document:  # noqa: ANN401
    """A copy of a nested mapping with one dotted key set.

    Raises: UsageError when the key leads through something that is no mapping.
    """
    *path, last = dotted_key.split(".")
    copied: Document = {**document}
    inner = copied
    for part in path:
        below = inner.get(part)
        if below is not None and not isinstance(below, dict):
            raise UsageError.of(dotted_key, f"{part!r} is a single value and has no parts")
        inner[part] = {**(below or {})}
        inner = inner[part]
    inner[last] = value
    return copied


def flat_keys(model: type[BaseModel] = RunSpec, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a spec with its pydantic field, whose description is the sentence under it."""
    texts = field_texts(model)
    for name, info in model.model_fields.items():
        if name in _PARTS and not prefix:
            yield from flat_keys(_PARTS[name], f"{name}.")
        else:
            described = copy(info)
            described.description = texts.get(name)
            yield prefix + name, described


@cache
def field_texts(model: type[BaseModel]) -> Mapping[str, str]:
    """The sentence under each field of a model.

    Read from the source when asked: pydantic's `use_attribute_docstrings` does it at import, for 80 ms of every start.
    """
    (definition,) = ast.parse(inspect.getsource(model)).body
    return {
        field.target.id: text.value.value
        for field, text in pairwise(ast.iter_child_nodes(definition))
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _parse_yaml(text: str, where: str) -> Any:  # noqa: ANN401
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{where}, line {mark.line + 1}" if mark and "\n" in text.strip() else where
        raise UsageError.of(at, f"is not YAML: {getattr(error, 'problem', None) or error}") from error


def _fault(detail: ErrorDetails, where: str) -> Fault:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = [name for name, _ in flat_keys()]
        return Fault(f"{where}: {key}", "unknown key", _did_you_mean(key, known))
    if detail["type"] == "missing":
        return Fault(f"{where}: {key}", "is missing")
    if detail["type"] == "bad_name":
        return Fault(f"{where}: {key}", detail["msg"], detail["ctx"]["hint"])
    given = detail["input"]
    return Fault(f"{where}: {key}", f"{detail['msg']}, not {given!r}", _help(key))


def _help(key: str) -> str:
    return next((info.description or "" for name, info in flat_keys() if name == key), "")


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    import difflib

    tail = {name.rsplit(".", 1)[-1]: name for name in known}
    close = difflib.get_close_matches(word, known, 1, 0.6) or [
        tail[match] for match in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tail), 1, 0.6)
    ]
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
