"""How all tests are run: the longest first, each worker on its own core."""

from __future__ import annotations

import os
import signal

import pytest

LONGEST = (
    "test_campaign",
    "test_same_curve",
    "test_resume",
    "test_learning",
    "test_llamafactory",
    "test_readme",
    "test_quality",
)
"""Files that take minutes, begun first: a file is the unit of two workers, and one begun last would run alone."""


def pytest_configure() -> None:
    """Let torch compute with one thread: those of several tests and ranks only wait for each other.

    And let ctrl-c reach what the tests start: a shell's background job hands on that it ignores it.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["LC_ALL"] = "C.UTF-8"  # English, whoever runs the tests
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first and leave the others as they are."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
