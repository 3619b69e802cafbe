"""What an ended run on cards showed is the basis of later plans on this machine."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import msgspec
import pytest

from t5panel.contract.layout import RunDir, machine_file
from t5panel.contract.records import CardUse, PredictedVram, Prepared, Result, Sample
from t5panel.monitor.runs import read_card_use, read_info
from t5panel.plan.allocator import MIB
from t5panel.preflight.calibration import MachineFacts, measured_speed, read_facts
from tests.house.household import BOX, House, ended, eventually, set_cards
from tests.house.test_cards import PYTHON

PLAN = ("plan", "--preset", "trainer", "--json")
RESULT = Result(
    status="finished",
    step=500,
    loss_first=5.0,
    loss_last=3.0,
    samples_per_second=77.5,
    peak_rss_per_rank=(),
    peak_vram_per_card=(),
    checkpoint=None,
)
PREPARED = Prepared("/cache/rows", None, 3000, 0, 0, 0, source_tokens=(40, 60, 80), target_tokens=(100, 150, 300))


@pytest.fixture
def run(box: House) -> RunDir:
    """A run that the panel started on three RTX 3080, whose trainer does not work."""
    set_cards(box, BOX)
    python = box.home / "python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    answer = box.panel("--preset", "trainer", "--no-ui", "--detach", "--set", f"interpreter={python}")
    assert answer.returncode == 0, answer.stderr
    started = RunDir(box.home / "state/t5panel/runs" / answer.stdout.strip())
    ended(started)
    return started


def finish(run: RunDir, result: Result = RESULT, prepared: Prepared = PREPARED) -> None:
    """What a run leaves that trained to its end."""
    run.result.write_bytes(msgspec.json.encode(result))
    run.prepared.write_bytes(msgspec.json.encode(prepared))


def newest_sample(run: RunDir) -> Sample:
    """The supervisor's last reading."""
    return msgspec.json.decode(run.samples.read_bytes().splitlines()[-1], type=Sample)


def estimate(box: House, *words: str) -> dict[str, Any]:
    """The estimate of a plan."""
    found: dict[str, Any] = json.loads(box.panel(*PLAN, *words).stdout)["estimate"]
    return found


def test_a_finished_run_narrows_the_next_plan_and_gives_it_the_length_of_its_rows(box: House, run: RunDir) -> None:
    before = estimate(box)
    finish(run)

    after = estimate(box)

    assert "one H100" in before["basis"]
    assert "every row taken as 512 → 512 tokens" in before["basis"]
    assert after["samples_per_second"] == pytest.approx(77.5)
    assert after["low"]["samples_per_second"] == pytest.approx(77.5 / 1.1)
    assert after["samples"] == 3000
    assert after["basis"].startswith(f"measured here by {run.run_id}: 77.5 samples/s, ")
    assert f"rows of 60 → 183 tokens on average, as in {run.run_id}" in after["basis"]


def test_what_a_run_showed_outlives_its_directory_once_another_was_started(box: House, run: RunDir) -> None:
    finish(run)
    assert not machine_file().exists()
    python = box.home / "python"

    box.panel("--preset", "trainer", "--no-ui", "--detach", "--set", f"interpreter={python}")
    shutil.rmtree(run.path)

    assert [speed.run_id for speed in read_facts().speeds] == [run.run_id]
    assert estimate(box)["basis"].startswith(f"measured here by {run.run_id}")


def test_other_data_takes_the_speed_and_not_the_lengths(box: House, run: RunDir) -> None:
    finish(run)

    other = estimate(box, "--set", "data.max_source_length=256")

    assert other["basis"].startswith(f"measured here by {run.run_id}")
    assert "every row taken as 256 → 512 tokens" in other["basis"]
    assert other["samples"] == 10_000_000


def test_a_run_that_showed_no_speed_is_no_basis(run: RunDir) -> None:
    info = read_info(run)
    without_end = measured_speed(run, info)
    finish(run, prepared=msgspec.structs.replace(PREPARED, source_tokens=()))
    without_lengths = measured_speed(run, info)
    finish(run, msgspec.structs.replace(RESULT, step=9))
    too_short = measured_speed(run, info)
    finish(run, msgspec.structs.replace(RESULT, samples_per_second=0.0))
    without_rate = measured_speed(run, info)

    finish(run)

    assert (without_end, without_lengths, too_short, without_rate) == (None, None, None, None)
    assert measured_speed(run, info) is not None


def test_a_run_that_says_too_little_is_no_basis(run: RunDir) -> None:
    finish(run)
    strange: tuple[dict[str, Any], ...] = (
        {"rehearsal": True},
        {"cards": ()},
        {"plan": {}},
        {"plan": {"shape": {"d_model": "wide"}, "cards": ["RTX 3080"]}},
        {"plan": {**read_info(run).plan, "cards": ["RTX 9999"]}},
        {"spec": {"method": "of another version"}},
    )

    found = [measured_speed(run, msgspec.structs.replace(read_info(run), **change)) for change in strange]

    assert found == [None] * len(strange)


def test_a_started_run_keeps_what_was_predicted_for_each_of_its_cards(box: House, run: RunDir) -> None:
    plan = read_info(run).plan

    predicted = msgspec.convert(plan["vram"], tuple[PredictedVram, ...])

    assert plan["driver"]
    assert [card.index for card in predicted] == [0, 1, 2]
    shown = json.loads(box.panel(*PLAN, "--set", f"interpreter={box.home / 'python'}").stdout)["vram"]["per_card"]
    assert [card.reserved for card in predicted] == [card["reserved"] for card in shown]


def test_an_ended_run_keeps_what_nvml_saw_of_its_cards_before_and_at_their_highest(box: House) -> None:
    set_cards(box, BOX)
    run = box.fake_run("waits", "honours-stop", cards=(0, 2))
    box.panel("resume", run.run_id, "--detach")
    eventually(lambda: bool(list(run.logs.glob("alive-*"))))
    set_cards(box, BOX.replace(" 300 ", " 9000 ", 1))
    eventually(lambda: newest_sample(run).cards[0].used == 9000 * MIB)
    set_cards(box, BOX)
    eventually(lambda: newest_sample(run).cards[0].used == 300 * MIB)
    assert read_card_use(run) == ()

    box.panel("stop", run.run_id)

    assert ended(run).phase == "stopped"
    assert read_card_use(run) == (CardUse(0, 300 * MIB, 9000 * MIB), CardUse(2, 300 * MIB, 300 * MIB))


@pytest.mark.parametrize("content", [b"", b"{", b'{"speeds": [{"run_id": 1}]}', b"\xff"])
def test_a_broken_file_is_as_good_as_none(house: House, content: bytes) -> None:
    machine_file().parent.mkdir(parents=True)
    machine_file().write_bytes(content)

    assert read_facts() == MachineFacts()


def test_samples_and_price_are_asked_for_on_the_command_line(box: House) -> None:
    set_cards(box, BOX)

    found = estimate(box, "--samples", "1000000", "--price", "0.5")

    assert found["samples"] == 1_000_000
    assert found["cost"] == pytest.approx(found["kwh"] / 2)
