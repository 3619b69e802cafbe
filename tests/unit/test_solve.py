"""The solver: what it offers fits, keeps the batch, is ranked by speed, and comes at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5panel.contract.shapes import builtin_shape
from t5panel.plan.flops import Lengths
from t5panel.plan.forecast import Experience, Rows
from t5panel.plan.machine import parse_machine
from t5panel.plan.planning import Plan, make_plan, used_cards
from t5panel.plan.solve import Job, Option, Suggestion, solve, suggest
from t5panel.presets import load_preset
from t5panel.render.options import options_json

VERSIONS = {"transformers": "5.23.0", "torch": "2.13.0"}
BOX = "3xRTX 3080 20GiB,12GiB"
OFFLOAD = {"deepspeed.zero_optimization.offload_optimizer": {"device": "cpu"}}
SECONDS = 0.05
presets = st.sampled_from(["manual", "trainer", "deepspeed"])
models = st.sampled_from(["t5-small", "t5-base", "t5-large", "mt5-small"])


def planned(preset: str, machine: str = BOX, **overrides: Any) -> Plan:  # noqa: ANN401
    """The plan of a preset, overrides with `__` for dots."""
    return planned_with(preset, machine, {key.replace("__", "."): value for key, value in overrides.items()})


def planned_with(preset: str, machine: str, overrides: Mapping[str, Any]) -> Plan:
    """The same with dotted keys."""
    given = load_preset(preset, overrides)
    shape = builtin_shape(given.spec.model.name_or_path)
    return make_plan(given, parse_machine(machine, cores=8), shape=shape, rehearsal=False, versions=VERSIONS)


def job_of(plan: Plan) -> Job:
    """What is to be solved for a plan."""
    assert plan.shape is not None
    cards = used_cards(plan.spec, plan.machine)
    return Job(plan.spec, plan.shape, cards, plan.cards, plan.machine.ram_limit, VERSIONS)


def rates(options: tuple[Option, ...]) -> list[float]:
    """Samples per second in the order of the offers."""
    return [option.rate for option in options if option.rate is not None]


@settings(max_examples=15, deadline=None)
@given(presets, models, st.integers(1, 4), st.integers(1, 12), st.sampled_from([5, 8, 11, 16, 24]), st.booleans())
def test_every_suggestion_keeps_the_batch_and_its_own_plan_fits(
    preset: str, model: str, batch: int, accumulation: int, vram: int, checkpointing: bool
) -> None:
    machine = f"3xRTX 3080 {vram}GiB,64GiB"
    chosen = {
        "model.name_or_path": f"builtin:{model}",
        "train.per_device_train_batch_size": batch,
        "train.gradient_accumulation_steps": accumulation,
        "train.gradient_checkpointing": checkpointing,
    }
    plan = planned_with(preset, machine, chosen)

    for suggestion in plan.suggestions:
        followed = planned_with(preset, machine, {**chosen, **suggestion.settings})

        assert followed.verdict == suggestion.verdict == "fits"
        assert followed.spec.effective_batch == plan.spec.effective_batch


@settings(max_examples=6, deadline=None)
@given(presets, models, st.integers(0, 1000), st.sampled_from([8, 12, 20, 40]))
def test_what_is_called_sure_fits_in_its_own_plan(preset: str, model: str, chosen: int, vram: int) -> None:
    machine = f"3xRTX 3080 {vram}GiB,64GiB"
    overrides = {"model.name_or_path": f"builtin:{model}"}
    sure = [option for option in solve(job_of(planned_with(preset, machine, overrides))) if option.sure]

    for option in sure[chosen % len(sure) :][:1] if sure else []:
        train = option.spec.train
        settings_of = {
            "train.per_device_train_batch_size": train.per_device_train_batch_size,
            "train.gradient_accumulation_steps": train.gradient_accumulation_steps,
            "train.gradient_checkpointing": train.gradient_checkpointing,
        }
        stage = {"deepspeed.zero_optimization.stage": option.spec.zero_stage} if preset == "deepspeed" else {}

        assert planned_with(preset, machine, {**overrides, **settings_of, **stage}).verdict == "fits"


@pytest.mark.parametrize("preset", ["manual", "trainer", "deepspeed"])
@pytest.mark.parametrize("target", [3, 96, 360, 384, 720])
def test_the_effective_batch_is_kept_exactly_and_the_fastest_comes_first(preset: str, target: int) -> None:
    options = solve(job_of(planned(preset)), target)

    assert {option.spec.effective_batch for option in options} == {target}
    assert all(slower <= faster for faster, slower in pairwise(rates(options)))
    assert len(rates(options)) == len(options) > 0


def test_a_plan_lists_what_fits_the_fastest_first_with_what_to_set() -> None:
    plan = planned("deepspeed")

    told = options_json(plan)
    best, settings_of = told["ranked"][0], {each: told["ranked"][each]["set"] for each in (0, 9)}

    assert told["fitting"] == len(plan.options) > len(told["ranked"]) == 10
    assert {each["effective_batch"] for each in told["ranked"]} == {told["effective_batch"]} == {384}
    assert best["samples_per_second"] == max(each["samples_per_second"] for each in told["ranked"])
    for changed in settings_of.values():
        followed = planned_with("deepspeed", BOX, changed)
        assert followed.verdict == "fits"
        assert followed.cards[0].high <= max(each["at_most"] for each in told["ranked"])


def test_a_batch_that_the_ranks_cannot_share_becomes_the_nearest_that_they_can() -> None:
    options = solve(job_of(planned("manual")), 385)

    assert {option.spec.effective_batch for option in options} == {384}


def test_every_stage_is_offered_to_deepspeed_and_none_to_others() -> None:
    stages = {option.spec.zero_stage for option in solve(job_of(planned("deepspeed")))}

    assert stages == {0, 1, 2, 3}
    assert {option.spec.zero_stage for option in solve(job_of(planned("trainer")))} == {0}
    assert {option.spec.train.gradient_checkpointing for option in solve(job_of(planned("trainer")))} == {True, False}


def test_the_largest_batch_offered_is_the_largest_that_surely_fits_or_may() -> None:
    job = job_of(planned("trainer", train__per_device_train_batch_size=1, train__gradient_accumulation_steps=512))

    offered = {
        option.spec.train.per_device_train_batch_size
        for option in solve(job)
        if option.spec.train.gradient_checkpointing
    }

    assert offered == {2**power for power in range(len(offered))}
    assert planned_with("trainer", BOX, {"train.per_device_train_batch_size": 2 * max(offered)}).verdict != "fits"


@pytest.mark.parametrize("target", [384, 3 * 720])
def test_all_options_come_in_a_twentieth_of_a_second(target: int) -> None:
    lengths = tuple(range(8, 513, 8))
    rows = Rows("a run", 100_000, Lengths(lengths, lengths))
    job = replace(job_of(planned("deepspeed", "3xRTX 3080 24GiB,64GiB")), known=Experience(rows=rows))
    solve(job, target)
    began = time.process_time()

    options = solve(job, target)

    assert time.process_time() - began < SECONDS
    assert len(options) > 20


def test_what_does_not_fit_gets_the_fastest_that_does_and_its_finding_says_how() -> None:
    plan = planned("trainer", "3xRTX 3080 7GiB,32GiB")
    (best,) = plan.suggestions
    finding = next(finding for finding in plan.errors if finding.code == "memory.vram")

    assert plan.verdict == "no"
    assert not best.is_faster
    assert best.reason.startswith("the fastest that fits")
    assert finding.hint == f"{best.title} fits: {best.arguments}"


def test_a_model_that_cannot_even_be_built_there_gets_no_smaller_batch() -> None:
    settings = {
        "model.name_or_path": "builtin:mt5-base",
        "deepspeed.zero_optimization.stage": 3,
        "deepspeed.zero_optimization.reduce_bucket_size": 50_000_000,
        "train.per_device_train_batch_size": 1,
        "data.max_source_length": 128,
        "data.max_target_length": 32,
    }

    plan = planned_with("deepspeed", "3xRTX 3080 4GiB,64GiB", settings)

    finding = next(finding for finding in plan.errors if finding.code == "memory.vram")
    assert plan.verdict == "no"
    assert finding.message == "card 0 needs 4.7 GiB to build the model, 4.0 GiB are free"
    assert finding.hint == "a smaller model or another card: no batch is small enough"


def test_what_fits_is_told_of_what_is_faster_by_a_twentieth_at_least() -> None:
    plan = planned("deepspeed")
    (best,) = plan.suggestions

    followed = planned_with("deepspeed", BOX, best.settings)

    assert best.is_faster
    assert plan.estimate.middle is not None
    assert followed.estimate.middle is not None
    assert followed.estimate.middle >= 1.05 * plan.estimate.middle


def test_without_a_known_speed_the_largest_batch_without_checkpointing_is_suggested_and_nothing_called_faster() -> None:
    fitting, too_large = planned("trainer", "3x20GiB,32GiB"), planned("trainer", "3x8GiB,32GiB")
    (best,) = too_large.suggestions

    assert fitting.suggestions == ()
    assert best.settings["train.gradient_checkpointing"] is False
    assert "as the speed is not known" in best.reason


def test_nothing_is_suggested_where_nothing_is_known_of_the_memory() -> None:
    plan = planned("trainer")

    unknown = replace(job_of(plan), memory=())

    assert solve(unknown) == ()
    assert suggest(unknown, ()) == ()


def test_offload_that_the_host_cannot_hold_is_never_offered_but_doing_without_is() -> None:
    plan = planned_with("deepspeed", BOX, OFFLOAD)
    (best,) = plan.suggestions

    assert "memory.ram" in {finding.code for finding in plan.errors}
    assert best.settings["deepspeed.zero_optimization.offload_optimizer"] == {"device": "none"}
    assert planned_with("deepspeed", BOX, {**OFFLOAD, **best.settings}).verdict == "fits"


def test_offload_is_offered_only_to_who_has_chosen_it() -> None:
    def offloads(option: Option) -> bool:
        zero = (option.spec.deepspeed or {})["zero_optimization"]
        return bool((zero.get("offload_optimizer") or {}).get("device", "none") != "none")

    roomy = "3xRTX 3080 20GiB,256GiB"

    assert {offloads(option) for option in solve(job_of(planned_with("deepspeed", roomy, OFFLOAD)))} == {True, False}
    assert {offloads(option) for option in solve(job_of(planned("deepspeed", roomy)))} == {False}


def test_a_host_too_small_for_the_ranks_has_no_suggestion() -> None:
    assert planned("trainer", "3xRTX 3080 20GiB,4GiB").suggestions == ()


def test_arguments_are_what_a_shell_passes_on() -> None:
    settings_of = {"train.gradient_checkpointing": False, "deepspeed.zero_optimization.offload_param": {"device": "x"}}
    suggestion = Suggestion(settings_of, "", "fits", "", is_faster=False)

    assert suggestion.arguments == (
        "--set train.gradient_checkpointing=false "
        """--set 'deepspeed.zero_optimization.offload_param={"device": "x"}'"""
    )


@pytest.mark.parametrize("target", [0, -3])
def test_a_batch_of_no_rows_is_refused(target: int) -> None:
    with pytest.raises(ValueError, match="an effective batch of"):
        solve(job_of(planned("manual")), target)
