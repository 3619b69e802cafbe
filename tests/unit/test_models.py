"""The models on a machine: what can be trained, and why the rest cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t5panel.preflight.models import builtin_models, cached_models, folder_models, hub_cache

T5 = {"model_type": "t5", "vocab_size": 32128, "d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}


def fill(folder: Path, config: object, *files: str) -> Path:
    """A model's folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for file in files:
        (folder / file).write_bytes(b"x" * 100)
    return folder


def cached(cache: Path, name: str, config: object, *files: str) -> Path:
    """A repository in the hub's cache, as huggingface_hub lays it out."""
    repo = cache / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    return fill(repo / "snapshots" / "abc", config, *files)


def test_a_complete_t5_of_the_cache_can_be_trained(tmp_path: Path) -> None:
    cached(tmp_path, "google-t5/t5-base", T5, "model.safetensors", "spiece.model")

    (model,) = cached_models(tmp_path)

    assert (model.name, model.fault, model.size) == ("google-t5/t5-base", "", 100)
    assert model.shape is not None
    assert round(model.shape.parameters / 1e6) == 223


@pytest.mark.parametrize(
    ("config", "files", "why"),
    [
        ({"model_type": "bert"}, ("model.safetensors",), "a bert model: t5, mt5, umt5 can be trained"),
        ({**T5, "architectures": ["T5EncoderModel"]}, ("model.safetensors",), "an encoder without its decoder"),
        (T5, (), "it has no weights here"),
        (T5, ("model.safetensors",), "it has no tokenizer here"),
        ([], ("model.safetensors",), "its config.json cannot be read"),
        ({"model_type": "t5"}, ("model.safetensors",), "names no vocab_size"),
    ],
)
def test_what_cannot_be_trained_says_why(tmp_path: Path, config: object, files: tuple[str, ...], why: str) -> None:
    cached(tmp_path, "some/model", config, *files)

    (model,) = cached_models(tmp_path)

    assert why in model.fault


def test_a_download_that_was_not_finished_is_no_model_yet(tmp_path: Path) -> None:
    folder = cached(tmp_path, "google/mt5-xl", T5, "tokenizer.json", "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "models--google--empty").mkdir()

    empty, unfinished = sorted(cached_models(tmp_path), key=lambda model: model.name)

    assert empty.fault == "no config.json was downloaded"
    assert unfinished.fault == "model-2.safetensors is missing: its download was not finished"
    assert unfinished.size == 100


def test_usable_models_come_first_and_data_sets_are_none(tmp_path: Path) -> None:
    cached(tmp_path, "a/bert", {"model_type": "bert"}, "model.safetensors")
    cached(tmp_path, "z/t5", T5, "model.safetensors", "tokenizer.json")
    (tmp_path / "datasets--some--data").mkdir()

    assert [model.name for model in cached_models(tmp_path)] == ["z/t5", "a/bert"]


def test_a_decoder_can_be_trained_where_its_method_is_chosen(tmp_path: Path) -> None:
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    cached(tmp_path, "meta/llama", llama, "model.safetensors", "tokenizer.json")
    cached(tmp_path, "google/bert", {"model_type": "bert", "architectures": ["BertModel"]}, "model.safetensors")

    chosen, others = cached_models(tmp_path, decoders=True), cached_models(tmp_path)

    assert [(model.name, model.decoder_only, bool(model.fault)) for model in chosen] == [
        ("meta/llama", True, False),
        ("google/bert", False, True),
    ]
    assert all("can be trained" in model.fault for model in others)


def test_a_folder_is_a_model_itself_or_holds_some(tmp_path: Path) -> None:
    fill(tmp_path / "runs" / "checkpoint-8", T5, "model.safetensors", "tokenizer.json")
    (tmp_path / "runs" / "logs").mkdir()

    inside, itself = folder_models(tmp_path / "runs"), folder_models(tmp_path / "runs" / "checkpoint-8")

    assert [model.name for model in inside] == [str(tmp_path / "runs" / "checkpoint-8")]
    assert inside == itself
    assert inside[0].fault == ""


def test_the_cache_is_where_the_hub_keeps_it() -> None:
    places: tuple[dict[str, str], ...] = (
        {"HF_HUB_CACHE": "/a", "HF_HOME": "/b"},
        {"HF_HOME": "/b"},
        {"XDG_CACHE_HOME": "/c"},
        {},
    )

    assert [str(hub_cache(environ)) for environ in places] == [
        *("/a", "/b/hub", "/c/huggingface/hub", str(Path.home() / ".cache/huggingface/hub"))
    ]


def test_built_in_shapes_are_models_without_a_download() -> None:
    models = builtin_models()

    assert models[0].name == "builtin:tiny"
    assert all(model.shape is not None and not model.fault for model in models)
