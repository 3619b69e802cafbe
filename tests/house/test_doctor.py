"""`t5panel doctor` as a user runs it: on this machine without a card, and on made-up boxes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from t5panel.contract.records import RankId
from t5panel.plan.planning import Finding
from t5panel.preflight import doctor
from t5panel.preflight.doctor import Check, Group, admit
from t5panel.preflight.report import group_lines, verdict_line
from tests.house.household import BOX, RTX, House, eventually, set_cards

GROUPS = ["cards", "memory", "disk", "system", "versions", "collective"]
PYTHON = """#!/bin/sh
case "$*" in
    *collective*) echo "$*" >> "$(dirname "$0")/asked"; cat "$(dirname "$0")/answer";;
    *) exec {python} "$@";;
esac
"""
GOOD = {"code": "", "message": "", "backend": "nccl", "ranks": 3, "device": "cuda", "seconds": 2.1}


def interpreter(folder: Path, *, cuda: str = "12.8", **answer: object) -> Path:
    """A venv whose torch is built for CUDA, and which answers the check of the ranks without any card."""
    program, torch = folder / "venv/bin/python", folder / "venv/lib/python3.11/site-packages/torch"
    for place in (program.parent, torch):
        place.mkdir(parents=True)
    program.write_text(PYTHON.format(python=sys.executable))
    program.chmod(0o755)
    (torch / "version.py").write_text(f"__version__ = '2.9.0+cu'\ncuda: str = '{cuda}'\n")
    (program.parent / "answer").write_text(json.dumps({**GOOD, "reduce_seconds": 0.004, **answer}))
    return program


def preset(box: House, python: Path) -> Path:
    """A preset of the user's own that runs in an interpreter of its own."""
    file = box.home / "mine.yaml"
    body = "method: manual\nlauncher: torchrun\nnum_gpus: 3\nmodel: {name_or_path: builtin:t5-base}\n"
    file.write_text(f"{body}data: {{train: builtin:docstrings}}\ninterpreter: {python}\n")
    return file


@contextmanager
def another_program() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours."""
    with subprocess.Popen([shutil.which("sleep") or "sleep", "60"]) as program:
        yield program
        program.kill()


def examined(box: House, *words: str, **env: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of the doctor."""
    answer = box.panel("doctor", "--json", *words, **env)
    return answer.returncode, json.loads(answer.stdout)


def codes(report: dict[str, Any]) -> dict[str, str]:
    """The findings' codes with their severities."""
    return {finding["code"]: finding["severity"] for finding in report["findings"]}


def test_a_machine_without_a_card_is_fit_for_rehearsals(house: House) -> None:
    answer = house.panel("doctor")

    lines = answer.stdout.splitlines()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert [line for line in lines if line and not line.startswith((" ", "✓"))] == GROUPS
    assert "      ! no NVIDIA card: rehearsals only" in lines
    assert any("3 CPU ranks over gloo: 1 MiB added up in" in line for line in lines)
    assert lines[-1].startswith("✓ deepspeed can rehearse on 3 CPU ranks (1 warning")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in answer.stdout
    assert house.is_untouched()


def test_the_readings_are_there_as_json(house: House) -> None:
    code, report = examined(house)

    assert code == 0
    assert list(report["facts"]) == GROUPS
    assert codes(report)["gpu.none"] == "warning"
    assert all(set(finding) == {"severity", "code", "message", "hint"} for finding in report["findings"])
    assert report["facts"]["memory"]["host_ram"]["limit"] > 2**30
    assert report["facts"]["versions"]["this_python"]["packages"]["torch"]
    assert report["facts"]["collective"]["ranks"]["backend"] == "gloo"


def test_an_unknown_preset_is_a_usage_error(house: House) -> None:
    assert house.panel("doctor", "--preset", "nonsense").returncode == 2


def test_a_box_with_three_good_cards_can_train(box: House) -> None:
    set_cards(box, BOX.replace("\n", " persistence\n"))
    python = interpreter(box.home)

    answer = box.panel("doctor", "--preset", str(preset(box, python)), FAKE_CUDA="12080")

    assert answer.returncode == 0, answer.stdout
    assert "  ✓ driver         580.65.06, CUDA 12.8" in answer.stdout
    assert "  ✓ card 2         RTX 3080, 0.3 of 20.0 GiB in use, 54 °C, 112 W" in answer.stdout
    assert "  ✓ ranks          3 cards over nccl: 1 MiB added up in 4.0 ms" in answer.stdout
    assert "✓ mine can train on 3 cards" in answer.stdout
    assert "--ranks 3 --device cuda --cards 0,1,2" in (python.parent / "asked").read_text()


def test_a_torch_for_a_newer_cuda_than_the_driver_ends_with_exit_code_4(box: House) -> None:
    set_cards(box, BOX)
    python = interpreter(box.home, cuda="13.0")

    answer = box.panel("doctor", "--preset", str(preset(box, python)), FAKE_CUDA="12040")

    assert answer.returncode == 4
    assert "torch 2.9.0+cu needs CUDA 13.0, driver 580.65.06 runs CUDA 12.4 at most" in " ".join(answer.stdout.split())
    assert "  · ranks          not tried\n      · the interpreter has to be mended first" in answer.stdout
    assert "✗ mine would not start here (1 error" in answer.stdout
    assert not (python.parent / "asked").exists()


def test_nccl_without_shared_memory_is_an_error_with_the_variable_that_helps(box: House) -> None:
    set_cards(box, BOX)
    message = "rank 1: DistBackendError: Error while attaching to shared memory segment /dev/shm/nccl-3 (size 0)"
    python = interpreter(box.home, code="collective.shm", message=message)

    code, report = examined(box, "--preset", str(preset(box, python)), FAKE_CUDA="12080")

    (found,) = [finding for finding in report["findings"] if finding["code"] == "collective.shm"]
    assert (code, found["severity"]) == (4, "error")
    assert message in found["message"]
    assert "NCCL_SHM_DISABLE=1" in found["hint"]


def test_cards_in_use_by_another_program_are_named_and_left_alone(box: House) -> None:
    with another_program() as other:
        line = RTX.format(used=12300)
        set_cards(box, f"{line} pid={other.pid}:12000 throttle=0x40\n" + BOX)
        python = interpreter(box.home)
        code, report = examined(box, "--preset", str(preset(box, python)), FAKE_CUDA="12080")

    (found,) = [finding for finding in report["findings"] if finding["code"] == "gpu.in-use"]
    assert (code, found["severity"]) == (4, "error")
    assert f"card 0 is in use: pid {other.pid} of " in found["message"]
    assert "sleep 60 (12,000 MiB)" in found["message"]
    assert codes(report)["gpu.throttled"] == "warning"
    assert not (python.parent / "asked").exists()


def test_a_run_of_ours_on_the_cards_is_no_fault_and_is_not_disturbed(box: House) -> None:
    python = interpreter(box.home)
    set_cards(box, BOX)
    run = box.fake_run("waits", "honours-stop", cards=(0,))
    box.panel("resume", run.run_id, "--detach")
    eventually((run.ranks / "0").exists)
    rank = msgspec.json.decode((run.ranks / "0").read_bytes(), type=RankId).pid
    set_cards(box, f"{RTX.format(used=9000)} pid={rank}:8700\n" + "\n".join([RTX.format(used=300)] * 2) + "\n")

    code, report = examined(box, "--preset", str(preset(box, python)), FAKE_CUDA="12080")

    set_cards(box, BOX)
    box.panel("stop", run.run_id)
    assert (code, codes(report)["gpu.own-run"]) == (0, "info")
    assert "gpu.in-use" not in codes(report)
    assert not (python.parent / "asked").exists()


def test_before_a_start_the_same_holders_are_refused(box: House) -> None:
    with another_program() as other:
        set_cards(box, f"{RTX.format(used=12300)} pid={other.pid}:12000\n" + "\n".join([RTX.format(used=9)] * 2) + "\n")
        refused = box.panel("plan", "--preset", "manual")
        free = box.panel("plan", "--preset", "manual", "--gpus", "1,2")

    assert (refused.returncode, free.returncode) == (4, 0)
    assert f"gpu.in-use: card 0 is in use: pid {other.pid} of " in refused.stdout


def test_ranks_that_do_not_reach_each_other_refuse_the_start_before_anything_is_written(box: House) -> None:
    set_cards(box, BOX)
    python = interpreter(box.home, code="collective.timeout", message="rank 2 did not join the group within 20 s")

    answer = box.panel("--preset", str(preset(box, python)), "--no-ui", FAKE_CUDA="12080")

    assert answer.returncode == 4
    assert "collective.timeout: 3 ranks over nccl: rank 2 did not join the group within 20 s" in answer.stderr
    assert box.is_untouched()


def test_ranks_that_reach_each_other_are_asked_once_after_each_start_of_the_machine(box: House) -> None:
    set_cards(box, BOX)
    python = interpreter(box.home)
    words = ("--preset", str(preset(box, python)), "--no-ui", "--detach")

    codes = []
    for _ in range(2):
        answer = box.panel(*words, FAKE_CUDA="12080")
        box.panel("stop", answer.stdout.strip(), "--now")
        codes.append(answer.returncode)

    assert codes == [0, 0]
    assert len((python.parent / "asked").read_text().splitlines()) == 1


def test_a_lost_card_and_a_card_too_few_are_both_said(box: House) -> None:
    set_cards(box, "\n".join([RTX.format(used=300)] * 2) + "\n" + RTX.format(used=0) + " gone\n")
    python = interpreter(box.home)

    code, report = examined(box, "--preset", str(preset(box, python)), FAKE_CUDA="12080")

    assert code == 4
    assert (codes(report)["gpu.lost"], codes(report)["gpu.too-few"]) == ("warning", "error")


def test_a_broken_preset_of_the_user_is_a_warning_of_its_own(house: House) -> None:
    folder = house.home / "config/t5panel/presets"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("method: magic\n")

    code, report = examined(house)

    assert (code, codes(report)["preset"]) == (0, "warning")


def test_an_interpreter_that_another_preset_uses_and_that_is_gone_is_a_warning(house: House) -> None:
    folder = house.home / "config/t5panel/presets"
    folder.mkdir(parents=True)
    preset(house, Path("/no/such/python")).rename(folder / "old.yaml")

    code, report = examined(house)
    chosen, _ = examined(house, "--preset", "old")

    assert (code, codes(report)["interpreter"]) == (0, "warning")
    assert chosen == 4


def test_any_error_ends_with_exit_code_4(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "loopback_fault", lambda: "there is no network interface 'lo'")
    monkeypatch.setattr(doctor, "ask", lambda _: Finding("error", "collective.failed", "no answer"))

    answer = house.click("doctor")

    assert answer.exit_code == 4
    assert "  ✗ loopback" in answer.stdout
    assert answer.stdout.rstrip().endswith("✗ deepspeed would not start here (2 errors, 1 warning)")


def test_long_texts_are_folded_and_hang_under_their_check() -> None:
    finding = Finding("warning", "x", "a message of many words " * 5, "rm /a/very/long/path/" + "x" * 90)
    group = Group("cards", (Check("a name that is too long", "text " * 30, (finding,)), Check("short", "fine")))

    lines = list(group_lines(group))

    assert lines[0] == "cards"
    assert lines[1] == "  ! a name that is too long"
    assert all(len(line) <= 80 for line in lines if "/a/very" not in line)
    assert "  ✓ short          fine" in lines


def test_colours_say_nothing_that_the_marks_do_not() -> None:
    finding = Finding("error", "x", "message", "hint")
    group = Group("disk", (Check("runs", "full", (finding,)),))

    painted = "\n".join(group_lines(group, paint=lambda text, tone: f"<{tone}>{text}</>"))

    assert "<title>disk</>" in painted
    assert "<error>✗</> runs" in painted
    assert "<quiet>→ hint</>" in painted


def test_the_verdict_names_the_preset_and_counts(house: House) -> None:
    assert house.home
    patient, ailing = admit("manual"), Group("disk", (Check("runs", "", (Finding("error", "x", "y"),)),))

    assert verdict_line(patient, [ailing]) == "✗ manual would not start here (1 error)"
    assert verdict_line(patient, []) == "✓ manual can rehearse on 3 CPU ranks"
