"""Data and models that cannot be used end with exit code 4 before any rank starts, and nothing is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t5panel.contract.shapes import builtin_shape
from t5panel.contract.versions import PACKAGES
from t5panel.preflight.place import cache_findings, place_findings
from t5panel.presets import load_preset
from tests.house.household import House

PROMPTS, RESPONSES = ["one", "two", "three"], ["eins", "zwei", "drei"]


def parquet(path: Path, **columns: list[object]) -> Path:
    """A parquet file of these columns."""
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def text(path: Path, content: str | bytes) -> Path:
    """A file of this content."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused_start(house: House, data: Path | str, *words: str) -> tuple[int, str]:
    """Exit code and diagnostics of a start with these data on the CPU that must not write anything."""
    options = ("--preset", "manual", "--device", "cpu", "--model", "builtin:tiny", "--data", str(data), *words)
    start = house.click("--no-ui", *options)
    assert house.is_untouched()
    assert start.stdout == ""
    return start.exit_code, start.stderr


def test_a_missing_file_is_named_with_the_folder_it_was_sought_from(house: House) -> None:
    code, message = refused_start(house, "pairs.parquet")

    assert code == 4
    assert f"data.train: no file or folder {Path.cwd()}/pairs.parquet" in message


def test_an_empty_file_is_named(house: House) -> None:
    code, message = refused_start(house, text(house.home / "pairs.jsonl", ""))

    assert code == 4
    assert "pairs.jsonl is empty" in message


def test_a_column_that_is_missing_is_reported_with_those_that_are_there(house: House) -> None:
    code, message = refused_start(house, parquet(house.home / "pairs.parquet", text=[*PROMPTS], label=[*RESPONSES]))

    assert code == 4
    assert "data.prompt_column: no column is called prompt, instruction" in message
    assert "data.response_column: no column is called response, output" in message
    assert "the file's columns: text, label" in message


def test_a_misspelt_column_is_reported_with_those_that_are_there(house: House) -> None:
    file = parquet(house.home / "pairs.parquet", prompt=[*PROMPTS], response=[*RESPONSES])

    code, message = refused_start(house, file, "--set", "data.prompt_column=promt")

    assert code == 4
    assert "data.prompt_column: no column 'promt'\n    the file's columns: prompt, response" in message


def test_columns_that_are_no_text_are_reported_with_their_type(house: House) -> None:
    code, message = refused_start(house, parquet(house.home / "pairs.parquet", prompt=[1, 2], response=[[0.5], [1.5]]))

    assert code == 4
    assert "column 'prompt' is int64" in message
    assert "column 'response' is list<" in message


def test_a_parquet_file_without_rows_is_refused(house: House) -> None:
    empty = pa.table({"prompt": pa.array([], pa.string()), "response": pa.array([], pa.string())})
    pq.write_table(empty, house.home / "pairs.parquet")

    code, message = refused_start(house, house.home / "pairs.parquet")

    assert code == 4
    assert "has no rows" in message


def test_a_broken_parquet_file_is_named(house: House) -> None:
    file = parquet(house.home / "pairs.parquet", prompt=[*PROMPTS], response=[*RESPONSES])
    file.write_bytes(file.read_bytes()[:-20])

    code, message = refused_start(house, file)

    assert code == 4
    assert "pairs.parquet is not readable as parquet" in message


def test_one_broken_shard_of_many_is_named(house: House) -> None:
    parquet(house.home / "shards/0.parquet", prompt=[*PROMPTS], response=[*RESPONSES])
    parquet(house.home / "shards/1.parquet", prompt=[*PROMPTS], antwort=[*RESPONSES])
    text(house.home / "shards/2.parquet", "PAR1 but not really")

    code, message = refused_start(house, house.home / "shards")

    assert code == 4
    assert "1.parquet: column 'response' is missing" in message
    assert "2.parquet is not readable as parquet" in message


def test_a_folder_of_several_formats_is_refused(house: House) -> None:
    parquet(house.home / "shards/0.parquet", prompt=[*PROMPTS], response=[*RESPONSES])
    text(house.home / "shards/1.csv", "prompt,response\na,b\n")

    code, message = refused_start(house, house.home / "shards")

    assert code == 4
    assert "mixes formats ['.csv', '.parquet']" in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.jsonl", '{"prompt": "a", "response": "b"}\n{"prompt": "a",\n', "line 2 is no JSON"),
        ("pairs.jsonl", '["a", "b"]\n', "line 1 is no object"),
        ("pairs.json", '[\n{"prompt": "a", "response": "b"}\n]', "line 1 is no JSON"),
        ("pairs.jsonl", "\n\n", "no rows with values"),
        ("pairs.jsonl", '{"prompt": 1, "response": "b"}\n', "column 'prompt' is int"),
        ("pairs.csv", "prompt,response\n", "a header line and at least one row"),
        ("pairs.csv", b"prompt,response\n\xc4\xe3\xba\xc3,b\n", "not readable as csv"),
        ("pairs.csv", "prompt;response\na;b\n", "the file's columns: prompt;response"),
        ("pairs.txt", "a\tb\n", "has no known ending"),
    ],
)
def test_text_files_that_cannot_be_used_are_named_with_the_line(
    house: House, name: str, content: str | bytes, message: str
) -> None:
    code, answer = refused_start(house, text(house.home / name, content))

    assert code == 4
    assert message in answer


def test_every_fault_before_a_start_stands_in_one_message(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train = text(house.home / "train.jsonl", "nonsense\n")
    (house.home / "taken").mkdir()

    code, message = refused_start(
        house,
        train,
        *("--set", "data.validation=missing.csv", "--model", "nowhere/t5", "--run-dir", str(house.home / "taken")),
    )

    assert code == 4
    assert "train.jsonl is not readable" in message
    assert "missing.csv" in message
    assert "model.name_or_path: no model from 'nowhere/t5'" in message
    assert "HF_HUB_OFFLINE is set" in message
    assert "local folder" in message
    assert "taken exists" in message


def test_a_run_directory_below_a_file_is_refused(house: House) -> None:
    text(house.home / "file", "x")

    code, message = refused_start(house, "builtin:docstrings", "--run-dir", str(house.home / "file/run"))

    assert code == 4
    assert f"{house.home}/file cannot be written to" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_directory_that_cannot_be_written_is_refused(house: House) -> None:
    (house.home / "locked").mkdir(mode=0o500)

    code, message = refused_start(house, "builtin:docstrings", "--run-dir", str(house.home / "locked/run"))

    assert code == 4
    assert f"{house.home}/locked cannot be written to" in message


def test_a_model_that_is_no_t5_is_refused_by_its_type(house: House) -> None:
    text(house.home / "bert/config.json", json.dumps({"model_type": "bert", "vocab_size": 9}))

    code, message = refused_start(house, "builtin:docstrings", "--model", str(house.home / "bert"))

    assert code == 4
    assert "is a bert model" in message


def test_a_tokenizer_that_does_not_suit_the_model_is_refused_with_every_reason(house: House) -> None:
    model = text(house.home / "model/config.json", json.dumps({"model_type": "t5", "vocab_size": 5})).parent
    write_tokenizer(model, ends_texts=False)

    code, message = refused_start(house, "builtin:docstrings", "--model", str(model))

    assert code == 4
    assert "model.tokenizer: the tokenizer has 9 tokens, the model's vocabulary only 5" in message
    assert "model.tokenizer: a text ends in token 4 and is padded with 0; T5's are 1 and 0" in message


def test_an_interpreter_that_does_not_exist_is_refused(house: House) -> None:
    code, message = refused_start(house, "builtin:docstrings", "--set", "interpreter=/nowhere/python")

    assert code == 4
    assert "/nowhere/python does not answer" in message


@pytest.mark.parametrize(("program", "words"), [("/bin/true", "no output"), ("/bin/echo", "t5panel.trainers.inspect")])
def test_a_program_that_is_no_python_is_refused(house: House, program: str, words: str) -> None:
    code, message = refused_start(house, "builtin:docstrings", "--set", f"interpreter={program}")

    assert code == 4
    assert f"interpreter: {program} is no Python that knows t5panel: " in message
    assert words in message


def test_an_interpreter_with_packages_that_are_missing_or_too_old_is_refused(house: House) -> None:
    found = {"transformers": "4.57.1.dev0", "torch": "2.8.0"}
    answer = json.dumps({"versions": found, "config": None, "rows": None, "faults": []})
    python = text(house.home / "python", f"#!/bin/sh\necho 'a greeting of sitecustomize'\necho '{answer}'\n")
    python.chmod(0o755)

    code, message = refused_start(house, "builtin:docstrings", "--set", f"interpreter={python}")

    assert code == 4
    assert "version.missing: not installed: accelerate, deepspeed, datasets" in message
    assert "version.transformers: transformers 4.57.1.dev0" in message


def test_a_package_that_only_an_evaluation_or_a_tokenizer_needs_is_missed_before_the_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: "9.9" for name in ("python", *PACKAGES) if name not in ("sacrebleu", "sentencepiece", "protobuf")}
    monkeypatch.setattr("t5panel.preflight.inspection.installed_versions", lambda: some)

    code, message = refused_start(house, "builtin:docstrings")

    assert code == 4
    assert "version.missing: not installed: sacrebleu, sentencepiece, protobuf" in message


def test_a_disk_too_small_for_one_checkpoint_is_an_error_and_for_all_of_them_a_warning(tmp_path: Path) -> None:
    spec = load_preset("trainer", {"train.save_steps": 10}).spec
    shape = builtin_shape("builtin:t5-base")

    (error,) = place_findings(tmp_path / "run", spec, shape, free=lambda _: 2 * 2**30)
    (warning,) = place_findings(tmp_path / "run", spec, shape, free=lambda _: 3 * 2**30)

    assert (error.severity, error.message) == ("error", f"a checkpoint needs 2.5 GiB, {tmp_path} has 2.0 GiB free")
    assert (warning.severity, "3 checkpoints need 7.5 GiB" in warning.message) == ("warning", True)
    assert place_findings(tmp_path / "run", spec, shape, free=lambda _: 8 * 2**30) == ()


def test_a_cache_that_cannot_be_written_is_refused_before_the_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(text(house.home / "no-folder", "")))

    code, message = refused_start(house, "builtin:docstrings")

    assert code == 4
    assert f"cache: {house.home}/no-folder cannot be written to\n    name another" in message
    assert "XDG_CACHE_HOME" in message


def test_a_disk_too_small_for_the_tokenised_rows_is_an_error(tmp_path: Path) -> None:
    text(tmp_path / "shards" / "0.csv", "x" * 1000)
    text(tmp_path / "shards" / "1.csv", "x" * 1000)
    spec = load_preset("manual", {"data.train": str(tmp_path / "shards"), "data.validation": "/nowhere"}).spec

    (error,) = cache_findings(tmp_path / "not" / "yet", spec, free=lambda _: 5999)

    assert (error.severity, error.code, str(tmp_path) in error.message) == ("error", "cache", True)
    assert cache_findings(tmp_path / "not" / "yet", spec, free=lambda _: 6000) == ()


def test_modules_in_the_users_folder_are_never_imported(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    text(house.home / "pyarrow.py", "raise SystemExit('the wrong pyarrow')")
    parquet(house.home / "pairs.parquet", prompt=[*PROMPTS], response=[*RESPONSES])
    monkeypatch.chdir(house.home)

    answer = house.panel("plan", "--preset", "manual", "--device", "cpu", "--data", "pairs.parquet", "--json")

    assert answer.returncode == 0, answer.stderr


def write_tokenizer(folder: Path, *, ends_texts: bool = True) -> None:
    """A T5 tokenizer of six words and three special tokens, as save_pretrained writes it."""
    from tokenizers import Tokenizer
    from tokenizers.models import Unigram
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", "\N{LOWER ONE EIGHTH BLOCK}", "a", "b", "c", "d", "e"]
    model = Tokenizer(Unigram([(word, -1.0) for word in words], unk_id=2))
    model.post_processor = TemplateProcessing(single="$A </s>" if ends_texts else "$A", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=model, **special).save_pretrained(folder)
