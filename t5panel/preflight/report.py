"""A doctor's groups as lines of text, or as JSON values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from t5panel.cells import left, width_of, wrapped
from t5panel.language import tr
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
    yield paint(tr(group.name), "title")
    for check in group.checks:
        yield from _check_lines(check, min(width, MOST_WIDTH), paint)
    yield ""


def _check_lines(check: Check, width: int, paint: Paint) -> Iterator[str]:
    tone: Tone = check.severity or "good"
    mark, column = paint(MARKS[tone], tone), 4 + NAME_WIDTH
    name, folded = left(tr(check.name), NAME_WIDTH), width_of(tr(check.name)) >= NAME_WIDTH
    lines = _wrapped(tr(check.text), width - column)
    if folded:  # a long name has a line of its own
        yield f"  {mark} {tr(check.name)}"
    else:
        yield f"  {mark} {name}{lines[0]}"
    for line in lines if folded else lines[1:]:
        yield " " * column + line
    for finding in check.findings:
        yield from _finding_lines(finding, width, paint)


def _finding_lines(finding: Finding, width: int, paint: Paint) -> Iterator[str]:
    lines = _wrapped(tr(finding.message), width - INDENT - 2)
    yield f"{' ' * INDENT}{paint(MARKS[finding.severity], finding.severity)} {lines[0]}"
    for line in lines[1:]:
        yield " " * (INDENT + 2) + line
    for number, line in enumerate(_wrapped(tr(finding.hint), width - INDENT - 4) if finding.hint else ()):
        yield f"{' ' * (INDENT + 2)}{paint(('→ ' if number == 0 else '  ') + line, 'quiet')}"


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a text; paths and commands stay whole, however long."""
    return wrapped(text, max(20, width))


def verdict_line(patient: Patient, groups: Sequence[Group], *, paint: Paint = plain) -> str:
    """What all of it comes to, in one line."""
    found = [finding for group in groups for finding in group.findings]
    errors, warnings = (sum(finding.severity == kind for finding in found) for kind in ("error", "warning"))
    counts = [tr(counted(number, word)) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    noted = f" ({', '.join(counts)})" if counts else ""
    if errors:
        return paint(tr("✗ {preset} would not start here{noted}", preset=patient.preset.name, noted=noted), "error")
    if patient.rehearsal or patient.spec.device == "cpu":
        rehearsed = f"rehearse on {counted(patient.spec.num_gpus, 'CPU rank')}"
        where = tr(rehearsed) if patient.rehearsal else tr("train on the CPU")
    else:
        where = tr(f"train on {counted(len(patient.taken), 'card')}")
    words = tr("✓ {preset} can {where}{noted}", preset=patient.preset.name, where=where, noted=noted)
    return paint(words, "warning" if warnings else "good")


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
