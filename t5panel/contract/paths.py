"""Paths as users write them."""

from __future__ import annotations

import errno
from pathlib import Path

from t5panel.errors import UsageError


def user_path(text: str, where: str) -> Path:
    """A path with `~` resolved; whether it exists is another question. `where` names the setting it came from.

    Raises: UsageError when no file could have this name: an unknown user, a name too long.
    """
    try:
        path = Path(text).expanduser()
        path.lstat()
    except (RuntimeError, ValueError) as error:
        raise UsageError.of(where, f"{text!r} is no path: {error}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError.of(where, f"{text[:40]!r}… is no path: {error.strerror}") from error
    return path
