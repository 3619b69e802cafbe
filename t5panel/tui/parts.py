"""Styled text in the making: what `Content.assemble` takes."""

from __future__ import annotations

Part = str | tuple[str, str]
"""A text, or a text with its style."""
