"""The error tree and the exit codes: everything a user can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a `t5panel` process returns; a signal gives 128 + its number."""

    DONE = 0
    TRAINING_FAILED = 1
    USAGE = 2
    DOES_NOT_FIT = 3
    PREFLIGHT_FAILED = 4
    STOPPED_BY_USER = 130


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where it stands, what it is, what would help."""

    where: str
    message: str
    hint: str = ""


class T5PanelError(Exception):
    """A set of faults that a user can act on."""

    exit_code: ClassVar[ExitCode] = ExitCode.TRAINING_FAILED

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.where}: {fault.message}" for fault in self.faults))

    @classmethod
    def of(cls, where: str, message: str, hint: str = "") -> T5PanelError:
        """An error of this class with a single fault."""
        return cls([Fault(where, message, hint)])


class UsageError(T5PanelError):
    """A bad command line or preset."""

    exit_code = ExitCode.USAGE


class DoesNotFitError(T5PanelError):
    """The machine has too little VRAM or host RAM."""

    exit_code = ExitCode.DOES_NOT_FIT


class PreflightError(T5PanelError):
    """Cards, data, disk or versions are not what the run needs."""

    exit_code = ExitCode.PREFLIGHT_FAILED
