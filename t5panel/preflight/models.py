"""The models on this machine: built-in shapes, the hub's cache, folders. Reads names and small JSON files only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from t5panel.contract.model_files import T5_TYPES, TOKENIZER_FILES, WEIGHT_FILES, is_decoder
from t5panel.contract.shapes import PREFIX, SHAPES, Shape, is_builtin
from t5panel.preflight.inspection import shape_of_config

Home = Literal["builtin", "cache", "folder"]
REPO = "models--"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as `model.name_or_path` names it, and why it cannot be trained where it cannot."""

    name: str
    home: Home
    shape: Shape | None = None
    size: int = 0
    """Bytes of its weights on the disk; 0 for a built-in shape, which starts at random."""
    fault: str = ""
    decoder_only: bool = False


def builtin_models() -> tuple[Model, ...]:
    """The published shapes that need no download, smallest first."""
    found = (Model(PREFIX + name, "builtin", shape) for name, shape in SHAPES.items())
    return tuple(sorted(found, key=lambda model: model.shape.parameters if model.shape else 0))


def hub_cache(environ: Mapping[str, str]) -> Path:
    """The folder in which huggingface_hub keeps what it downloads. Source: its documentation of these variables."""
    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if environ.get(name):
            return Path(environ[name]).expanduser() / below
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def cached_models(cache: Path, *, decoders: bool = False) -> tuple[Model, ...]:
    """Every model of the hub's cache, those that can be trained first; also `decoders` where their method is chosen.

    Raises: OSError when the cache cannot be read.
    """
    repos = sorted(cache.glob(f"{REPO}*")) if cache.is_dir() else []
    names = ((repo.name.removeprefix(REPO).replace("--", "/"), _snapshot(repo)) for repo in repos)
    found = (_model(name, "cache", snapshot, decoders=decoders) for name, snapshot in names)
    return tuple(sorted(found, key=lambda model: bool(model.fault)))


def config_of(name: str, environ: Mapping[str, str], *, download: bool = False) -> dict[str, Any] | None:
    """The config.json of a model: of a folder, of the hub's cache, or by `download`; None where there is none."""
    for folder in (Path(name).expanduser(), _snapshot(hub_cache(environ) / f"{REPO}{name.replace('/', '--')}")):
        if folder is not None and (config := _read_json(folder / "config.json")) is not None:
            return config
    return _downloaded(name) if download and not Path(name).exists() and not is_builtin(name) else None


def _downloaded(name: str) -> dict[str, Any] | None:
    from huggingface_hub import hf_hub_download

    try:
        return _read_json(Path(hf_hub_download(name, "config.json")))
    except (OSError, ValueError):  # no such model, no network, or told to stay offline: whoever loads it will say so
        return None


def folder_models(folder: Path, *, decoders: bool = False) -> tuple[Model, ...]:
    """The models in a folder: itself, and each folder in it that has a config.json.

    Raises: OSError when it cannot be read.
    """
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    found = (path for path in (folder, *inside) if (path / "config.json").is_file())
    return tuple(_model(str(path), "folder", path, decoders=decoders) for path in found)


def _snapshot(repo: Path) -> Path | None:
    """What `main` points to; else the newest snapshot; None where nothing was downloaded."""
    main = repo / "refs" / "main"
    if main.is_file():
        named = repo / "snapshots" / main.read_text(encoding="ascii").strip()
        if named.is_dir():
            return named
    snapshots = repo / "snapshots"
    found = [path for path in snapshots.iterdir() if path.is_dir()] if snapshots.is_dir() else []
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _model(name: str, home: Home, folder: Path | None, *, decoders: bool) -> Model:
    if folder is None or not (folder / "config.json").is_file():
        return Model(name, home, fault="no config.json was downloaded")
    config = _read_json(folder / "config.json")
    if config is None:
        return Model(name, home, fault="its config.json cannot be read")
    decoder_only = decoders and is_decoder(config)
    if not decoder_only and (fault := _kind_fault(config)):
        return Model(name, home, fault=fault)
    weights = list(_weights(folder))
    size = sum(path.stat().st_size for path in weights if path.is_file())
    if decoder_only:
        return Model(name, home, None, size, _files_fault(folder, weights), decoder_only=True)
    return Model(name, home, shape_of_config(config), size, _files_fault(folder, weights))


def _files_fault(folder: Path, weights: list[Path]) -> str:
    """What a trainable model lacks on this disk; empty when it is complete."""
    if not weights:
        return "it has no weights here"
    if missing := [path.name for path in weights if not path.is_file()]:
        return f"{missing[0]} is missing: its download was not finished"
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return "it has no tokenizer here; model.tokenizer can name another"
    return ""


def _kind_fault(config: Mapping[str, Any]) -> str:
    """Why a model of this config is none that the trainers train; empty when it is one."""
    kind = config.get("model_type", "nameless")
    if kind not in T5_TYPES:
        return f"a {kind} model: {', '.join(T5_TYPES)} can be trained"
    architecture = next(iter(config.get("architectures") or ()), "")
    if "Encoder" in architecture:
        return f"an encoder without its decoder ({architecture})"
    if "vocab_size" not in config:
        return "its config.json names no vocab_size"
    return ""


def _weights(folder: Path) -> Iterator[Path]:
    """The files of the first kind of weights that there are; all shards that an index names."""
    for name in WEIGHT_FILES:
        path = folder / name
        if not path.is_file():
            continue
        if not name.endswith(".index.json"):
            yield path
            return
        shards = (_read_json(path) or {}).get("weight_map", {})
        yield from (folder / shard for shard in sorted(set(shards.values())))
        return


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
