"""Runs that several tests look at are made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainers.runs import reversed_words, write_pairs


@pytest.fixture(scope="session", autouse=True)
def _token_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token cache and a state folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        yield


@pytest.fixture(scope="session")
def word_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words and the same words backwards, of different lengths so that token weights matter."""
    words = reversed_words(3000, seed=1, shortest=3, longest=14)
    return write_pairs(tmp_path_factory.mktemp("data") / "words.jsonl", [(word, word[::-1]) for word in words])
