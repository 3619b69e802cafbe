"""How a rank ended is known before its launcher has collected it."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from t5panel.contract.process import start_time_of
from t5panel.contract.records import RankId
from t5panel.launch.exits import Exits
from t5panel.monitor.clues import Exit
from tests.house.household import eventually


@pytest.fixture
def ranks() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three processes that return what they are told; nobody else waits for them."""
    command = (sys.executable, "-c", "import os; os._exit(int(input()))")
    started = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def identities(processes: list[subprocess.Popen[bytes]]) -> list[RankId]:
    return [RankId(rank, one.pid, start_time_of(one.pid) or 0) for rank, one in enumerate(processes)]


def return_code(process: subprocess.Popen[bytes], code: int) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{code}\n".encode())
    process.stdin.flush()


def note_next(exits: Exits) -> None:
    select.select(exits.descriptors, [], [], 10)
    exits.note()


def test_every_end_is_seen_once_and_in_its_order(ranks: list[subprocess.Popen[bytes]]) -> None:
    exits = Exits(3)
    exits.watch(identities(ranks))
    exits.watch(identities(ranks))

    return_code(ranks[2], 3)
    note_next(exits)
    ranks[0].send_signal(signal.SIGKILL)
    note_next(exits)
    return_code(ranks[1], 0)
    note_next(exits)

    assert exits.seen == (Exit("rank 2", 3), Exit("rank 0", -9), Exit("rank 1", 0))
    assert exits.descriptors == ()


def test_of_ends_seen_at_once_the_killed_rank_is_first_and_what_the_launcher_ended_last(
    ranks: list[subprocess.Popen[bytes]],
) -> None:
    exits = Exits(3)
    exits.watch(identities(ranks))

    ranks[0].terminate()
    return_code(ranks[1], 1)
    ranks[2].kill()
    eventually(lambda: len(select.select(exits.descriptors, [], [], 0)[0]) == 3)
    note_next(exits)

    assert exits.seen == (Exit("rank 2", -9), Exit("rank 1", 1), Exit("rank 0", -15))


def test_after_an_end_that_was_collected_unseen_no_later_one_passes_for_the_first(
    ranks: list[subprocess.Popen[bytes]],
) -> None:
    exits = Exits(3)
    exits.watch(identities(ranks))

    return_code(ranks[1], 3)
    ranks[1].wait(10)
    note_next(exits)

    assert len(set(exits.descriptors)) == 2

    ranks[2].terminate()
    note_next(exits)

    assert exits.seen == ()
    exits.close()
    assert exits.descriptors == ()


def test_while_a_rank_has_yet_to_come_no_end_passes_for_the_first(ranks: list[subprocess.Popen[bytes]]) -> None:
    exits = Exits(3)
    exits.watch(identities(ranks)[:2])

    ranks[0].terminate()
    note_next(exits)
    exits.watch(identities(ranks))
    ranks[1].kill()
    note_next(exits)

    assert exits.seen == ()
    exits.close()


def test_a_rank_that_is_gone_before_it_is_watched_is_no_error() -> None:
    exits = Exits(3)

    exits.watch([RankId(0, 2**22 + 1, 1)])

    assert (exits.descriptors, exits.seen) == ((), ())
