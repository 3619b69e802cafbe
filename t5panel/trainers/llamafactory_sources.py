"""Files of a spec as LLaMA-Factory reads them: a register of data sets, folders of links, and what is wrong there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping

from t5panel.contract.layout import RunDir, write_atomic
from t5panel.contract.llamafactory import HELD_OUT, TRAIN, register, register_file
from t5panel.contract.shapes import is_builtin
from t5panel.contract.spec import RunSpec
from t5panel.errors import PreflightError, T5PanelError
from t5panel.trainers.docstrings import docstring_pairs
from t5panel.trainers.source import Source, find_source, first_bad_line

ENDINGS = {".ndjson": ".jsonl"}
"""Names that LLaMA-Factory knows for files that it does not know by theirs."""


def write_register(run: RunDir, spec: RunSpec) -> dict[str, Source]:
    """Write the register of a spec's own files: LLaMA-Factory reads a folder of links to them, in their order."""
    found = {TRAIN: _source(run, spec, TRAIN, spec.data.train, "data.train")}
    if spec.data.validation is not None:
        found[HELD_OUT] = _source(run, spec, HELD_OUT, spec.data.validation, "data.validation")
    folders = {name: run.cache / "rows" / name for name in found}
    for name, source in found.items():
        shutil.rmtree(folders[name], ignore_errors=True)
        folders[name].mkdir(parents=True)
        for number, file in enumerate(source.files):
            (folders[name] / f"{number:06}{ENDINGS.get(file.suffix, file.suffix)}").symlink_to(file.resolve())
    columns = {name: (source.prompt, source.response) for name, source in found.items()}
    write_atomic(register_file(run), register(columns, folders).encode())
    return found


def _source(run: RunDir, spec: RunSpec, name: str, path: str, key: str) -> Source:
    if is_builtin(path):
        file = run.cache / f"{name}.jsonl"
        lines = (json.dumps({"prompt": pair["prompt"], "response": pair["response"]}) for pair in docstring_pairs())
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return Source((file,), "json", "prompt", "response")
    source = find_source(path, spec.data, key)
    if isinstance(source, list):
        raise PreflightError(source)
    return source


def why_unreadable(error: Exception, sources: Mapping[str, Source]) -> T5PanelError:
    """What LLaMA-Factory could not read: the bad line of a file, where there is one, else its own words."""
    if isinstance(error, KeyError):
        message = f"LLaMA-Factory finds no column {error} in it"
        return PreflightError.of("data.train", message, "correct `columns` of the data set in dataset_info.json")
    bad = next((line for source in sources.values() if (line := first_bad_line(source))), None)
    problem = bad or str(error.__cause__ or error).strip().splitlines()[0]
    return PreflightError.of("data.train", f"LLaMA-Factory cannot read it: {problem}")
