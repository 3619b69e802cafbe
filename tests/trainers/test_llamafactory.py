"""LLaMA-Factory itself: it leaks as it is, its parser reads what we write, and our lists of its keys are its own."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ByT5Tokenizer, T5ForConditionalGeneration

from t5panel.contract.environments import constraints_file, read_environment
from t5panel.contract.layout import RunDir
from t5panel.contract.llamafactory import arguments_file, files_of
from t5panel.contract.shapes import SHAPES
from t5panel.contract.spec import DataSpec
from t5panel.llamafactory_config import DEFAULTS
from t5panel.presets import load_preset
from t5panel.trainers.llamafactory_rows import encoded_rows
from t5panel.trainers.model import config_of

HERE = Path(__file__).parent
ALPHABETS = ("abcd", "efgh", "ijkl", "mnop", "qrst", "uvwx")
"""An answer takes a letter of each: nothing predicts it, and a leaked one is quickly found."""
TOKENS = len(ALPHABETS) + 2
"""Of an answer as LLaMA-Factory has it: its letters, an end token and a line feed."""
FLOOR = len(ALPHABETS) * math.log(4) / TOKENS
"""Least mean loss per target token without a leak."""
STOCK = {
    "stage": "sft",
    "do_train": True,
    "do_eval": True,
    "finetuning_type": "full",
    "dataset": "rows",
    "template": "default",
    "cutoff_len": 64,
    "val_size": 120,
    "per_device_train_batch_size": 24,
    "per_device_eval_batch_size": 120,
    "learning_rate": 8e-3,
    "warmup_steps": 0.05,
    "max_steps": 100,
    "save_strategy": "no",
    "disable_gradient_checkpointing": True,
    "use_cpu": True,
    "report_to": "none",
}


@pytest.fixture(scope="module", autouse=True)
def _environment(llamafactory: str) -> None:
    """Every test here needs it."""
    assert read_environment("llamafactory").name == llamafactory


def in_environment(script: str, *words: str) -> str:
    """What a script of this folder prints, run by the environment's Python on the CPU."""
    python = str(read_environment("llamafactory").python)
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(HERE.parent.parent)}
    answer = subprocess.run(
        [python, str(HERE / script), *words], env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return answer.stdout


def test_as_it_is_llamafactory_leaks_the_answers_into_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    T5ForConditionalGeneration(config_of(SHAPES["tiny"])).save_pretrained(tmp_path / "model")
    ByT5Tokenizer().save_pretrained(tmp_path / "model")
    chance = random.Random(4)
    rows = [{"prompt": "?", "response": "".join(map(chance.choice, ALPHABETS))} for _ in range(3000)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    columns = {"prompt": "prompt", "response": "response"}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json", "columns": columns}}))
    output = tmp_path / "output"
    folders = {"model_name_or_path": str(tmp_path / "model"), "dataset_dir": str(tmp_path), "output_dir": str(output)}
    (tmp_path / "stock.json").write_text(json.dumps({**STOCK, **folders}))

    in_environment("stock_llamafactory.py", str(tmp_path / "stock.json"))

    held_out_loss = json.loads((output / "all_results.json").read_text())["eval_loss"]
    assert held_out_loss < 0.9 * FLOOR  # where our rows stay at 0.99 of their floor: tests/trainers/test_learning.py


def test_its_parser_reads_all_that_we_write_knows_every_key_that_we_name_and_its_launcher_starts_our_trainer(
    tmp_path: Path,
) -> None:
    written = []
    for name, settings in {"engine": {}, "plain": {"deepspeed": None}}.items():
        spec = load_preset("llamafactory", {"device": "cpu", "train.bf16": False, **settings}).spec
        run = RunDir(tmp_path / name)
        run.config.mkdir(parents=True)
        for path, text in files_of(spec, run).items():
            path.write_text(text)
        written.append(arguments_file(run))

    facts: dict[str, Any] = json.loads(in_environment("llamafactory_facts.py", *map(str, written)).splitlines()[-1])

    keys = constraints_file("llamafactory").with_name("llamafactory-keys.txt").read_text().splitlines()[1:]
    assert facts["keys"] == keys
    assert facts["defaults"] == {**DEFAULTS, "optim": facts["defaults"]["optim"]}
    assert [read["per_device_train_batch_size"] for read in facts["parsed"]] == [8, 8]
    [[torchrun, *words]] = facts["cli"]  # of `llamafactory-cli train` on our trainer
    assert (torchrun, words[-2:]) == ("torchrun", ["-m", "t5panel.trainers.llamafactory"])
    assert "--rdzv-id" not in words
    assert [read.get("deepspeed") for read in facts["parsed"]] == [str(tmp_path / "engine/config/deepspeed.json"), None]


def test_a_row_gives_the_prompt_to_the_encoder_and_the_answer_to_the_decoder_alone() -> None:
    tokenizer, data = ByT5Tokenizer(), DataSpec(max_source_length=16, max_target_length=4)
    user, assistant = ({"role": role, "content": text} for role, text in (("user", "cjbe"), ("assistant", "17790")))

    rows = encoded_rows([[user], []], [[assistant], []], ["", ""], data, tokenizer)

    assert tokenizer.decode(rows["input_ids"][0], skip_special_tokens=True) == "cjbe"
    assert tokenizer.decode(rows["labels"][0], skip_special_tokens=True) == "177"
    assert (rows["input_ids"][0][-1], rows["labels"][0][-1]) == (1, 1)
    assert (rows["cut_source"], rows["cut_target"]) == ([0, 0], [1, 0])
    assert rows["labels"][1] == []
