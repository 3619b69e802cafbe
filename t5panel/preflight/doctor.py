"""Everything worth knowing about this machine before a run, in groups: what `t5panel doctor` shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from t5panel.contract.environments import (
    ENVIRONMENTS,
    Environment,
    environment_path,
    python_in,
    read_environment,
    with_interpreter,
)
from t5panel.contract.layout import runs_home, token_cache_home
from t5panel.contract.records import Severity
from t5panel.contract.shapes import builtin_shape, is_builtin
from t5panel.contract.spec import DataSpec, ModelSpec, RunSpec
from t5panel.contract.versions import SHOWN
from t5panel.errors import UsageError
from t5panel.monitor.hardware import Driver, Nvml, cores
from t5panel.plan.cards import short_name
from t5panel.plan.disk import checkpoint_bytes, checkpoints_kept
from t5panel.plan.machine import GIB, Machine
from t5panel.plan.planning import Finding, resolve_device, used_cards, wants_rehearsal
from t5panel.preflight.cards import (
    CardReading,
    hidden_findings,
    holder_findings,
    lost_findings,
    mode_findings,
    read_cards,
)
from t5panel.preflight.collective import Outcome, Question, answer_findings, ask
from t5panel.preflight.inspection import environment_finding, inspect
from t5panel.preflight.limits import limit_findings, limits_text, read_limits
from t5panel.preflight.locks import compiler_caches, lock_findings, stale_locks
from t5panel.preflight.logout import logout_findings, logout_text, read_logout
from t5panel.preflight.loopback import loopback_fault, loopback_findings
from t5panel.preflight.machine import read_machine
from t5panel.preflight.memory import host_findings, host_text, read_host
from t5panel.preflight.place import (
    cache_findings,
    disk_findings,
    existing_folder,
    free_bytes,
    free_inodes,
    inode_findings,
)
from t5panel.preflight.shm import read_shm, shm_findings, shm_text
from t5panel.preflight.torch_build import build_findings, read_build
from t5panel.presets import Preset, load_preset, preset_names, rehearsal_changes

NO_CARD = Finding(
    "warning", "gpu.none", "no NVIDIA card: rehearsals only", "a card that is there must be listed by `nvidia-smi -L`"
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what it is, how it stands, and what is wrong with it."""

    name: str
    text: str
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The readings behind it, as JSON values."""

    @property
    def severity(self) -> Severity | None:
        """The worst of its findings; None when there is none."""
        present = {finding.severity for finding in self.findings}
        order: tuple[Severity, ...] = ("error", "warning", "info")
        return next((severity for severity in order if severity in present), None)


@dataclass(frozen=True)
class Group:
    """Checks of one kind."""

    name: str
    checks: tuple[Check, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings of its checks."""
        return tuple(finding for check in self.checks for finding in check.findings)


@dataclass(frozen=True)
class Patient:
    """What is examined: a preset as it would run on this machine, and the machine's cards."""

    preset: Preset
    spec: RunSpec
    machine: Machine
    rehearsal: bool
    driver: Driver | None
    lost: tuple[int, ...]
    cards: tuple[CardReading, ...]
    against: tuple[Finding, ...]
    """What stands against the device that the preset asks for."""

    @property
    def taken(self) -> tuple[int, ...]:
        """PCI indices of the cards the preset would take."""
        return tuple(card.index for card in used_cards(self.spec, self.machine))


def admit(preset_name: str) -> Patient:
    """The preset and the cards it would find.

    Raises: UsageError with every fault of the preset.
    """
    nvml = Nvml()
    machine, lost, driver = read_machine(), nvml.lost(), nvml.driver()
    preset = load_preset(preset_name)
    rehearsal = wants_rehearsal(preset.spec, machine)
    if rehearsal:
        preset = load_preset(preset_name, rehearsal_changes(preset, {}))
    spec, against = resolve_device(with_interpreter(preset.spec), machine)
    if preset.spec.device == "auto" and not machine.cards:
        against = (NO_CARD,)
    return Patient(preset, spec, machine, rehearsal, driver, lost, read_cards(nvml), against)


def examine(patient: Patient) -> Iterator[Group]:
    """The groups one by one: the last takes seconds."""
    yield Group("cards", tuple(_cards(patient)))
    yield Group("memory", tuple(_memory(patient)))
    yield Group("disk", tuple(_disk(patient)))
    yield Group("system", tuple(_system()))
    versions = Group("versions", tuple(_versions(patient)))
    yield versions
    yield Group("collective", (_collective(patient, versions.findings),))


def _cards(patient: Patient) -> Iterator[Check]:
    driver = patient.driver
    hidden = hidden_findings(os.environ) if patient.cards else ()
    if driver is not None:
        cuda = f", CUDA {driver.cuda[0]}.{driver.cuda[1]}" if driver.cuda else ""
        yield Check("driver", driver.version + cuda, hidden, _facts(driver))
    for reading in patient.cards:
        found = (*holder_findings(reading), *mode_findings(reading))
        yield Check(f"card {reading.card.index}", card_text(reading), found, _card_facts(reading))
    for index in patient.lost:
        yield Check(f"card {index}", "lost", lost_findings((index,)))
    count = len(patient.machine.cards)
    wanted = patient.spec.num_gpus
    what = f"{patient.preset.name} takes {wanted} of {count}" if count else "none"
    yield Check("cards", what, patient.against, {"found": count, "wanted": wanted, "taken": patient.taken})


def card_text(reading: CardReading) -> str:
    """`RTX 3080, 0.3 of 20.0 GiB in use, 54 °C, 112 W`."""
    card = reading.card
    words = [short_name(reading.name), f"{card.used / GIB:.1f} of {card.total / GIB:.1f} GiB in use"]
    if card.temperature is not None:
        words.append(f"{card.temperature} °C")
    if card.power is not None:
        words.append(f"{card.power:.0f} W")
    return ", ".join(words)


def _card_facts(reading: CardReading) -> dict[str, Any]:
    processes = [
        {
            "pid": holder.pid,
            "used": holder.used,
            "user": holder.user,
            "command": holder.command,
            "run": holder.run.run_id if holder.run else None,
        }
        for holder in reading.holders
    ]
    return {"name": reading.name, **_facts(reading.card), **_facts(reading.modes), "processes": processes}


def counted(number: int, word: str) -> str:
    """`1 card`, `3 cards`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def size_text(size: int) -> str:
    """Bytes as `76.4 GiB` or `8 MiB`."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB else f"{size / 2**20:,.0f} MiB"


def _memory(patient: Patient) -> Iterator[Check]:
    host, shared = read_host(), read_shm()
    yield Check("host RAM", host_text(host), host_findings(host), _facts(host))
    several = len(patient.taken) > 1
    found = tuple(finding for finding in shm_findings(shared) if several or finding.code == "shm.stale")
    facts = {
        "size": shared.size,
        "free": shared.free,
        "stale": [str(path) for path in shared.stale],
        "stale_bytes": shared.stale_bytes,
    }
    yield Check("shared memory", shm_text(shared), found, facts)


def _disk(patient: Patient) -> Iterator[Check]:
    spec, runs, cache = patient.spec, existing_folder(runs_home()), existing_folder(token_cache_home())
    free, files = free_bytes(runs), free_inodes(runs)
    name = spec.model.name_or_path
    shape = builtin_shape(name) if is_builtin(name) else None
    text, found = f"{size_text(free)} free", inode_findings(runs, files)
    need = None
    if shape is not None:
        need = checkpoint_bytes(spec, shape) * checkpoints_kept(spec)
        text += f"; {counted(checkpoints_kept(spec), 'checkpoint')} of {patient.preset.name}: {size_text(need)}"
        found += disk_findings(runs, spec, shape, free)
    yield Check("runs", text, found, {"folder": str(runs_home()), "free": free, "inodes": files, "need": need})
    room = free_bytes(cache)
    facts = {"folder": str(token_cache_home()), "free": room}
    yield Check("cache", f"{size_text(room)} free", cache_findings(token_cache_home(), spec), facts)


def _system() -> Iterator[Check]:
    limits, logout, fault = read_limits(), read_logout(), loopback_fault()
    yield Check("limits", limits_text(limits), limit_findings(limits), _facts(limits))
    yield Check("logout", logout_text(logout), logout_findings(logout), _facts(logout))
    yield Check("loopback", fault or "127.0.0.1 answers", loopback_findings(fault), {"fault": fault})
    locks = stale_locks(compiler_caches(os.environ))
    facts = {"stale": [str(lock) for lock in locks]}
    yield Check("compiler locks", f"{len(locks)} stale" if locks else "none is stale", lock_findings(locks), facts)
    yield Check("cores", f"{cores()}", (), {"cores": cores()})


def _versions(patient: Patient) -> Iterator[Check]:
    users: dict[str | None, list[str]] = {patient.spec.interpreter: []}
    for name in preset_names():
        try:
            users.setdefault(with_interpreter(load_preset(name).spec).interpreter, []).append(name)
        except UsageError as error:
            fault = error.faults[0]
            finding = Finding("warning", "preset", f"{fault.where}: {fault.message}", fault.hint)
            yield Check(f"preset {name}", "cannot be used", (finding,))
    for interpreter, names in users.items():
        yield _interpreter(patient, interpreter, names)


def _interpreter(patient: Patient, interpreter: str | None, names: Sequence[str]) -> Check:
    """The packages of one Python; troubles of one that the examined preset does not use are warnings."""
    for environment in map(read_environment, ENVIRONMENTS):
        if interpreter == str(environment.python) and environment.problem:
            return _unusable(environment, names, examined=interpreter == patient.spec.interpreter)
    inspection = inspect(_plain(patient.spec, interpreter))
    build = read_build(interpreter)
    found = (*inspection.findings, *build_findings(build, patient.driver))
    if interpreter != patient.spec.interpreter:
        found = tuple(replace(finding, severity="warning") for finding in found)
    versions = inspection.versions
    shown = [f"{name} {versions[name]}" for name in SHOWN if name in versions]
    text = ", ".join((f"Python {versions['python']}", *shown)) if versions else "no answer"
    where = interpreter or sys.executable
    facts = {
        "interpreter": where,
        "presets": list(names),
        "packages": dict(versions),
        "torch_cuda": None if build is None or build.cuda is None else f"{build.cuda[0]}.{build.cuda[1]}",
    }
    name = "this Python" if interpreter is None else f"Python of {', '.join(names) or patient.preset.name}"
    return Check(name, text if interpreter is None else f"{where}: {text}", found, facts)


def _unusable(environment: Environment, names: Sequence[str], *, examined: bool) -> Check:
    """An environment that is not there is no trouble as long as nobody asks for it."""
    found = environment_finding(environment)
    if not examined:
        found = replace(found, severity="info" if environment.condition == "absent" else "warning")
    facts = {"interpreter": str(environment.python), "presets": list(names), "condition": environment.condition}
    return Check(f"Python of {environment.name}", environment.condition, (found,), facts)


def _plain(spec: RunSpec, interpreter: str | None) -> RunSpec:
    """A spec of built-ins only, so that nothing but the interpreter is looked at."""
    data = DataSpec(train="builtin:docstrings")
    model = ModelSpec(name_or_path="builtin:tiny", attn_implementation="eager")
    parts = {"method": "manual", "launcher": "torchrun", "deepspeed": None, "llamafactory": None, "model": model}
    if any(interpreter == str(python_in(environment_path(name))) for name in ENVIRONMENTS):
        parts["method"] = "llamafactory"
    return spec.model_copy(update={**parts, "data": data, "interpreter": interpreter})


def _collective(patient: Patient, versions: Sequence[Finding]) -> Check:
    spec, taken = patient.spec, patient.taken
    on_cards = spec.device == "cuda"
    if reason := _why_not_tried(patient, versions):
        return Check("ranks", "not tried", (Finding("info", "collective.not-tried", reason),))
    ranks = len(taken) if on_cards else spec.num_gpus
    outcome = ask(Question(spec.interpreter or sys.executable, ranks, spec.device, taken))
    found = answer_findings(outcome)
    if not isinstance(outcome, Outcome):
        return Check("ranks", "no answer", found)
    where = f"{counted(ranks, 'card' if on_cards else 'CPU rank')} over {outcome.backend}"
    facts = msgspec.to_builtins(outcome)
    if outcome.code or outcome.reduce_seconds is None:
        return Check("ranks", f"{where}: they do not reach each other", found, facts)
    milliseconds = outcome.reduce_seconds * 1000
    return Check("ranks", f"{where}: 1 MiB added up in {milliseconds:.1f} ms", found, facts)


def _why_not_tried(patient: Patient, versions: Sequence[Finding]) -> str:
    """What makes the check of the ranks futile, or a harm to somebody's run."""
    if any(finding.severity == "error" for finding in versions):
        return "the interpreter has to be mended first"
    if patient.spec.device != "cuda":
        return ""
    if not patient.taken:
        return "the preset's cards are not there"
    users = (holder_findings(reading) for reading in patient.cards if reading.card.index in patient.taken)
    return "the cards are in use" if any(users) else ""


def _facts(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any struct
    facts: dict[str, Any] = msgspec.to_builtins(value)
    return facts
