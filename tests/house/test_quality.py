"""The rules of the house, kept by tools and by looking."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from t5panel.presets import load_preset, shipped_presets_home

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = Path(sys.executable).parent
FORBIDDEN = re.compile(
    # Assembled, so that this file does not hold what it looks for.
    "|".join(("/wo" + "rk/", "/tm" + "p/w", r"\.lib" + "rary", "index-" + "url", "py" + r"pi\.org", "hf-mir" + "ror"))
)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "--quiet", "."),
        ("ruff", "format", "--check", "--quiet", "."),
        ("mypy", "--no-error-summary"),
        ("lint-imports", "--no-cache"),
    ],
    ids=" ".join,
)
def test_a_tool_has_nothing_to_say(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(SCRIPTS / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import t5panel.cli", ("torch", "textual", "pydantic", "yaml", "rich")),
        ("import t5panel.launch.supervisor", ("torch", "textual", "pydantic", "yaml", "rich", "pynvml")),
        (
            "import t5panel.session, t5panel.render.compare, t5panel.render.run",
            ("torch", "textual", "transformers", "numpy", "pyarrow"),
        ),
        ("import t5panel.headless", ("torch", "textual", "transformers", "numpy")),
        ("import t5panel.trainers.inspect", ("torch", "textual")),
        ("import t5panel.trainers.guard", ("torch", "textual")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_loads_nothing_heavy(code: str, absent: tuple[str, ...]) -> None:
    ask = f"import sys; {code}; print(*sorted(set(sys.modules) & set({absent!r})))"

    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()

    assert loaded == []


def test_a_plan_loads_neither_torch_nor_textual() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "t5panel", "plan", "--preset", "deepspeed", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "pydantic" in imported
    assert imported & {"torch", "textual", "transformers", "numpy"} == set()


def test_a_look_at_a_folder_with_a_tokenizer_loads_no_torch(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    ByT5Tokenizer().save_pretrained(tmp_path)
    spec = load_preset("manual", {"device": "cpu", "model.tokenizer": str(tmp_path)}).spec
    command = [sys.executable, "-X", "importtime", "-m", "t5panel.trainers.inspect"]

    done = subprocess.run(command, input=spec.model_dump_json(), capture_output=True, text=True, check=True)

    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert json.loads(done.stdout)["faults"] == []
    assert "transformers" in imported
    assert "torch" not in imported


def test_no_file_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["/usr/bin/env", "git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    files = [ROOT / name for name in listed if (ROOT / name).is_file()]

    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]

    assert found == []


def test_every_shipped_preset_is_a_preset() -> None:
    names = sorted(path.stem for path in shipped_presets_home().glob("*.yaml"))

    assert names == sorted(("deepspeed", "llamafactory", "manual", "trainer"))
    assert [load_preset(name).name for name in names] == names
