"""What an exception that ends a rank leaves in the run directory, as the rank itself saw it."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from types import TracebackType

import msgspec

from t5panel.contract.layout import RunDir, write_atomic
from t5panel.contract.records import Failure

TRACEBACK_CHARACTERS = 20_000
MESSAGE_CHARACTERS = 4_000


class Witness:
    """Writes this rank's failure file when an exception ends it, and knows at which step it was."""

    def __init__(self, run: RunDir, rank: int) -> None:
        self._run, self._rank = run, rank
        self.step: int | None = None
        """Optimizer step being made or just made, from 1."""

    def watch(self) -> None:
        """From now on testify before the traceback goes where it went; what an earlier start left is void."""
        with contextlib.suppress(OSError):
            self._run.rank_failure(self._rank).unlink()
        earlier = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            with contextlib.suppress(OSError):  # a full disk must not cost the traceback in the log
                self._testify(error)
            earlier(kind, error, trace)

        sys.excepthook = hook

    def _testify(self, error: BaseException) -> None:
        self._run.ranks.mkdir(exist_ok=True)
        failure = failure_of(error, rank=self._rank, step=self.step)
        write_atomic(self._run.rank_failure(self._rank), msgspec.json.encode(failure), durable=False)


def failure_of(error: BaseException, *, rank: int, step: int | None) -> Failure:
    """The record of an exception; of a long traceback its end, where the cause stands."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    said = "".join(traceback.format_exception_only(error)).strip().removeprefix(name).removeprefix(": ")
    allocated, reserved = _card_memory()
    return Failure(
        rank=rank,
        time=time.time(),
        kind=name,
        message=_printable(said[:MESSAGE_CHARACTERS]),
        traceback=_printable("".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]),
        step=step,
        vram_allocated=allocated,
        vram_reserved=reserved,
    )


def _card_memory() -> tuple[int | None, int | None]:
    """Bytes that torch's allocator holds on this rank's card. Never imports torch, which may be what failed."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None, None
    try:
        return cuda.memory_allocated(), cuda.memory_reserved()
    except RuntimeError:  # the card is lost
        return None, None


def _printable(text: str) -> str:
    """Text that can be encoded: a file name in a message may hold half a character."""
    return text.encode(errors="replace").decode()
