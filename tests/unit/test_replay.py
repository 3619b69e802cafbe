"""The replay against a card: the same blocks in the same order, and the allocator's and the driver's rules."""

from __future__ import annotations

import lzma
from pathlib import Path

import msgspec
import pytest

from t5panel.plan.allocator import MIB, Addresses, Allocator, Block
from t5panel.plan.records import MeasuredStep, step_of
from t5panel.plan.replay import held_by

EVENTS = Path(__file__).parents[1] / "data" / "memory" / "events"
"""A record, and every block of 1 MiB or more that its first steps took (+) and gave back (-) on an H200, in bytes.

Of three steps, or to the end of the first pass: what embeddings take for a moment at the end of a pass is not played.
"""


@pytest.mark.parametrize("name", ["adafactor-unaligned", "ddp-eager-bf16", "sdpa-bf16"])
def test_every_large_block_comes_and_goes_in_the_order_of_a_card(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record, *events = lzma.decompress((EVENTS / f"{name}.xz").read_bytes()).decode().splitlines()
    step = step_of(msgspec.json.decode(record, type=MeasuredStep))
    played: list[str] = []
    asked: dict[Block, int] = {}
    malloc, free = Allocator.malloc, Allocator.free

    def take(self: Allocator, request: int, stream: int = 0) -> Block:
        block = malloc(self, request, stream)
        asked[block] = request
        if request >= MIB:
            played.append(f"+{request}")
        return block

    def give(self: Allocator, block: Block) -> None:
        if asked[block] >= MIB:
            played.append(f"-{asked[block]}")
        free(self, block)

    monkeypatch.setattr(Allocator, "malloc", take)
    monkeypatch.setattr(Allocator, "free", give)
    held_by.__wrapped__(step)

    differs = next((place for place, pair in enumerate(zip(played, events, strict=False)) if pair[0] != pair[1]), None)
    assert len(events) > 4000
    assert len(played) >= len(events)
    assert differs is None, f"event {differs}: played {played[differs]}, on the card {events[differs]}"


def test_of_free_blocks_of_one_size_that_of_the_lowest_address_is_taken() -> None:
    allocator, size = Allocator(), 12 * MIB
    first, second = (allocator.malloc(size) for _ in range(2))
    allocator.free(second)
    allocator.free(first)

    assert allocator.malloc(size) is first


def test_the_driver_fills_its_first_piece_upwards_and_adds_others_below() -> None:
    addresses = Addresses()

    assert [addresses.take(size) for size in (2, 400, 20, 2, 20, 20, 48, 12)] == [
        414,
        0,
        490,
        -6,
        -544,
        -576,
        -640,
        -592,
    ]


def test_a_place_given_back_is_taken_again() -> None:
    addresses = Addresses()
    address = addresses.take(600)
    addresses.give(address, 600)

    assert addresses.take(600) == address


def test_an_expandable_segment_grows_by_whole_pages_and_its_end_is_taken_last() -> None:
    allocator = Allocator(expandable=True)
    small = allocator.malloc(30 * MIB)
    allocator.malloc(25 * MIB)  # two pages for the first, one more for this: 5 MiB are left at the end
    allocator.free(small)
    end_is_larger = allocator.malloc(2 * MIB)

    assert allocator.reserved == 60 * MIB
    assert end_is_larger is small  # the first 2 of the 30 MiB
    allocator.malloc(40 * MIB)
    assert allocator.reserved == 100 * MIB
