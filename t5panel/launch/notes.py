"""The user's own words about a run, kept in its directory."""

from __future__ import annotations

from t5panel.contract.layout import RunDir, write_atomic
from t5panel.errors import UsageError
from t5panel.monitor.runs import NOTE_BYTES


def write_note(run: RunDir, text: str) -> None:
    """Keep a note in place of the one before; none when there are no words in it.

    Raises: UsageError when it is too long; OSError when it cannot be written.
    """
    words = " ".join(text.split())
    if not words:
        run.note.unlink(missing_ok=True)
        return
    if len(words.encode()) > NOTE_BYTES:
        raise UsageError.of("note", "is longer than a page", f"at most {NOTE_BYTES:,} bytes")
    write_atomic(run.note, words.encode() + b"\n")
