"""What the user is about to start: a preset, what the command line set, what was edited here."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from t5panel.contract.environments import missing_environment
from t5panel.contract.spec import RunSpec
from t5panel.errors import Fault, T5PanelError, UsageError
from t5panel.plan.machine import Machine
from t5panel.plan.planning import Plan
from t5panel.presets import Preset, load_preset, preset_names
from t5panel.session import Prospect, resolved_preset
from t5panel.tui.fields import PRICE, SAMPLES, flow_yaml, value_at
from t5panel.wish import Wish

CARD_SETTINGS = {"gpu.too-few": "num_gpus", "gpu.absent": "num_gpus"}
"""Findings by code whose setting has another name."""


@dataclass(frozen=True)
class Method:
    """One entry of the list of methods: a preset, what it is, and what is wrong with its file."""

    name: str
    launcher: str
    summary: str
    installed: bool
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A wish in the making. Edits belong to one preset; the command line's settings to all."""

    given: Wish
    preset: str
    edits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unread: Mapping[str, Fault] = field(default_factory=dict)
    """Texts typed into fields that are no values at all."""

    @property
    def wish(self) -> Wish:
        """The wish as it stands."""
        overrides = self.given.overrides
        for key, value in self.own_edits.items():
            overrides = laid_over(overrides, key, value)
        return replace(self.given, preset=self.preset, overrides=overrides)

    @property
    def own_edits(self) -> Mapping[str, Any]:
        """What was edited for the present preset."""
        return self.edits.get(self.preset, {})

    def of_preset(self, preset: str) -> Draft:
        """The same with another preset chosen."""
        return replace(self, preset=preset, unread={})

    def with_value(self, key: str, value: Any) -> Draft:  # noqa: ANN401
        """With one setting edited.

        Raises: UsageError for an estimate's figure that is none: RunSpec does not look at it.
        """
        if key in (PRICE, SAMPLES):
            unread = {name: fault for name, fault in self.unread.items() if name != key}
            return replace(self, given=_told_for(self.given, key, value), unread=unread)
        return self._with_edits(laid_over(self.own_edits, key, value), key)

    def without(self, key: str) -> Draft:
        """With one setting back at what the preset says."""
        return self._with_edits({name: value for name, value in self.own_edits.items() if name != key}, key)

    def with_unread(self, key: str, fault: Fault) -> Draft:
        """With a text in a field that cannot be read."""
        return replace(self, unread={**self.unread, key: fault})

    def _with_edits(self, edits: Mapping[str, Any], key: str) -> Draft:
        unread = {name: fault for name, fault in self.unread.items() if name != key}
        return replace(self, edits={**self.edits, self.preset: edits}, unread=unread)


@dataclass(frozen=True)
class Checked:
    """What RunSpec says to a draft: the preset with everything filled in, or every fault, by dotted key."""

    preset: Preset | None
    faults: Mapping[str, Fault]
    """The key `""` holds a fault that belongs to no single setting."""


def _told_for(given: Wish, key: str, value: Any) -> Wish:  # noqa: ANN401
    """A wish whose time and money are told for other rows, or at another price.

    Raises: UsageError for anything but a number above 0, whole where rows are meant.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if key == PRICE and (value is None or is_number):
        return replace(given, price=value)
    if key == SAMPLES and (value is None or (is_number and isinstance(value, int))):
        return replace(given, samples=value)
    raise UsageError.of(key, f"must be a number above 0, not {value!r}")


def laid_over(settings: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    """Settings with one more on top: it comes last, and what it replaces, parts of it too, is gone."""
    return {**{name: old for name, old in settings.items() if not f"{name}.".startswith(f"{key}.")}, key: value}


def command_line(wish: Wish, spec: RunSpec) -> str:
    """The t5panel command that starts this wish from any folder; `spec` is what the wish resolves to."""
    preset = wish.preset
    if "/" in preset or preset.endswith((".yaml", ".yml")):
        preset = str(Path(preset).absolute())
    words = ["t5panel", "--preset", preset, "--no-ui"]
    for key, value in wish.overrides.items():
        # The spec's paths are absolute; anything else is the same in both.
        words += ["--set", f"{key}={flow_yaml(value_at(spec, key) if isinstance(value, str) else value)}"]
    if wish.run_dir is not None:
        words += ["--run-dir", str(wish.run_dir.absolute())]
    return shlex.join(words)


def script(line: str, prospect: Prospect) -> str:
    """A shell file that starts a wish, and what that will run in its comments."""
    inner = (("the supervisor runs first, once", prospect.prepare.line), ("and then", prospect.command.line))
    comments = "".join(f"# {what}:\n#   {text}\n" for what, text in inner)
    return f"#!/bin/sh\n{line}\n\n{comments}"


def check(draft: Draft, machine: Machine, keys: tuple[str, ...]) -> Checked:
    """Look at a draft without touching the machine; a millisecond."""
    try:
        preset = resolved_preset(draft.wish, machine)
    except T5PanelError as error:
        return Checked(None, {**_by_key(error.faults, keys), **draft.unread})
    return Checked(None if draft.unread else preset, draft.unread)


def _by_key(faults: Iterable[Fault], keys: tuple[str, ...]) -> dict[str, Fault]:
    """Faults by their setting, in their order; several of one setting as one."""
    found: dict[str, Fault] = {}
    for fault in faults:
        key = _key_of(fault, keys)
        before = found.get(key)
        found[key] = replace(before, message=f"{before.message} · {fault.message}") if before else fault
    return found


def found_by_key(plan: Plan, keys: tuple[str, ...]) -> Mapping[str, str]:
    """The errors that a look at files and cards found, by the setting they are about."""
    places = ((CARD_SETTINGS.get(found.code, found.code), found.message) for found in reversed(plan.errors))
    return {key: message for key, message in places if key in keys}


def methods(given: Wish) -> tuple[Method, ...]:
    """Every preset that can be chosen; a file named on the command line comes first."""
    names = preset_names()
    return tuple(map(_method, names if given.preset in names else (given.preset, *names)))


def _method(name: str) -> Method:
    try:
        preset = load_preset(name)
    except T5PanelError as error:
        return Method(name, "", error.faults[0].message, installed=True, faults=error.faults)
    return Method(name, preset.spec.launcher, preset.summary, installed=not missing_environment(preset.spec))


def _key_of(fault: Fault, keys: tuple[str, ...]) -> str:
    """The setting a fault is about: its place ends with the setting's key, or with a part of its value."""
    place = fault.where.rpartition(": ")[2]
    return max((key for key in keys if place == key or place.startswith(f"{key}.")), key=len, default="")
