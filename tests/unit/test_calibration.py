"""What runs on this machine showed of the memory beside torch's allocator, and what a plan makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from t5panel.contract.layout import RunDir, machine_file, runs_home
from t5panel.contract.records import (
    CardUse,
    Change,
    CommandInfo,
    Phase,
    ProcessId,
    Recovery,
    Result,
    RunInfo,
    State,
    Step,
    encode_line,
)
from t5panel.contract.shapes import builtin_shape
from t5panel.monitor.history import History
from t5panel.monitor.vram import vram_peak
from t5panel.plan.allocator import MIB
from t5panel.plan.context import (
    ASSUMED_BASIS,
    COMMUNICATOR,
    CONTEXT,
    LARGE_COMMUNICATOR,
    LARGE_CONTEXT,
    Context,
    MeasuredContext,
    Site,
    context_of,
    has_communicator,
)
from t5panel.plan.forecast import Experience
from t5panel.plan.machine import GIB, CardFacts, Machine
from t5panel.plan.planning import Plan, make_plan
from t5panel.preflight.calibration import MachineFacts, experience, measured_contexts, read_facts, remember
from t5panel.presets import load_preset
from t5panel.render.run import snapshot_json, summary_lines, vram_text

VERSIONS = {"transformers": "5.23.0", "torch": "2.13.0+cu130"}
CARDS = tuple(CardFacts(index, "RTX 3080", 20 * GIB, driver="580.95") for index in range(3))
SITE = Site("RTX 3080", "580.95", "2.13", distributed=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's state folder without runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def measured(size: int, *, at: float = 0.0, site: Site = SITE) -> MeasuredContext:
    """A made-up run's measurement, in MiB."""
    return MeasuredContext(f"made-up-{at:.0f}", at, site, size * MIB)


def planned(*found: MeasuredContext, cards: tuple[CardFacts, ...] = CARDS) -> Plan:
    """The trainer preset on these cards after made-up runs."""
    preset = load_preset("trainer")
    shape = builtin_shape(preset.spec.model.name_or_path)
    machine, known = Machine(cards, 64 * GIB, 8), Experience(contexts=found)
    return make_plan(preset, machine, shape=shape, rehearsal=False, versions=VERSIONS, known=known)


def test_a_context_measured_on_this_machine_stands_in_the_plan_with_its_basis() -> None:
    before, after = planned().cards, planned(measured(700, at=1), measured(720, at=2), measured(900, at=3)).cards

    assert {(card.context, card.context_basis) for card in before} == {(CONTEXT + COMMUNICATOR, ASSUMED_BASIS)}
    assert {(card.context, card.context_basis) for card in after} == {
        (720 * MIB, "context calibrated on this machine (3 runs)")
    }
    assert after[0].need == before[0].need
    assert before[0].high == before[0].need.high + LARGE_CONTEXT + LARGE_COMMUNICATOR
    assert after[0].high == after[0].need.high + 720 * MIB


@pytest.mark.parametrize(
    "change", [{"card": "RTX 3090"}, {"driver": "550.54"}, {"torch": "2.11"}, {"distributed": False}]
)
def test_what_was_measured_elsewhere_is_no_basis(change: dict[str, str]) -> None:
    [basis] = {
        card.context_basis for card in planned(measured(700, site=msgspec.structs.replace(SITE, **change))).cards
    }

    assert basis == ASSUMED_BASIS


def test_the_median_of_the_newest_runs_counts_and_of_two_the_larger() -> None:
    spec = load_preset("trainer").spec
    older = tuple(measured(9000, at=at) for at in range(6))
    newer = tuple(measured(700, at=at) for at in range(10, 15))

    assert context_of(spec, CARDS[0], VERSIONS, newer + older) == Context(
        700 * MIB, 700 * MIB, "context calibrated on this machine (5 runs)"
    )
    assert context_of(spec, CARDS[0], VERSIONS, (newer[0], older[0])).size == 9000 * MIB
    assert context_of(spec, CARDS[0], VERSIONS, newer[:1]).basis == "context calibrated on this machine (1 run)"


def test_deepspeed_alone_on_a_card_has_a_communicator_and_the_others_have_none() -> None:
    assert [has_communicator(method, 1) for method in ("manual", "trainer", "deepspeed")] == [False, False, True]


def test_a_described_card_is_not_one_of_this_machine() -> None:
    described = tuple(CardFacts(index, "RTX 3080", 20 * GIB) for index in range(3))

    assert {card.context_basis for card in planned(measured(700), cards=described).cards} == {ASSUMED_BASIS}


# --- what a run showed --------------------------------------------------------------------------------------

PREDICTED = [
    {"index": index, "requested": 4100 * MIB, "allocated": 4200 * MIB, "reserved": 4700 * MIB, "context": 1205 * MIB}
    for index in range(3)
]
INFO = RunInfo(
    "made-up",
    "trainer",
    5.0,
    {"num_gpus": 3},
    CommandInfo((), {}),
    CommandInfo((), {}),
    (0, 1, 2),
    "python",
    {"torch": "2.13.0+cu130"},
    {"cards": ["RTX 3080"] * 3, "driver": "580.95", "vram": PREDICTED},
)
RESULT = Result("finished", 40, 5.0, 3.0, 77.0, (), (4600 * MIB, 4600 * MIB, 4500 * MIB), None, seconds=60.0)
STEP = Step(6.0, 40, 0.1, 3.0, 1e-4, None, 960, 9000, 0.5, 0.0, vram_allocated=4250 * MIB, vram_reserved=4600 * MIB)
USE = tuple(CardUse(index, 300 * MIB, (5600 + 10 * index) * MIB) for index in range(3))


def made_up(
    home: Path,
    info: RunInfo = INFO,
    result: Result | None = RESULT,
    use: tuple[CardUse, ...] = USE,
    phase: Phase = "finished",
) -> RunDir:
    """The directory of a made-up run on three cards, which ended long ago."""
    run = RunDir(home / info.run_id)
    run.path.mkdir(parents=True)
    run.run_json.write_bytes(msgspec.json.encode(info))
    run.metrics.write_bytes(encode_line(STEP))
    if result is not None:
        run.result.write_bytes(msgspec.json.encode(result))
    nobody = ProcessId(0, 0)
    run.state.write_bytes(msgspec.json.encode(State(phase, run.run_id, "boot", 7.0, nobody, None, (), vram=use)))
    return run


def test_the_context_is_what_nvml_saw_come_beside_what_torch_reserved(tmp_path: Path) -> None:
    run = made_up(tmp_path)

    assert measured_contexts(run, INFO) == (MeasuredContext("made-up", 5.0, SITE, (5620 - 300 - 4500) * MIB),)


def test_one_rank_alone_shows_the_context_without_a_communicator(tmp_path: Path) -> None:
    plan = {**INFO.plan, "cards": ["RTX 3080"]}
    alone = msgspec.structs.replace(INFO, cards=(1,), plan=plan)

    [found] = measured_contexts(made_up(tmp_path, alone), alone)

    assert (found.site.distributed, found.size) == (False, (5610 - 300 - 4600) * MIB)


@pytest.mark.parametrize(
    "change",
    [
        {"rehearsal": True},
        {"cards": ()},
        {"cards": (0, 1)},
        {"versions": {}},
        {"plan": {}},
        {"plan": {"cards": 3, "driver": "580.95"}},
        {"plan": {"cards": ["RTX 3080"] * 3, "driver": ""}},
    ],
)
def test_a_run_that_says_too_little_calibrates_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    assert measured_contexts(made_up(tmp_path), msgspec.structs.replace(INFO, **change)) == ()


@pytest.mark.parametrize(
    "run",
    [
        {"result": None},
        {"result": msgspec.structs.replace(RESULT, seconds=3.0)},
        {"result": msgspec.structs.replace(RESULT, peak_vram_per_card=())},
        {"use": ()},
        {"use": (CardUse(0, 5000 * MIB, 5600 * MIB),)},
        {"phase": "running"},
    ],
)
def test_a_run_that_was_not_seen_to_its_end_calibrates_nothing(tmp_path: Path, run: dict[str, Any]) -> None:
    assert measured_contexts(made_up(tmp_path, **run), INFO) == ()


def test_broken_files_calibrate_nothing(tmp_path: Path) -> None:
    run = made_up(tmp_path)
    run.state.write_bytes(b'{"phase": "fini')

    assert measured_contexts(run, INFO) == ()


@pytest.mark.usefixtures("home")
def test_what_runs_showed_outlives_them_and_is_the_basis_of_the_next_plan() -> None:
    run = made_up(runs_home())
    spec = load_preset("trainer").spec
    seen = experience(spec).contexts

    remember()
    shutil.rmtree(run.path)

    assert seen == experience(spec).contexts == read_facts().contexts
    assert planned(*seen).cards[0].context_basis == "context calibrated on this machine (1 run)"


@pytest.mark.usefixtures("home")
def test_a_file_of_an_earlier_version_is_read() -> None:
    machine_file().parent.mkdir(parents=True)
    machine_file().write_text('{"speeds": []}')

    assert read_facts() == MachineFacts()


# --- predicted against measured -----------------------------------------------------------------------------


def test_an_ended_run_shows_what_was_predicted_beside_what_was_measured(tmp_path: Path) -> None:
    snapshot = History(made_up(tmp_path)).refresh()

    told = "4.15 GiB allocated (predicted 4.10, -1.2 %), 4.49 reserved (4.59), 0.68 beside it (1.18)"
    assert f"on card 0      {told}" in list(summary_lines(snapshot))
    found = snapshot_json(snapshot)["vram"]
    assert (found["allocated"], found["reserved"], found["beside"]) == (4250 * MIB, 4600 * MIB, 700 * MIB)
    assert found["predicted"] == PREDICTED[0]
    assert found["errors"]["reserved"] == pytest.approx(100 / 4600)


def test_a_failed_run_shows_the_peaks_of_its_last_step(tmp_path: Path) -> None:
    peak = vram_peak(History(made_up(tmp_path, result=None, phase="failed")).refresh())

    assert peak is not None
    assert (peak.allocated, peak.beside, peak.predicted is None) == (4250 * MIB, None, False)


@pytest.mark.parametrize(
    "change",
    [
        {"recoveries": (Recovery(1.0, 1, "out of memory", {}, {}),)},
        {"changes": (Change(1.0, 1, {}, {}),)},
        {"plan": {}},
        {"plan": {"vram": [{"index": 0}]}},
        {"plan": {"vram": []}},
    ],
)
def test_what_did_not_run_as_planned_is_compared_with_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    peak = vram_peak(History(made_up(tmp_path, msgspec.structs.replace(INFO, **change))).refresh())

    assert peak is not None
    assert (peak.predicted, peak.errors) == (None, {})
    assert vram_text(peak) == "4.15 GiB allocated, 4.49 reserved, 0.68 beside it"


@pytest.mark.parametrize("change", [{"rehearsal": True}, {"cards": ()}])
def test_a_run_on_the_cpu_shows_no_vram(tmp_path: Path, change: dict[str, Any]) -> None:
    snapshot = History(made_up(tmp_path, msgspec.structs.replace(INFO, **change))).refresh()

    assert vram_peak(snapshot) is None
    assert snapshot_json(snapshot)["vram"] is None
