"""Asks the trainer's interpreter whether the ranks of a run reach each other, before they have to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from t5panel.contract.layout import PRIVATE, collective_checks, write_atomic
from t5panel.monitor.hardware import Driver, Nvml
from t5panel.monitor.proc import boot_id
from t5panel.plan.planning import Finding
from t5panel.preflight.torch_build import build_findings, read_build

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

LIMIT_SECONDS = 20.0
"""Of the check itself; loading torch from a cold disk comes on top."""
LOAD_SECONDS = 60.0
KEPT = 50
"""Answers that are remembered; older ones give way."""
HINTS = {
    "collective.shm": "start with NCCL_SHM_DISABLE=1 in the environment (that works here, slower), "
    "or give /dev/shm more room (docker run --shm-size=1g)",
    "collective.timeout": "a firewall on the loopback, or a card that hangs: see `nvidia-smi`, "
    "and try again with NCCL_DEBUG=INFO",
    "collective.failed": "the run would fail on the same; NCCL_DEBUG=INFO in the environment says more",
    "torch.no-cuda": "install a CUDA build of torch into the trainer's interpreter",
    "torch.arch": "install a torch that was built for this card",
}


class Outcome(msgspec.Struct, frozen=True):
    """What the check said: `t5panel.trainers.collective` writes it."""

    code: str
    message: str
    backend: str
    ranks: int
    device: str
    seconds: float
    reduce_seconds: float | None = None
    torch: dict[str, Any] = {}


class Question(msgspec.Struct, frozen=True):
    """Who shall reach whom, in which interpreter."""

    interpreter: str
    ranks: int
    device: str
    cards: tuple[int, ...]

    def key(self, boot: str, torch_version: str, environ: Mapping[str, str]) -> str:
        """The same for as long as the answer stays the same."""
        nccl = sorted(f"{name}={value}" for name, value in environ.items() if name.startswith("NCCL_"))
        parts = (boot, self.interpreter, torch_version, self.device, self.ranks, self.cards, nccl)
        return msgspec.json.encode(parts).decode()


def collective_findings(
    spec: RunSpec,
    cards: Sequence[int],
    *,
    driver: Driver | None = None,
    cache: Path | None = None,
    tell: Callable[[str], None] = lambda _text: None,
) -> tuple[Finding, ...]:
    """What stands against ranks on these cards, by PCI index, reaching each other; nothing on the CPU.

    torch's build is read from its files; several ranks are tried out, once after each start of the machine. That takes
    seconds, so it is told before it begins.
    """
    if spec.device != "cuda":
        return ()
    build = read_build(spec.interpreter)
    if found := build_findings(build, driver or Nvml().driver()):
        return found
    if spec.num_gpus < 2:
        return ()
    question = Question(spec.interpreter or sys.executable, spec.num_gpus, "cuda", tuple(cards))
    file = collective_checks() if cache is None else cache
    key = question.key(boot_id(), build.version if build else "", os.environ)
    known = _known(file)
    if key in known:
        return ()
    tell(f"trying out whether the {spec.num_gpus} ranks reach each other: some seconds, once after each boot")
    outcome = ask(question)
    if not isinstance(outcome, Finding) and not outcome.code:
        _remember(file, (*known, key))
    return answer_findings(outcome)


def ask(question: Question) -> Outcome | Finding:
    """Let an interpreter try it; a finding when it gives no answer."""
    python = question.interpreter
    argv = [
        *(python, "-P", "-m", "t5panel.trainers.collective", "--json", "--ranks", str(question.ranks)),
        *("--device", question.device, "--cards", ",".join(map(str, question.cards)), "--limit", str(LIMIT_SECONDS)),
    ]
    try:
        answer = subprocess.run(argv, capture_output=True, timeout=LIMIT_SECONDS + LOAD_SECONDS, check=False)
        return msgspec.json.decode(answer.stdout.strip().rpartition(b"\n")[2], type=Outcome)
    except subprocess.TimeoutExpired:
        message = f"{python} did not end the check within {LIMIT_SECONDS + LOAD_SECONDS:.0f} s"
        return Finding("error", "collective.timeout", message, HINTS["collective.timeout"])
    except OSError as error:
        return Finding("error", "interpreter", f"{python} does not start: {error.strerror}", "--set interpreter=PATH")
    except msgspec.DecodeError:
        words = answer.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "no output"
        return Finding("error", "interpreter", f"{python} cannot run the check: {words}", "install t5panel into it")


def answer_findings(outcome: Outcome | Finding) -> tuple[Finding, ...]:
    """What an answer holds against a start."""
    if isinstance(outcome, Finding):
        return (outcome,)
    if not outcome.code:
        return ()
    message = f"{outcome.ranks} ranks over {outcome.backend}: {outcome.message}"
    return (Finding("error", outcome.code, message, HINTS.get(outcome.code, "")),)


def _known(file: Path) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=tuple[str, ...])
    except (OSError, msgspec.DecodeError):
        return ()


def _remember(file: Path, keys: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    write_atomic(file, msgspec.json.encode(keys[-KEPT:]), durable=False)
