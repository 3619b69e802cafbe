"""Runs beside one another: what their files say they measured, and how it is told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from t5panel.contract.layout import RunDir
from t5panel.contract.records import (
    Card,
    CardUse,
    CommandInfo,
    Evaluation,
    Event,
    Phase,
    Prepared,
    ProcessId,
    RankSample,
    Record,
    Recovery,
    Result,
    RunInfo,
    Sample,
    Start,
    State,
    Status,
    Step,
    encode_line,
)
from t5panel.contract.shapes import SHAPES
from t5panel.errors import UsageError
from t5panel.monitor import kept_tail, tail
from t5panel.monitor.bookmark import PROOF
from t5panel.monitor.compare import Comparison, Reading, compare, compare_runs, differing_settings, read_run
from t5panel.monitor.history import History
from t5panel.render.compare import comparison_json, comparison_lines, markdown_lines

GIB = 2**30
SPEC: dict[str, Any] = {
    "method": "deepspeed",
    "launcher": "deepspeed",
    "num_gpus": 2,
    "device": "cuda",
    "model": {"name_or_path": "builtin:t5-base", "attn_implementation": "sdpa"},
    "train": {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4,
        "bf16": True,
        "gradient_checkpointing": True,
        "optim": "adamw_torch_fused",
    },
    "deepspeed": {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
}
RTX = "NVIDIA GeForce RTX 3080"


def start(step: int = 0, time: float = 0.0) -> Start:
    """The ranks begin: 64 rows a step, of 100 steps."""
    return Start(time, step, 100, 2, 9, 500, 50, 64)


def step(number: int, loss: float | None = 2.0, *, seconds: float = 0.5, time: float | None = None) -> Step:
    """A logged step; 30 target tokens a row."""
    return Step(
        time=float(number) if time is None else time,
        step=number,
        epoch=0.0,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=None,
        samples=64 * number,
        target_tokens=64 * 30,
        step_seconds=seconds,
        data_wait_seconds=seconds / 10,
        vram_allocated=5 * GIB,
        vram_reserved=6 * GIB,
    )


def sample(time: float, *, used: float = 8.0, power: float | None = 300.0, ranks: int = 2, rss: int = GIB) -> Sample:
    """Two cards and the ranks at one moment."""
    cards = tuple(Card(index, int(used * GIB), 20 * GIB, 97, power, 70) for index in (0, 1))
    return Sample(time, cards, tuple(RankSample(rank, rank, rss, None) for rank in range(ranks)), 4 * GIB, 12 * GIB)


def made(
    path: Path,
    *,
    metrics: Iterable[Record] = (),
    samples: Iterable[Record] = (),
    events: Iterable[Record] = (),
    phase: Phase = "finished",
    message: str = "finished at step 100",
    vram: tuple[CardUse, ...] = (),
    **info: Any,  # noqa: ANN401
) -> RunDir:
    """A run directory that holds these records."""
    run = RunDir(path)
    path.mkdir()
    plan = {"cards": [RTX, RTX]}
    command = CommandInfo((), {})
    known = RunInfo(path.name, "deepspeed", 0.0, SPEC, command, command, (0, 1), "python", {}, plan)
    run.run_json.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, **info)))
    nobody = ProcessId(1, 1)
    state = State(phase, run.run_id, "", 0.0, nobody, None, (), message=message, vram=vram)
    run.state.write_bytes(msgspec.json.encode(state))
    for file, records in ((run.metrics, metrics), (run.samples, samples), (run.events, events)):
        file.write_bytes(b"".join(map(encode_line, records)))
    return run


def steady(path: Path, **more: Any) -> RunDir:  # noqa: ANN401
    """Twenty steps of half a second, the first ones slow, at 300 W a card."""
    slow = [step(number, seconds=9.0) for number in (1, 2, 3)]
    metrics = (start(), Status(0.5, 0, "running"), *slow, *map(step, range(4, 21)))
    return made(path, **{"metrics": metrics, "samples": map(sample, map(float, range(1, 21))), **more})


def compared(*runs: RunDir) -> Comparison:
    """Those runs, at 0.25 a kWh."""
    return compare_runs(runs, samples=10_000_000, price=0.25)


def read(run: RunDir) -> Reading:
    return read_run(run, samples=1_280_000, price=0.25)


def test_the_pace_is_that_of_warm_steps(tmp_path: Path) -> None:
    pace = read(steady(tmp_path / "a")).figures.pace

    assert pace is not None
    assert pace.samples_per_second == pytest.approx(128)
    assert pace.target_tokens_per_second == pytest.approx(128 * 30)
    assert pace.data_wait_share == pytest.approx(0.1)
    assert pace.steps == 17


def test_a_run_that_logs_seldom_has_a_pace_from_its_second_record_on(tmp_path: Path) -> None:
    metrics = (start(), step(50, seconds=0.9), step(100, seconds=0.5))

    pace = read(made(tmp_path / "a", metrics=metrics)).figures.pace

    assert pace is not None
    assert (pace.step_seconds, pace.steps) == (0.5, 50)


def test_mfu_and_communication_are_told_where_lengths_and_every_record_say_them(tmp_path: Path) -> None:
    waits = [msgspec.structs.replace(step(number), communication_seconds=0.1) for number in range(4, 21)]
    plan = {"cards": [RTX, RTX], "shape": asdict(SHAPES["t5-base"])}
    run = steady(tmp_path / "a", metrics=(start(), step(3), *waits), plan=plan)
    lengths = Prepared("", None, 500, 0, 0, 0, source_tokens=(512,), target_tokens=(512,))
    run.prepared.write_bytes(msgspec.json.encode(lengths))

    known, unknown = read(run).figures, read(steady(tmp_path / "b")).figures

    assert known.pace is not None
    assert known.pace.communication_share == pytest.approx(0.2)
    assert known.mfu == pytest.approx(128 * 757e9 / (2 * 59.5e12), rel=0.01)
    assert unknown.pace is not None
    assert (unknown.pace.communication_share, unknown.mfu) == (None, None)


def test_time_energy_and_money_follow_from_pace_and_power(tmp_path: Path) -> None:
    projection = read(steady(tmp_path / "a")).figures.projection

    assert projection.seconds == pytest.approx(10_000)
    assert projection.kwh == pytest.approx(10_000 * 600 / 3.6e6)
    assert projection.cost == pytest.approx(0.25 * 10_000 * 600 / 3.6e6)


def test_a_card_without_a_power_reading_leaves_the_energy_unknown(tmp_path: Path) -> None:
    blind = sample(5.0)
    cards = (blind.cards[0], msgspec.structs.replace(blind.cards[1], power=None))
    run = steady(tmp_path / "a", samples=[msgspec.structs.replace(blind, cards=cards)])

    projection = read(run).figures.projection

    assert projection.seconds is not None
    assert (projection.kwh, projection.cost) == (None, None)


def test_power_counts_only_while_steps_are_made(tmp_path: Path) -> None:
    metrics = (
        start(),
        Status(1.0, 0, "running"),
        step(10, time=10.0),
        Status(10.0, 10, "evaluating"),
        Status(20.0, 10, "running"),
        step(20, time=30.0),
    )
    samples = (sample(0.5, power=20), sample(5.0, power=300), sample(15.0, power=90), sample(25.0, power=320))

    memory = read(made(tmp_path / "a", metrics=metrics, samples=samples)).figures.memory

    assert [card.power for card in memory.cards] == [310, 310]


def test_peaks_are_the_highest_readings_while_ranks_lived(tmp_path: Path) -> None:
    samples = (sample(1.0, used=19, ranks=0), sample(2.0, used=7, rss=3 * GIB), sample(3.0, used=9, rss=2 * GIB))
    told = (CardUse(0, GIB, 10 * GIB), CardUse(1, GIB, 8 * GIB))
    run = steady(tmp_path / "a", samples=samples, vram=told)
    result = Result("finished", 100, 5.0, 2.0, 128.0, (4 * GIB, GIB), (6 * GIB,) * 2, None)
    run.result.write_bytes(msgspec.json.encode(result))

    memory = read(run).figures.memory

    assert [(card.used, card.before) for card in memory.cards] == [(10 * GIB, GIB), (9 * GIB, GIB)]
    assert memory.vram_total == 18 * GIB
    assert (memory.allocated, memory.reserved) == (5 * GIB, 6 * GIB)
    assert memory.rss_per_rank == (4 * GIB, 3 * GIB)
    assert memory.rss_total == 6 * GIB
    assert (memory.host_used, memory.host_limit) == (4 * GIB, 12 * GIB)


def test_steps_that_were_never_resumed_from_leave_the_curve(tmp_path: Path) -> None:
    evaluations = (Evaluation(0, 2, 1.9, None, None, (), 1.0), Evaluation(0, 3, 1.8, None, None, (), 1.0))
    metrics = (start(), *map(step, (1, 2, 3)), *evaluations, start(2), step(3, 1.5), step(4, None))

    reading = read(made(tmp_path / "a", metrics=metrics))

    assert list(reading.curve.steps) == [1, 2, 3, 4]
    assert list(reading.curve.seconds) == [0.5, 1.0, 1.5, 2.0]
    assert list(reading.curve.lows)[:3] == list(reading.curve.highs)[:3] == [2.0, 2.0, 1.5]
    assert reading.figures.learning.eval_loss == 1.9
    assert (reading.figures.learning.loss_first, reading.figures.learning.loss_last) == (2.0, None)
    assert (reading.figures.stability.not_finite, reading.figures.stability.resumes) == (1, 1)


def test_figures_are_those_since_the_settings_last_changed(tmp_path: Path) -> None:
    metrics = (
        start(),
        Status(0.0, 0, "running"),
        *(step(number, seconds=4.0) for number in range(1, 9)),
        start(8, time=60.0),
        Status(60.0, 8, "running"),
        *(step(number, time=60.0 + number) for number in range(9, 15)),
    )
    samples = (sample(5.0, used=19, power=100), sample(70.0, used=10, power=300))
    recovery = Recovery(50.0, 8, "CUDA out of memory", {}, {})

    figures = read(made(tmp_path / "a", metrics=metrics, samples=samples, recoveries=(recovery,))).figures

    assert figures.pace is not None
    assert figures.pace.step_seconds == 0.5
    assert [(card.used, card.power) for card in figures.memory.cards] == [(10 * GIB, 300)] * 2
    assert (figures.stability.recoveries, figures.stability.resumes, figures.settings_changed) == (1, 0, 1)


def spoil(path: Path) -> None:
    """Make all but both ends of a file unreadable, unseen."""
    content, stat = path.read_bytes(), path.stat()
    path.write_bytes(content[:PROOF] + b"#" * (len(content) - 2 * PROOF) + content[-PROOF:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_run_that_was_opened_is_compared_without_being_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_tail, "WORTH_KEEPING", 1)
    metrics = (start(), Status(0.5, 0, "running"), *map(step, range(1, 200)))
    run = steady(tmp_path / "a", metrics=metrics, samples=map(sample, map(float, range(1, 200))))
    known = read(run)
    shutil.rmtree(run.cache)

    History(run).refresh()
    for file in (run.metrics, run.samples):
        spoil(file)

    assert read(run) == known
    assert known.figures.memory.cards[0].power == 300


def test_who_waits_for_a_long_run_hears_how_much_of_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "BLOCK", 4000)
    told: list[float] = []

    read_run(steady(tmp_path / "a", metrics=(start(), *map(step, range(1, 100)))), tell=told.append)

    metrics = told[: told.index(1.0) + 1]
    assert metrics == sorted(metrics)
    assert 0 < metrics[0] < 0.5
    assert told[-1] == 1


@pytest.mark.parametrize("looks", [6, 12], ids=["until the change", "beyond it"])
def test_settings_that_change_under_a_bookmark_void_what_was_summed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    monkeypatch.setattr(kept_tail, "WORTH_KEEPING", 1)
    before = [start(), Status(0.0, 0, "running"), *(step(number, seconds=4.0) for number in range(1, 5))]
    after = [start(4, time=60.0), Status(60.0, 4, "running"), *(step(n, time=60.0 + n) for n in range(5, 11))]
    samples = [sample(3.0, used=19, power=100), sample(66.0, used=10, power=300)]
    records = [*before, *after]
    run = made(tmp_path / "a", metrics=records[:looks], samples=samples[: looks // 6])
    read(run)

    with run.metrics.open("ab") as file:
        file.writelines(map(encode_line, records[looks:]))
    with run.samples.open("ab") as file:
        file.writelines(map(encode_line, samples[looks // 6 :]))
    info = msgspec.json.decode(run.run_json.read_bytes(), type=RunInfo)
    changed = msgspec.structs.replace(info, recoveries=(Recovery(50.0, 4, "CUDA out of memory", {}, {}),))
    run.run_json.write_bytes(msgspec.json.encode(changed))
    known = read(run)
    shutil.rmtree(run.cache)

    assert known == read(run)
    assert known.figures.pace is not None
    assert (known.figures.pace.step_seconds, known.figures.memory.vram_total) == (0.5, 20 * GIB)
    assert known.figures.memory.cards[0].power == 300


def test_waits_by_another_clock_than_the_steps_are_never_more_than_all_of_it(tmp_path: Path) -> None:
    waits = [msgspec.structs.replace(step(number), communication_seconds=0.6) for number in range(4, 21)]

    pace = read(steady(tmp_path / "a", metrics=(start(), step(3), *waits))).figures.pace

    assert pace is not None
    assert pace.data_wait_share == pytest.approx(0.1)
    assert pace.communication_share == pytest.approx(0.9)


def test_an_alert_that_gets_worse_is_one(tmp_path: Path) -> None:
    told = [("stall", "error"), ("stall", "info"), ("stall", "error")]
    worse = [("memory-pressure", "warning"), ("memory-pressure", "error"), ("spawned", "info")]
    events = [Event(0.0, name, "", severity) for name, severity in (*told, *worse)]  # type: ignore[arg-type]

    assert read(steady(tmp_path / "a", events=events)).figures.stability.alerts == {"stall": 2, "memory-pressure": 1}


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    run = steady(tmp_path / "a")
    with run.samples.open("ab") as file:
        file.write(b'{"kind":"sam\n' + encode_line(sample(20.5, used=11)))

    assert read(run).figures.memory.vram_total == 22 * GIB


def test_a_run_that_never_made_a_step_has_no_figures(tmp_path: Path) -> None:
    run = made(tmp_path / "a", phase="failed", message="the data could not be read")
    for file in (run.metrics, run.samples, run.events):
        file.unlink()

    figures = read(run).figures

    assert (figures.pace, figures.learning.step, figures.projection.seconds) == (None, None, None)
    assert figures.memory.cards == ()
    assert "failed: the data could not be read" in "\n".join(comparison_lines(compared(run), width=100))


def test_only_settings_that_differ_are_told_and_what_is_not_set_is_none() -> None:
    zero = {"zero_optimization": {"stage": 2}}
    specs = (
        {"method": "deepspeed", "num_gpus": 3, "deepspeed": zero, "train": {"max_steps": None, "seed": 1}},
        {"method": "manual", "num_gpus": 3, "deepspeed": None, "train": {"seed": 1}},
    )

    found = [(each.key, each.values) for each in differing_settings(specs)]

    assert found == [("method", ("deepspeed", "manual")), ("deepspeed.zero_optimization.stage", (2, None))]


def test_the_table_names_what_was_measured(tmp_path: Path) -> None:
    lines = list(comparison_lines(compared(steady(tmp_path / "one"), steady(tmp_path / "two")), width=120))
    table = {line[:16].strip(): line[16:] for line in lines}

    assert lines[0].split() == ["one", "two"]
    assert table["on"].split("  ")[0].strip() == "2 × RTX 3080"
    assert "8 × 4 × 2 = 64" in table["batch"]
    assert "bf16, gradient checkpointing, ZeRO-2, optimizer" in table["techniques"]
    assert "128.0" in table["samples/s"]
    assert "8.0 8.0 GiB" in table["VRAM per card"]
    assert "21 h 42 min" in table["time"]
    assert "13 kWh" in table["energy"]
    assert "3.3" in table["cost"]
    assert "no trouble" in table["trouble"]
    assert not any("CPU" in line for line in lines)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_run_is_lost(tmp_path: Path, width: int) -> None:
    names = [f"2026110{number}-120000-deepspeed" for number in range(6)]
    runs = [steady(tmp_path / name) for name in names]

    lines = list(comparison_lines(compared(*runs), width=width))

    assert max(map(len, lines)) <= width
    assert all(name[:8] in "\n".join(lines) for name in names)
    assert sum(line.split().count("128.0") for line in lines if line.startswith("samples/s")) == len(names)


def test_a_rehearsal_says_that_it_is_no_gpu(tmp_path: Path) -> None:
    spec = {**SPEC, "device": "cpu"}
    run = steady(tmp_path / "a", spec=spec, cards=(), rehearsal=True, samples=())

    text = "\n".join(comparison_lines(compared(run, steady(tmp_path / "b")), width=120))

    assert "2 CPU ranks, REHEARSAL" in text
    assert "on the CPU, says nothing about a GPU: a\n" in text


def test_json_is_whole_and_null_where_nothing_is_known(tmp_path: Path) -> None:
    found = json.loads(json.dumps(comparison_json(compared(steady(tmp_path / "a", samples=())))))

    assert found["samples"] == 10_000_000
    assert found["runs"][0]["pace"]["samples_per_second"] == pytest.approx(128)
    assert found["runs"][0]["projection"]["kwh"] is None
    assert found["runs"][0]["memory"]["vram_total"] is None
    assert found["runs"][0]["setup"]["offloaded"] == ["optimizer"]


def test_markdown_has_as_many_cells_in_every_row_of_a_table(tmp_path: Path) -> None:
    run = steady(tmp_path / "a", phase="failed", message="it failed | badly")

    lines = list(markdown_lines(compared(run, steady(tmp_path / "b"))))
    rows = [line.replace(r"\|", "") for line in lines if line.startswith("|")]

    assert {row.count("|") for row in rows} == {4}
    assert r"| ended | failed: it failed \| badly | finished at step 100 |" in lines


def test_every_run_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = [made(tmp_path / name) for name in ("a", "b")]
    for run in broken:
        run.run_json.write_text("{")

    with pytest.raises(UsageError) as caught:
        compared(*broken)

    assert [fault.where for fault in caught.value.faults] == [str(run.run_json) for run in broken]


def test_equal_runs_differ_in_no_setting(tmp_path: Path) -> None:
    readings = [read(steady(tmp_path / name)) for name in ("a", "b")]

    assert compare(readings).settings == ()
