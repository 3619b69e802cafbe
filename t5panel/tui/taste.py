"""What the user likes, remembered from one panel to the next: the theme."""

from __future__ import annotations

import json

from t5panel.contract.layout import taste_file, write_atomic


def remembered_theme() -> str | None:
    """The name of the theme chosen last; None when none was, or nobody can read it any more."""
    try:
        name = json.loads(taste_file().read_text(encoding="utf-8"))["theme"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def remember_theme(name: str) -> None:
    """For the next panel.

    Raises: OSError when it cannot be written.
    """
    path = taste_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"theme": name}).encode() + b"\n", durable=False)
