"""Runs that several tests look at are made once."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from platformdirs import user_cache_path

from t5panel.contract.environments import environment_path
from t5panel.launch.environment import set_up
from tests.trainers.runs import reversed_words, write_pairs


@pytest.fixture(scope="session", autouse=True)
def _token_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token cache and a state folder of the tests' own; environments are kept for the next time."""
    kept = user_cache_path("t5panel-tests")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        patch.setenv("XDG_DATA_HOME", str(kept))
        yield


@pytest.fixture(scope="session")
def llamafactory() -> str:
    """The preset `llamafactory`, its environment made or mended: a cold one takes minutes."""
    with take_turns(environment_path("llamafactory").with_suffix(".tests")):
        set_up("llamafactory", lambda _text, _done, _total: None)
    return "llamafactory"


@contextmanager
def take_turns(path: Path) -> Iterator[None]:
    """One test process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def word_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words and the same words backwards, of different lengths so that token weights matter."""
    words = reversed_words(3000, seed=1, shortest=3, longest=14)
    return write_pairs(tmp_path_factory.mktemp("data") / "words.jsonl", [(word, word[::-1]) for word in words])
