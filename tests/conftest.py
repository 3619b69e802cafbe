"""The order of all tests."""

from __future__ import annotations

import pytest

LONGEST = ("test_campaign", "test_same_curve", "test_resume", "test_learning", "test_readme", "test_quality")
"""Files that take minutes, begun first: a file is the unit of two workers, and one begun last would run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first and leave the others as they are."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
