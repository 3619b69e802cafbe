"""The plan: known verdicts, and laws that hold for every setting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5panel.contract.shapes import SHAPES, builtin_shape
from t5panel.contract.spec import RunSpec
from t5panel.errors import UsageError
from t5panel.plan.disk import checkpoint_bytes, checkpoints_kept
from t5panel.plan.host import host_memory
from t5panel.plan.machine import GIB, CardFacts, Machine, parse_machine
from t5panel.plan.planning import make_plan, resolve_device, wants_rehearsal
from t5panel.presets import Preset, load_preset

VERSIONS = {"transformers": "5.23.0", "torch": "2.13.0"}
BOX = parse_machine("3x20GiB,12GiB", cores=8)
NO_CARDS = Machine((), ram_limit=12 * GIB, cores=8)
shapes = st.sampled_from(sorted(SHAPES))


def deepspeed(model: str, *, stage: int, ranks: int, **train: Any) -> RunSpec:  # noqa: ANN401
    """A DeepSpeed run of a built-in model."""
    return RunSpec.model_validate(
        {
            "method": "deepspeed",
            "launcher": "deepspeed",
            "num_gpus": ranks,
            "device": "cuda",
            "model": {"name_or_path": f"builtin:{model}"},
            "train": train,
            "deepspeed": {"zero_optimization": {"stage": stage}},
        }
    )


def plan_of(preset: Preset, machine: Machine) -> Any:  # noqa: ANN401
    """The plan of a built-in model."""
    shape = builtin_shape(preset.spec.model.name_or_path)
    return make_plan(preset, machine, shape=shape, rehearsal=False, versions=VERSIONS)


@given(shapes, st.integers(1, 8), st.sampled_from(["cpu", "cuda"]))
def test_more_ranks_never_need_less_host_memory(model: str, ranks: int, device: str) -> None:
    fewer, more = (
        host_memory(spec.model_copy(update={"device": device}), builtin_shape(spec.model.name_or_path), 12 * GIB).total
        for spec in (deepspeed(model, stage=0, ranks=count) for count in (ranks, ranks + 1))
    )

    assert fewer <= more


@pytest.mark.parametrize("preset", ["manual", "trainer", "deepspeed"])
def test_t5_base_fits_the_reference_box_with_every_shipped_preset(preset: str) -> None:
    plan = plan_of(load_preset(preset), BOX)

    assert plan.verdict == "fits"
    assert plan.errors == ()
    assert [card.capacity for card in plan.cards] == [20 * GIB] * 3


@pytest.mark.parametrize("preset", ["manual", "trainer"])
def test_t5_3b_without_sharding_does_not_fit_the_reference_box(preset: str) -> None:
    plan = plan_of(load_preset(preset, {"model.name_or_path": "builtin:t5-3b"}), BOX)

    assert plan.verdict == "no"
    assert "memory.vram" in {finding.code for finding in plan.errors}


def test_a_card_that_holds_the_blocks_but_not_every_segment_is_tight() -> None:
    needed = plan_of(load_preset("manual"), BOX).cards[0]
    between = (needed.low + needed.high) // 2
    box = Machine(tuple(CardFacts(index, "card", between) for index in range(3)), 64 * GIB, 8)

    plan = plan_of(load_preset("manual"), box)

    assert plan.verdict == "tight"
    assert plan.errors == ()
    assert "it runs if the allocator finds room for every block" in plan.findings[0].message


def test_a_version_without_a_table_has_a_warning_and_no_figure() -> None:
    spec = load_preset("manual")
    shape = builtin_shape(spec.spec.model.name_or_path)

    plan = make_plan(spec, BOX, shape=shape, rehearsal=False, versions={"transformers": "9.1.0", "torch": "2.13.0"})

    (warning,) = (found for found in plan.findings if found.severity == "warning")
    assert plan.cards == ()
    assert warning.code == "memory.unknown"
    assert warning.message.startswith("transformers 9.1 has no memory table")


@pytest.mark.parametrize(
    ("setting", "value"), [("train.bf16", False), ("deepspeed", {"data_types": {"grad_accum_dtype": "fp32"}})]
)
def test_settings_of_deepspeed_that_nobody_measured_have_a_warning_and_no_figure(setting: str, value: Any) -> None:  # noqa: ANN401
    plan = plan_of(load_preset("deepspeed", {setting: value}), BOX)

    (warning,) = (found for found in plan.findings if found.severity == "warning")
    assert (plan.cards, plan.suggestions, warning.code) == ((), (), "memory.unknown")


def test_another_torch_than_the_tables_is_told_with_the_figure() -> None:
    preset = load_preset("manual")
    shape = builtin_shape(preset.spec.model.name_or_path)
    versions = {**VERSIONS, "torch": "2.99.1+cu130"}

    plan = make_plan(preset, BOX, shape=shape, rehearsal=False, versions=versions)

    (finding,) = plan.findings
    assert len(plan.cards) == 3
    assert (finding.severity, finding.code) == ("info", "memory.torch")
    assert "the ranks have torch 2.99" in finding.message
    assert plan_of(preset, BOX).findings == ()


def test_a_card_smaller_than_the_context_holds_nothing() -> None:
    tiny = Machine((CardFacts(0, "card", GIB // 2),), 64 * GIB, 8)

    assert plan_of(load_preset("manual", {"num_gpus": 1}), tiny).verdict == "no"


def test_host_memory_alone_can_be_too_small() -> None:
    plan = plan_of(load_preset("manual"), parse_machine("3x20GiB,4GiB", cores=8))

    assert [finding.code for finding in plan.errors] == ["memory.ram"]


@pytest.mark.parametrize(("model", "measured"), [("t5-base", 4.0), ("t5-large", 8.4)])
def test_an_offloaded_optimizer_is_counted_on_the_host_and_does_not_fit_twelve_gib(model: str, measured: float) -> None:
    settings = {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    preset = load_preset("deepspeed", {"model.name_or_path": f"builtin:{model}"})
    spec = preset.spec.model_copy(update={"deepspeed": {"zero_optimization": settings}, "device": "cuda"})

    host = host_memory(spec, SHAPES[model], 12 * GIB)

    assert host.verdict == "no"
    assert measured <= host.per_rank / GIB <= 1.6 * measured


def test_memory_that_others_hold_on_a_card_is_not_ours() -> None:
    taken = Machine((CardFacts(0, "card", 20 * GIB, used=19 * GIB),), 64 * GIB, 8)

    plan = plan_of(load_preset("manual", {"num_gpus": 1}), taken)

    assert plan.verdict == "no"
    assert plan.cards[0].capacity == 1 * GIB


def test_only_the_chosen_cards_are_planned_for() -> None:
    plan = plan_of(load_preset("manual", {"gpus": [0, 2], "num_gpus": 2}), BOX)

    assert [card.index for card in plan.cards] == [0, 2]


def test_a_lost_first_card_is_not_among_the_first_three() -> None:
    left = Machine(tuple(CardFacts(index, "card", 20 * GIB) for index in (1, 2, 3)), 64 * GIB, 8)

    plan = plan_of(load_preset("manual"), left)

    assert plan.spec.gpus == (1, 2, 3)
    assert [card.index for card in plan.cards] == [1, 2, 3]
    assert plan.errors == ()


def test_cards_that_do_not_exist_are_named() -> None:
    spec = load_preset("manual", {"gpus": [0, 5], "num_gpus": 2}).spec

    _, (finding,) = resolve_device(spec, BOX)

    assert (finding.code, finding.message) == ("gpu.absent", "cards [5] do not exist; found [0, 1, 2]")


def test_fewer_cards_than_asked_for_is_an_error_with_the_number_that_works() -> None:
    _, (finding,) = resolve_device(load_preset("manual").spec, parse_machine("2x20GiB,12GiB", cores=8))

    assert (finding.code, finding.hint) == ("gpu.too-few", "--set num_gpus=2")


def test_shipped_defaults_rehearse_without_a_card_and_a_users_own_do_not() -> None:
    shipped, own = load_preset("manual").spec, load_preset("manual", {"data.train": "mine.csv"}).spec

    assert wants_rehearsal(shipped, NO_CARDS)
    assert not wants_rehearsal(shipped, BOX)
    assert not wants_rehearsal(own, NO_CARDS)
    assert [finding.code for finding in resolve_device(own, NO_CARDS)[1]] == ["gpu.none"]
    assert resolve_device(own.model_copy(update={"device": "cpu"}), NO_CARDS)[1] == ()


@pytest.mark.parametrize("text", ["", "3x20GB,12GiB", "3x1..2GiB,12GiB", "x20GiB,12GiB", "3x20GiB"])
def test_a_machine_in_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_machine(text, cores=8)

    assert caught.value.faults[0].hint.startswith("for example 3x20GiB,12GiB")


def test_checkpoints_are_counted_with_optimizer_states_and_the_one_being_written() -> None:
    spec = deepspeed("t5-base", stage=2, ranks=3, save_steps=10, save_total_limit=2)

    assert checkpoint_bytes(spec, builtin_shape("builtin:t5-base")) == 14 * 222_903_552
    assert checkpoints_kept(spec) == 3


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_parameters_are_counted_as_transformers_builds_them(name: str) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from t5panel.trainers.model import config_of, parameter_count

    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(config_of(SHAPES[name]))

    assert SHAPES[name].parameters == parameter_count(model)
