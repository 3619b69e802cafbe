"""A doctor's groups as lines of text, or as JSON values."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from t5panel.plan.planning import Finding
from t5panel.preflight.doctor import Check, Group, Patient, counted

Tone = Literal["good", "info", "warning", "error", "title", "quiet"]
Paint = Callable[[str, Tone], str]
MARKS: dict[Tone, str] = {"good": "✓", "info": "·", "warning": "!", "error": "✗"}
NAME_WIDTH = 15
INDENT = 6
MOST_WIDTH = 100
"""Longer lines are hard to read, however wide the terminal is."""


def plain(text: str, _tone: Tone) -> str:
    """No colour."""
    return text


def group_lines(group: Group, *, width: int = 80, paint: Paint = plain) -> Iterator[str]:
    """A group under its name: one line per check, what is wrong and what would help below it."""
    yield paint(group.name, "title")
    for check in group.checks:
        yield from _check_lines(check, min(width, MOST_WIDTH), paint)
    yield ""


def _check_lines(check: Check, width: int, paint: Paint) -> Iterator[str]:
    tone: Tone = check.severity or "good"
    mark, column = paint(MARKS[tone], tone), 4 + NAME_WIDTH
    name, folded = f"{check.name:{NAME_WIDTH}}", len(check.name) >= NAME_WIDTH
    lines = _wrapped(check.text, width - column)
    if folded:  # a long name has a line of its own
        yield f"  {mark} {check.name}"
    else:
        yield f"  {mark} {name}{lines[0]}"
    for line in lines if folded else lines[1:]:
        yield " " * column + line
    for finding in check.findings:
        yield from _finding_lines(finding, width, paint)


def _finding_lines(finding: Finding, width: int, paint: Paint) -> Iterator[str]:
    lines = _wrapped(finding.message, width - INDENT - 2)
    yield f"{' ' * INDENT}{paint(MARKS[finding.severity], finding.severity)} {lines[0]}"
    for line in lines[1:]:
        yield " " * (INDENT + 2) + line
    for number, line in enumerate(_wrapped(finding.hint, width - INDENT - 4) if finding.hint else ()):
        yield f"{' ' * (INDENT + 2)}{paint(('→ ' if number == 0 else '  ') + line, 'quiet')}"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a text; paths and commands stay whole, however long."""
    return textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False) or [""]


def verdict_line(patient: Patient, groups: Sequence[Group], *, paint: Paint = plain) -> str:
    """What all of it comes to, in one line."""
    found = [finding for group in groups for finding in group.findings]
    errors, warnings = (sum(finding.severity == kind for finding in found) for kind in ("error", "warning"))
    counts = [counted(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    noted = f" ({', '.join(counts)})" if counts else ""
    if errors:
        return paint(f"✗ {patient.preset.name} would not start here{noted}", "error")
    if patient.rehearsal or patient.spec.device == "cpu":
        where = f"rehearse on {counted(patient.spec.num_gpus, 'CPU rank')}" if patient.rehearsal else "train on the CPU"
    else:
        where = f"train on {counted(len(patient.taken), 'card')}"
    return paint(f"✓ {patient.preset.name} can {where}{noted}", "warning" if warnings else "good")


def doctor_json(patient: Patient, groups: Sequence[Group]) -> dict[str, Any]:
    """`doctor --json`: every finding, and the readings by group and check."""
    return {
        "preset": patient.preset.name,
        "device": patient.spec.device,
        "rehearsal": patient.rehearsal,
        "findings": [asdict(finding) for group in groups for finding in group.findings],
        "facts": {group.name: {_key(check.name): dict(check.facts) for check in group.checks} for group in groups},
    }


def _key(name: str) -> str:
    """`host RAM` as `host_ram`."""
    return name.lower().replace(" ", "_")
