"""What runs on this machine showed of the memory beside torch's allocator, and what a plan makes of it."""

from __future__ import annotations

import msgspec
import pytest

from t5panel.contract.shapes import builtin_shape
from t5panel.plan.allocator import MIB
from t5panel.plan.context import COMMUNICATOR, CONTEXT, H100_BASIS, Context, MeasuredContext, Site, context_of
from t5panel.plan.forecast import Experience
from t5panel.plan.machine import GIB, CardFacts, Machine
from t5panel.plan.planning import Plan, make_plan
from t5panel.presets import load_preset

VERSIONS = {"transformers": "5.23.0", "torch": "2.13.0+cu130"}
CARDS = tuple(CardFacts(index, "RTX 3080", 20 * GIB, driver="580.95") for index in range(3))
SITE = Site("RTX 3080", "580.95", "2.13", distributed=True)


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

    assert {(card.context, card.context_basis) for card in before} == {(CONTEXT + COMMUNICATOR, H100_BASIS)}
    assert {(card.context, card.context_basis) for card in after} == {
        (720 * MIB, "context calibrated on this machine (3 runs)")
    }
    assert after[0].need == before[0].need
    assert after[0].high == after[0].need.high + 720 * MIB


@pytest.mark.parametrize(
    "change", [{"card": "RTX 3090"}, {"driver": "550.54"}, {"torch": "2.11"}, {"distributed": False}]
)
def test_what_was_measured_elsewhere_is_no_basis(change: dict[str, str]) -> None:
    [basis] = {
        card.context_basis for card in planned(measured(700, site=msgspec.structs.replace(SITE, **change))).cards
    }

    assert basis == H100_BASIS


def test_only_the_newest_runs_count() -> None:
    spec = load_preset("trainer").spec
    older = tuple(measured(9000, at=at) for at in range(6))
    newer = tuple(measured(700, at=at) for at in range(10, 15))

    assert context_of(spec, CARDS[0], VERSIONS, newer + older) == Context(
        700 * MIB, "context calibrated on this machine (5 runs)"
    )
    assert context_of(spec, CARDS[0], VERSIONS, newer[:1]).basis == "context calibrated on this machine (1 run)"


def test_a_described_card_is_not_one_of_this_machine() -> None:
    described = tuple(CardFacts(index, "RTX 3080", 20 * GIB) for index in range(3))

    assert {card.context_basis for card in planned(measured(700), cards=described).cards} == {H100_BASIS}
