"""A T5 that LLaMA-Factory itself trains on this machine is told of, with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t5panel.preflight.foreign import foreign_findings
from t5panel.preflight.models import config_of

RANK = ("/env/bin/python", "-u", "/env/lib/python3.11/site-packages/llamafactory/launcher.py", "mine.yaml")
STARTS = {
    "its program": ("/env/bin/python", "/env/bin/llamafactory-cli", "train", "mine.yaml"),
    "its short program": ("lmf", "train", "mine.yaml"),
    "its module": ("python3", "-m", "llamafactory.cli", "train", "mine.yaml"),
    "one of its ranks": RANK,
    "torchrun": ("torchrun", "--nproc_per_node", "3", *RANK[2:]),
    "arguments of a command line": ("llamafactory-cli", "train", "--stage", "sft", "--model_name_or_path", "my-model"),
    "an argument with its value": ("llamafactory-cli", "train", "--model_name_or_path=my-model"),
}


def write_process(proc: Path, pid: int, cwd: Path, words: tuple[str, ...]) -> None:
    """A process as the kernel shows it."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes("\0".join((*words, "")).encode())
    (folder / "cwd").symlink_to(cwd)


def user_folder(home: Path, **config: object) -> Path:
    """The folder in which a user has a model and a YAML of LLaMA-Factory."""
    (home / "my-model").mkdir(parents=True)
    (home / "my-model" / "config.json").write_text(json.dumps(config))
    (home / "mine.yaml").write_text("model_name_or_path: my-model\nstage: sft\n")
    return home


def found(proc: Path) -> list[tuple[str, str]]:
    """Severity and message of what is found among processes."""
    findings = foreign_findings(lambda name: config_of(name, {"HF_HOME": str(proc)}), proc=proc)
    assert all("t5panel --preset llamafactory" in finding.hint for finding in findings)
    return [(finding.severity, finding.message) for finding in findings]


@pytest.mark.parametrize("start", STARTS)
def test_a_t5_under_llamafactory_cli_is_told_of_with_the_reason(tmp_path: Path, start: str) -> None:
    folder = user_folder(tmp_path / "home", model_type="t5", is_encoder_decoder=True)
    write_process(tmp_path / "proc", 41, folder, STARTS[start])

    [(severity, message)] = found(tmp_path / "proc")

    assert severity == "warning"
    assert message.startswith(f"pid 41 trains {folder}/my-model by llamafactory-cli: it shows the encoder of a t5 the")


def test_its_ranks_are_one_training_and_processes_that_vanish_are_none(tmp_path: Path) -> None:
    folder = user_folder(tmp_path / "home", model_type="mt5", is_encoder_decoder=True)
    for pid in (7, 8, 9):
        write_process(tmp_path / "proc", pid, folder, RANK)
    (tmp_path / "proc" / "10").mkdir()

    assert len(found(tmp_path / "proc")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("llamafactory-cli", "chat", "mine.yaml"),
        ("python", "-m", "t5panel.trainers.llamafactory", "/runs/one"),
        ("vim", "mine.yaml"),
        ("llamafactory-cli", "train", "gone.yaml"),
    ],
)
def test_other_programs_are_left_alone(tmp_path: Path, words: tuple[str, ...]) -> None:
    folder = user_folder(tmp_path / "home", model_type="t5", is_encoder_decoder=True)
    write_process(tmp_path / "proc", 5, folder, words)

    assert found(tmp_path / "proc") == []


def test_a_decoder_is_llamafactorys_own_business(tmp_path: Path) -> None:
    folder = user_folder(tmp_path / "home", model_type="llama", architectures=["LlamaForCausalLM"])
    write_process(tmp_path / "proc", 5, folder, STARTS["its program"])

    assert found(tmp_path / "proc") == []
    assert foreign_findings(lambda _name: {"is_encoder_decoder": True}, proc=Path("/proc")) == ()
