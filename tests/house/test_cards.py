"""Cards as the real pynvml reads them from a made-up driver: what is planned, refused and sampled."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Card, Sample
from t5panel.monitor.runs import read_info
from tests.house.household import BOX, RTX, House, ended, eventually, set_cards

GIB = 2**30
PYTHON = """#!/bin/sh
case "$*" in
    *inspect*) exec {python} "$@";;
    *collective*) echo '{{"code": "", "message": "", "backend": "nccl", "ranks": 3, "device": "cuda", "seconds": 2}}';;
    *) exit 9;;
esac
"""
PRINT = "print(msgspec.json.encode({}).decode())"


def test_the_cards_of_this_machine_are_planned_for(box: House) -> None:
    set_cards(box, BOX)

    plan = json.loads(box.panel("plan", "--preset", "deepspeed", "--json").stdout)

    assert (plan["device"], plan["rehearsal"], plan["world_size"]) == ("cuda", False, 3)
    assert [(card["index"], card["capacity"]) for card in plan["vram"]["per_card"]] == [
        (index, 20 * GIB - 300 * 2**20) for index in range(3)
    ]


def test_a_plan_for_people_names_the_cards(box: House) -> None:
    set_cards(box, BOX)

    assert "machine   3 × RTX 3080 20 GiB" in box.panel("plan", "--preset", "manual").stdout


def test_fewer_cards_than_asked_for_is_refused_before_anything_is_written(box: House) -> None:
    set_cards(box, RTX.format(used=300))

    answer = box.panel("--preset", "deepspeed", "--no-ui")

    assert answer.returncode == 4
    assert "gpu.too-few: 3 cards were asked for, 1 found\n    --set num_gpus=1" in answer.stderr
    assert box.is_untouched()


def test_a_card_that_does_not_exist_is_refused(box: House) -> None:
    set_cards(box, BOX)

    answer = box.panel("--preset", "deepspeed", "--no-ui", "--gpus", "0,3")

    assert answer.returncode == 4
    assert "cards [3] do not exist; found [0, 1, 2]" in answer.stderr


def test_a_users_own_data_without_a_card_is_refused_with_the_cpu_as_a_hint(box: House) -> None:
    data = box.home / "pairs.csv"
    data.write_text("prompt,response\na,b\n")

    answer = box.panel("--preset", "deepspeed", "--no-ui", "--data", str(data))

    assert answer.returncode == 4
    assert "gpu.none: no NVIDIA card was found" in answer.stderr
    assert "--device cpu" in answer.stderr
    assert box.is_untouched()


def test_cards_that_a_run_of_ours_uses_are_refused_and_others_are_not(box: House) -> None:
    set_cards(box, BOX)
    run = box.fake_run("waits", "honours-stop", cards=(0, 2))
    other = box.fake_run("waits", "honours-stop", cards=(2,))
    box.panel("resume", run.run_id, "--detach")

    refused, resumed = box.panel("--preset", "manual", "--no-ui"), box.panel("resume", other.run_id, "--detach")
    free = box.panel("plan", "--preset", "manual", "--gpus", "1")

    box.panel("stop", run.run_id)
    assert refused.returncode == 4
    assert f"gpu.busy: cards 0, 2 are used by run {run.run_id}\n    take others with --gpus" in refused.stderr
    assert (resumed.returncode, f"card 2 is used by run {run.run_id}" in resumed.stderr) == (4, True)
    assert free.returncode == 0, free.stdout
    assert box.panel("plan", "--preset", "manual").returncode == 0


def test_a_variable_that_hides_cards_is_named_with_the_option_that_counts(box: House) -> None:
    set_cards(box, BOX)

    plan = box.panel("plan", "--preset", "deepspeed", CUDA_VISIBLE_DEVICES="1")
    on_the_cpu = box.panel("plan", "--preset", "deepspeed", "--device", "cpu", CUDA_VISIBLE_DEVICES="1")

    assert plan.returncode == 0
    assert (
        "! gpu.visible: CUDA_VISIBLE_DEVICES=1 of this shell is not used\n    choose cards with --gpus" in plan.stdout
    )
    assert "--include=localhost:0,1,2" in plan.stdout
    assert "gpu.visible" not in on_the_cpu.stdout


def test_cuda_without_a_card_is_refused(box: House) -> None:
    assert box.panel("--preset", "deepspeed", "--no-ui", "--device", "cuda").returncode == 4


def test_shipped_defaults_without_a_card_are_a_rehearsal_said_in_the_first_line(box: House) -> None:
    answer = box.panel("--preset", "deepspeed", "--dry-run")

    assert answer.returncode == 0
    assert answer.stdout.startswith("REHEARSAL: no NVIDIA card was found.")


def test_a_lost_card_is_left_out(box: House) -> None:
    set_cards(box, BOX + RTX.format(used=0) + " lost\n")

    answer = box.panel("--preset", "manual", "--dry-run", "--set", "num_gpus=4")

    assert answer.returncode == 4
    assert "4 cards were asked for, 3 found" in answer.stdout


def test_cards_too_full_for_the_model_end_with_exit_code_3(box: House) -> None:
    set_cards(box, BOX.replace(" 300 ", " 19000 "))

    answer = box.panel("--preset", "deepspeed", "--no-ui", "--yes")

    assert answer.returncode == 3
    assert "memory.vram: card 0 needs" in answer.stderr
    assert box.is_untouched()


def test_force_starts_what_the_plan_says_does_not_fit(box: House) -> None:
    set_cards(box, BOX.replace(" 300 ", " 19000 "))
    python = box.home / "python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)

    answer = box.panel("--preset", "deepspeed", "--no-ui", "--force", "--detach", "--set", f"interpreter={python}")

    assert answer.returncode == 0, answer.stderr
    run = RunDir(box.home / "state/t5panel/runs" / answer.stdout.strip())
    assert "the preparation returned 9" in ended(run).message
    assert read_info(run).forced


def test_the_supervisor_samples_the_runs_cards_through_loss_and_return(box: House) -> None:
    set_cards(box, BOX)
    run = box.fake_run("waits", "honours-stop", cards=(0, 2))
    box.panel("resume", run.run_id, "--detach")
    eventually(lambda: len(samples(run)) >= 2)
    set_cards(box, BOX.replace("97\n", "97 lost\n", 1))
    eventually(lambda: len(samples(run)[-1].cards) == 1)
    set_cards(box, BOX)
    eventually(lambda: len(samples(run)[-1].cards) == 2)

    box.panel("stop", run.run_id)

    expected = Card(index=0, used=300 * 2**20, total=20 * GIB, utilization=97, power=112.5, temperature=54)
    assert samples(run)[0].cards == (expected, msgspec.structs.replace(expected, index=2))
    assert ended(run).phase == "stopped"


def read_by_nvml(box: House, expression: str, **env: str) -> object:
    """What an expression of `nvml` gives, in a process of its own: the driver is chosen when it starts."""
    code = f"import msgspec\nfrom t5panel.monitor.hardware import Nvml\nnvml = Nvml()\n{PRINT.format(expression)}"
    answer = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **box.env, **env}, capture_output=True, check=True
    )
    value: object = json.loads(answer.stdout)
    return value


def test_reasons_for_a_slow_card_are_words_and_a_power_cap_is_none(box: House) -> None:
    line = RTX.format(used=300)
    set_cards(box, "\n".join(f"{line} throttle={bits}" for bits in ("0x04", "0x20", "0x48", "0x88", "0x0")))

    words = read_by_nvml(box, "[card.throttle for card in nvml.cards()]")

    assert words == [[], ["thermal"], ["thermal", "hardware slowdown"], ["power brake", "hardware slowdown"], []]


def test_the_driver_its_processes_and_modes_are_read(box: House) -> None:
    set_cards(box, RTX.format(used=300) + " pid=41:512 pid=42:7 persistence ecc=3 mig\n" + RTX.format(used=0))

    driver = read_by_nvml(box, "nvml.driver()", FAKE_CUDA="12040")
    processes = read_by_nvml(box, "[nvml.processes(0), nvml.processes(1), nvml.processes(9)]")
    modes = read_by_nvml(box, "[nvml.modes(0), nvml.modes(1)]")

    assert driver == {"version": "580.65.06", "cuda": [12, 4]}
    assert processes == [[{"pid": 41, "used": 512 * 2**20}, {"pid": 42, "used": 7 * 2**20}], [], []]
    assert modes == [
        {"capability": [8, 6], "persistence": True, "mig": True, "ecc": True, "ecc_errors": 3},
        {"capability": [8, 6], "persistence": False, "mig": False, "ecc": None, "ecc_errors": None},
    ]


@pytest.mark.parametrize("how", ["lost", "gone"])
def test_a_card_that_fell_off_the_bus_is_named_and_the_others_are_read(box: House, how: str) -> None:
    line = RTX.format(used=300)
    set_cards(box, f"{line}\n{line} {how}\n{line}\n")

    found = read_by_nvml(box, "[nvml.lost(), [card.index for card in nvml.cards()], nvml.processes(1)]")

    assert found == [[1], [0, 2], []]


def test_without_a_driver_nothing_is_lost_and_nothing_is_known(box: House) -> None:
    assert read_by_nvml(box, "[nvml.lost(), nvml.cards(), nvml.driver()]") == [[], [], None]


def samples(run: RunDir) -> list[Sample]:
    """What the supervisor has sampled so far."""
    lines = run.samples.read_bytes().splitlines() if run.samples.exists() else []
    return [msgspec.json.decode(line, type=Sample) for line in lines]
