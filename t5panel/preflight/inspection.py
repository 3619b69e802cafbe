"""What the trainer's own interpreter says about a spec's model, tokenizer and data, before anything is written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from t5panel.contract.environments import Environment, environment_of, read_environment, setup_command, untested
from t5panel.contract.llamafactory import has_own_register
from t5panel.contract.shapes import Shape, builtin_shape, is_builtin
from t5panel.contract.versions import PACKAGES, installed_versions
from t5panel.errors import Fault
from t5panel.plan.planning import NOT_CHECKED, Finding

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

TIMEOUT_SECONDS = 180
NEEDED_TRANSFORMERS = (5, 23)
INSTALL_HINT = "install t5panel and its dependencies into that interpreter"
UNCHECKED = Finding(
    "warning",
    "memory.unchecked",
    NOT_CHECKED,
    "a decoder-only model is LLaMA-Factory's business: whether it fits, its first steps show",
)
"""What is said of a model whose memory the plan knows nothing about."""


class _Report(msgspec.Struct, frozen=True):
    versions: dict[str, str]
    config: dict[str, Any] | None
    faults: list[dict[str, str]]
    decoder_only: bool = False


@dataclass(frozen=True)
class Inspection:
    """Facts about a spec: the model's shape, versions, and everything that is wrong."""

    shape: Shape | None
    versions: Mapping[str, str]
    findings: tuple[Finding, ...]
    decoder_only: bool = False


def inspect(spec: RunSpec) -> Inspection:
    """Look at a spec's model and data; with built-ins and our own interpreter without another process."""
    environment = _environment(spec)
    if environment is not None and environment.problem:
        shape = builtin_shape(spec.model.name_or_path) if is_builtin(spec.model.name_or_path) else None
        return Inspection(shape, environment.versions, (environment_finding(environment),))
    only_builtins = all(
        name is None or is_builtin(name)
        for name in (spec.model.name_or_path, spec.model.tokenizer, spec.data.train, spec.data.validation)
    )
    own = environment is not None or spec.interpreter is None
    if own and only_builtins and not has_own_register(spec):
        versions = environment.versions if environment is not None else installed_versions()
        return Inspection(builtin_shape(spec.model.name_or_path), versions, _version_findings(spec, versions))
    return _ask_interpreter(spec)


def _ask_interpreter(spec: RunSpec) -> Inspection:
    python = spec.interpreter or sys.executable
    argv = [python, "-P", "-m", "t5panel.trainers.inspect"]  # -P: the user's folder is no place to import from
    try:
        answer = subprocess.run(
            argv, input=spec.model_dump_json().encode(), capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _no_answer(f"{python} does not answer: {error}", "name a Python: --set interpreter=PATH")
    if answer.returncode != 0:
        return _no_answer(f"{python} cannot look at the run: {_last_words(answer.stderr)}", INSTALL_HINT)
    try:
        report = msgspec.json.decode(answer.stdout.strip().rpartition(b"\n")[2], type=_Report)
    except msgspec.DecodeError:
        return _no_answer(f"{python} is no Python that knows t5panel: {_last_words(answer.stdout)}", INSTALL_HINT)
    findings = (*(_finding(Fault(**fault)) for fault in report.faults), *_version_findings(spec, report.versions))
    if report.decoder_only:
        return Inspection(None, report.versions, (*findings, UNCHECKED), decoder_only=True)
    name = spec.model.name_or_path
    shape = (
        builtin_shape(name)
        if is_builtin(name)
        else shape_of_config(report.config, from_scratch=spec.model.from_scratch)
    )
    return Inspection(shape, report.versions, findings)


def _no_answer(message: str, hint: str) -> Inspection:
    return Inspection(None, {}, (Finding("error", "interpreter", message, hint),))


def _last_words(output: bytes) -> str:
    return output.decode(errors="replace").strip().rpartition("\n")[2] or "no output"


def shape_of_config(config: Mapping[str, Any] | None, *, from_scratch: bool = False) -> Shape | None:
    """The shape in a T5 config.json; None without one. Defaults are T5Config's; random weights are always tied."""
    if config is None:
        return None
    layers = config.get("num_layers", 6)
    return Shape(
        vocab_size=config["vocab_size"],
        d_model=config.get("d_model", 512),
        d_kv=config.get("d_kv", 64),
        d_ff=config.get("d_ff", 2048),
        num_layers=layers,
        num_decoder_layers=config.get("num_decoder_layers") or layers,
        num_heads=config.get("num_heads", 8),
        gated=str(config.get("feed_forward_proj", "relu")).startswith("gated-"),
        tied=from_scratch or config.get("tie_word_embeddings", True),
        model_type=config.get("model_type", "t5"),
        relative_attention_num_buckets=config.get("relative_attention_num_buckets", 32),
    )


def _environment(spec: RunSpec) -> Environment | None:
    name = environment_of(spec)
    return None if name is None else read_environment(name)


def environment_finding(environment: Environment) -> Finding:
    """What stands against a run in an environment that cannot be used, and the command that mends it."""
    return Finding(
        "error", f"environment.{environment.condition}", environment.problem, setup_command(environment.name)
    )


def _version_findings(spec: RunSpec, versions: Mapping[str, str]) -> tuple[Finding, ...]:
    missing = [name for name in PACKAGES if name not in versions]
    found = []
    if missing:
        found.append(Finding("error", "version.missing", f"not installed: {', '.join(missing)}", "pip install t5panel"))
    if spec.method == "llamafactory":
        if problem := untested(versions):
            found.append(Finding("error", "version.llamafactory", problem, setup_command("llamafactory")))
        return tuple(found)
    transformers = versions.get("transformers", "")
    if transformers and _release(transformers) < NEEDED_TRANSFORMERS:
        message = f"transformers {transformers} runs T5's sdpa attention in float32 and slows it down by half"
        found.append(Finding("error", "version.transformers", message, "pip install 'transformers>=5.23'"))
    return tuple(found)


def _release(version_text: str) -> tuple[int, int]:
    """`5.23` of `5.23.0.dev0`."""
    major, _, minor = version_text.partition(".")
    return int(re.sub(r"\D.*", "", major) or 0), int(re.sub(r"\D.*", "", minor) or 0)


def _finding(fault: Fault) -> Finding:
    return Finding("error", fault.where, fault.message, fault.hint)
