"""The check that ranks reach each other: for real over gloo, and with ranks that hang, die or fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from t5panel.contract.spec import RunSpec
from t5panel.monitor.hardware import Driver
from t5panel.plan.planning import Finding
from t5panel.preflight import collective
from t5panel.preflight.collective import Outcome, Question, answer_findings, ask, collective_findings
from t5panel.preflight.torch_build import TorchBuild, build_findings, read_build
from t5panel.trainers.collective import has_code_for, short_error, verdict

DRIVER_12 = Driver("550.54.14", (12, 4))
BROKEN = """
import os, signal, sys, time
from t5panel.trainers import collective
real = collective.add_up
def broken(plan, rank, *rest):
    if rank == 2:
        {what}
    real(plan, rank, *rest)
collective.add_up = broken
sys.exit(collective.main({words}))
"""


def spec_on(device: str, ranks: int = 3, **more: object) -> RunSpec:
    """A run on cards or on the CPU."""
    model, data = {"name_or_path": "builtin:tiny"}, {"train": "builtin:docstrings"}
    body = {"method": "manual", "launcher": "torchrun", "num_gpus": ranks, "device": device}
    return RunSpec.model_validate({**body, "model": model, "data": data, **more})


def check_with(what: str, *, limit: float = 5.0) -> tuple[dict[str, Any], float]:
    """What the check says when rank 2 does something else first, and the seconds it took without loading torch."""
    words = ["--json", "--ranks", "3", "--device", "cpu", "--limit", str(limit)]
    code = BROKEN.format(what=what, words=words)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    outcome: dict[str, Any] = json.loads(answer.stdout)
    assert answer.returncode == 1
    return outcome, outcome["seconds"]


def test_three_ranks_reach_each_other_over_the_real_backend() -> None:
    outcome = ask(Question(sys.executable, 3, "cpu", ()))

    assert isinstance(outcome, Outcome)
    assert (outcome.code, outcome.backend, outcome.ranks) == ("", "gloo", 3)
    assert 0 < (outcome.reduce_seconds or 0) < outcome.seconds
    assert answer_findings(outcome) == ()


def test_a_rank_that_never_joins_is_named_within_the_limit() -> None:
    outcome, seconds = check_with("time.sleep(600)", limit=2.0)

    assert outcome["code"] == "collective.timeout"
    assert outcome["message"].startswith("rank 2 did not ")
    assert outcome["message"].endswith("within 2 s")
    assert seconds < 6


def test_a_rank_that_fails_is_reported_with_its_own_words() -> None:
    outcome, seconds = check_with("raise RuntimeError('no card for me')")

    assert outcome["code"] == "collective.failed"
    assert outcome["message"] == "rank 2: RuntimeError: no card for me"
    assert seconds < 5


def test_a_rank_that_dies_is_reported_with_its_signal() -> None:
    outcome, _ = check_with("os.kill(os.getpid(), signal.SIGSEGV)")

    assert outcome["message"] == "rank 2 died of SIGSEGV in the check"


def test_no_rank_outlives_the_check() -> None:
    mark = f"T5PANEL_TEST_MARK={time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    code = BROKEN.format(what="time.sleep(600)", words=["--ranks", "3", "--device", "cpu", "--limit", "30"])
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, name: value})
    deadline = time.monotonic() + 30
    while len(bearers(mark)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)

    parent.kill()
    parent.wait()

    deadline = time.monotonic() + 5
    while bearers(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert bearers(mark) == []


def bearers(mark: str) -> list[int]:
    """Living processes with this mark in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_the_first_failure_counts_not_its_echoes() -> None:
    echo = {"error": "connection closed by peer", "code": "collective.failed", "time": 12.0}
    cause = {"error": "no space left", "code": "collective.failed", "time": 11.0}

    assert verdict({0: [echo], 1: [cause]}, {}, 20.0)[:2] == ("collective.failed", "rank 1: no space left")


def test_a_sum_that_all_ranks_have_is_timed_by_the_slowest() -> None:
    assert verdict({0: [{"seconds": 0.1}], 1: [{"seconds": 0.3}]}, {}, 20.0) == ("", "", 0.3)


def test_of_a_long_error_what_it_is_and_how_it_ends_are_kept() -> None:
    advice = (
        "CUDA error: invalid device ordinal\nCUDA kernel errors might be asynchronously reported at some other call"
    )
    nccl = "NCCL error in: x.cpp\n" + "y " * 900 + "\nLast error:\nError while attaching to shared memory segment"

    assert short_error(advice) == "CUDA error: invalid device ordinal"
    assert short_error(nccl).startswith("NCCL error in: x.cpp")
    assert short_error(nccl).endswith("Last error: Error while attaching to shared memory segment")
    assert len(short_error(nccl)) < 610


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 6), ["sm_80", "sm_90"], True),
        ((8, 6), ["sm_75", "sm_90a"], False),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((6, 1), ["sm_70", "compute_70"], False),
    ],
)
def test_torch_needs_code_for_the_card(capability: tuple[int, int], architectures: list[str], *, runs: bool) -> None:
    assert has_code_for(capability, architectures) is runs


def test_a_torch_for_a_newer_cuda_than_the_driver_runs_is_an_error_with_both_numbers() -> None:
    (found,) = build_findings(TorchBuild("2.13.0+cu130", (13, 0)), DRIVER_12)

    assert (found.severity, found.code) == ("error", "torch.cuda")
    assert "needs CUDA 13.0" in found.message
    assert "550.54.14 runs CUDA 12.4 at most" in found.message


def test_a_newer_minor_version_of_cuda_runs_on_an_older_driver() -> None:
    assert build_findings(TorchBuild("2.9.0+cu128", (12, 8)), DRIVER_12) == ()


def test_a_torch_without_cuda_is_an_error_where_there_are_cards_only() -> None:
    build = TorchBuild("2.13.0+cpu", None)

    assert [found.code for found in build_findings(build, DRIVER_12)] == ["torch.no-cuda"]
    assert build_findings(build, None) == ()


def test_the_build_of_another_interpreters_torch_is_read_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "lib/python3.12/site-packages/torch"
    folder.mkdir(parents=True)
    (folder / "version.py").write_text("__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\n")

    assert read_build(str(tmp_path / "bin/python")) == TorchBuild("2.9.0+cu128", (12, 8))
    assert read_build(str(tmp_path / "nowhere/bin/python")) is None


def test_our_own_torch_is_found_without_loading_it() -> None:
    build = read_build(None)

    assert build is not None
    assert build.version[0].isdigit()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """The questions put to interpreters, all of which say that all is well."""
    questions: list[Question] = []

    def answer(question: Question) -> Outcome:
        questions.append(question)
        return Outcome("", "", "nccl", question.ranks, question.device, 2.0)

    monkeypatch.setattr(collective, "ask", answer)
    monkeypatch.setattr(collective, "read_build", lambda _: TorchBuild("2.9.0", (12, 8)))
    return questions


def test_a_good_answer_is_remembered_until_cards_or_nccl_settings_change(
    asked: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, spec = tmp_path / "state/collective.json", spec_on("cuda")
    for cards in ((0, 1, 2), (0, 1, 2), (0, 1, 3)):
        assert collective_findings(spec, cards, driver=DRIVER_12, cache=cache) == ()
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    collective_findings(spec, (0, 1, 2), driver=DRIVER_12, cache=cache)

    assert [question.cards for question in asked] == [(0, 1, 2), (0, 1, 3), (0, 1, 2)]


@pytest.mark.usefixtures("asked")
def test_a_check_that_takes_seconds_is_told_before_it_begins_and_only_then(tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        collective_findings(
            spec_on("cuda"), (0, 1, 2), driver=DRIVER_12, cache=tmp_path / "collective.json", tell=told.append
        )

    assert told == ["trying out whether the 3 ranks reach each other: some seconds, once after each boot"]


@pytest.mark.usefixtures("asked")
def test_a_bad_answer_is_an_error_with_a_hint_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, spec = tmp_path / "collective.json", spec_on("cuda")
    failed = Outcome("collective.shm", "rank 1: DistBackendError: shared memory", "nccl", 3, "cuda", 2.0)
    monkeypatch.setattr(collective, "ask", lambda _: failed)

    found = [collective_findings(spec, (0, 1, 2), driver=DRIVER_12, cache=cache) for _ in range(2)]

    assert [finding.code for findings in found for finding in findings] == ["collective.shm"] * 2
    assert "NCCL_SHM_DISABLE=1" in found[0][0].hint
    assert not cache.exists()


def test_nothing_is_asked_on_the_cpu_or_for_one_card(asked: list[Question], tmp_path: Path) -> None:
    cache = tmp_path / "collective.json"

    assert collective_findings(spec_on("cpu"), (), cache=cache) == ()
    assert collective_findings(spec_on("cuda", 1), (0,), driver=DRIVER_12, cache=cache) == ()
    assert asked == []


def test_a_broken_memory_of_answers_is_none(asked: list[Question], tmp_path: Path) -> None:
    cache = tmp_path / "collective.json"
    cache.write_text("{")

    assert collective_findings(spec_on("cuda"), (0, 1, 2), driver=DRIVER_12, cache=cache) == ()
    assert len(asked) == 1


@pytest.mark.parametrize("interpreter", ["no-such-python", "true"])
def test_an_interpreter_that_cannot_answer_is_a_finding(interpreter: str) -> None:
    found = ask(Question(interpreter, 3, "cpu", ()))

    assert isinstance(found, Finding)
    assert (found.severity, found.code) == ("error", "interpreter")
