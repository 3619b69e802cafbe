"""The one path from a wish to a watched run: plan → preflight → start → watch. Both fronts take it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from t5panel import __version__
from t5panel.contract.environments import with_interpreter
from t5panel.contract.layout import PRIVATE, RunDir, all_runs, runs_home, token_cache_home, write_atomic
from t5panel.contract.llamafactory_keys import t5_faults
from t5panel.contract.paths import user_path
from t5panel.contract.records import PredictedVram, Request, RunInfo, run_json
from t5panel.contract.shapes import Shape, is_builtin
from t5panel.errors import DoesNotFitError, Fault, PreflightError, T5PanelError, UsageError
from t5panel.launch.changes import Changed, changed_run
from t5panel.launch.commands import Command, card_indices, command_for, prepare_command_for
from t5panel.launch.processes import free_port, stop_all
from t5panel.monitor.hardware import cores
from t5panel.monitor.proc import marked
from t5panel.monitor.runs import read_info, read_state
from t5panel.plan.forecast import NOTHING_KNOWN, Experience
from t5panel.plan.machine import Machine
from t5panel.plan.memory import CardMemory
from t5panel.plan.planning import (
    Finding,
    Plan,
    glance,
    make_plan,
    memory_label,
    resolve_device,
    used_cards,
    wants_rehearsal,
)
from t5panel.preflight.calibration import experience, remember
from t5panel.preflight.cards import card_findings
from t5panel.preflight.foreign import foreign_findings
from t5panel.preflight.inspection import inspect
from t5panel.preflight.machine import read_machine
from t5panel.preflight.models import config_of
from t5panel.preflight.place import cache_findings, place_findings
from t5panel.preflight.system import system_findings
from t5panel.wish import Wish as Wish  # noqa: PLC0414 - both fronts know it by this name

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec
    from t5panel.presets import Preset

NO_CHANGES: Mapping[str, Any] = MappingProxyType({})
SUPERVISOR_START_SECONDS = 20.0
MEMORY_CODES = ("memory.vram", "memory.ram")
BUSY_CODES = ("gpu.busy", "gpu.in-use")
"""What a queued run waits out."""


@dataclass(frozen=True)
class Prospect:
    """A run that could start now: the plan, the commands it would run, and where."""

    preset: Preset
    plan: Plan
    run: RunDir
    prepare: Command
    command: Command
    """With the port that is free now; the run takes the one that is free when its ranks start."""
    versions: Mapping[str, str]
    known: Experience = NOTHING_KNOWN


def prospect(wish: Wish, *, machine: Machine | None = None) -> Prospect:
    """Everything about a run before it starts; writes nothing.

    Raises: UsageError with every fault of the preset and the overrides.
    """
    here = machine or read_machine()
    preset = resolved_preset(wish, here)
    inspection = inspect(preset.spec)
    if inspection.shape is not None and not preset.spec.model.decoder_only:
        _refuse_decoders_keys(preset.spec)
    if inspection.decoder_only:
        model = preset.spec.model.model_copy(update={"decoder_only": True})
        preset = replace(preset, spec=preset.spec.model_copy(update={"model": model}))
    run = RunDir(_run_path(wish, preset.name))
    around = _surroundings(preset.spec, here, run, inspection.shape) if here.ours else ()
    rehearsal = wants_rehearsal(preset.spec, here)
    findings = (*inspection.findings, *around)
    known = experience(preset.spec, samples=wish.samples, price=wish.price)
    plan = make_plan(
        preset,
        here,
        shape=inspection.shape,
        rehearsal=rehearsal,
        versions=inspection.versions,
        findings=findings,
        known=known,
    )
    command = command_for(plan.spec, run, port=free_port(), cores=here.cores)
    return Prospect(preset, plan, run, prepare_command_for(plan.spec, run), command, inspection.versions, known)


def _refuse_decoders_keys(spec: RunSpec) -> None:
    if faults := [Fault(*one) for one in t5_faults(spec.llamafactory)]:
        raise UsageError(faults)


def glance_at(before: Prospect, preset: Preset, wish: Wish) -> Plan | None:
    """The plan of a wish's preset in closed form, from a look at another one; None when that says nothing of this."""
    old, new = before.preset.spec, preset.spec
    if (old.method, old.model, old.interpreter) != (new.method, new.model, new.interpreter):
        return None
    known = msgspec.structs.replace(before.known, samples=wish.samples, price=wish.price)
    return glance(before.plan, preset, versions=before.versions, known=known)


def _surroundings(spec: RunSpec, here: Machine, run: RunDir, shape: Shape | None) -> tuple[Finding, ...]:
    """What this machine holds against a run: its cards, its folder, the cache, the system around them."""
    cards = tuple(card.index for card in used_cards(resolve_device(spec, here)[0], here))
    return (
        *card_findings(cards, runs_home(), os.environ),
        *place_findings(run.path, spec, shape),
        *cache_findings(token_cache_home(), spec),
        *system_findings(len(cards)),
        *foreign_findings(lambda name: config_of(name, os.environ)),
    )


def start(
    prospect: Prospect, *, force: bool = False, queue: bool = False, tell: Callable[[str], None] = lambda _text: None
) -> RunDir:
    """Write the run directory in one move and start its supervisor, which waits for its cards when it is to `queue`.

    `tell` hears of what takes seconds, before it begins.

    Raises: PreflightError or DoesNotFitError with every finding that blocks it; nothing is written then.
    """
    _refuse(prospect.plan.errors, force=force, queue=queue)
    _refuse(_collective(prospect.plan, tell), force=force, queue=queue)
    _write_run(prospect)
    _link_run(prospect.run)
    remember()
    spawn_supervisor(prospect.run, queue=queue)
    return prospect.run


def can_queue(codes: Iterable[str]) -> bool:
    """Whether all that stands against a start, by code, is that its cards are in use now."""
    found = set(codes)
    return bool(found) and found <= set(BUSY_CODES)


def _collective(plan: Plan, tell: Callable[[str], None]) -> tuple[Finding, ...]:
    """Whether the ranks reach each other, tried out; not on cards that a queued run still waits for."""
    if any(finding.code in BUSY_CODES for finding in plan.errors):
        return ()
    from t5panel.preflight.collective import collective_findings

    cards = [card.index for card in used_cards(plan.spec, plan.machine)]
    return collective_findings(plan.spec, cards, tell=tell)


def resume(run: RunDir, changes: Mapping[str, Any] = NO_CHANGES, *, queue: bool = False) -> None:
    """Continue an ended run from its newest complete checkpoint, in the same directory; `queue` as in `start`.

    `changes`: other values of dotted keys, written to its run.json.

    Raises: UsageError when it still runs or has finished, or the checkpoint does not allow a change; PreflightError
    when another run uses its cards, or there are not enough.
    """
    info = read_info(run)
    state = read_state(run)
    if state.alive:
        raise UsageError.of(run.run_id, "is still running", f"t5panel attach {run.run_id}")
    if state.phase == "finished":
        raise UsageError.of(run.run_id, "has finished; there is nothing to resume")
    changed = changed_run(run, info, changes, cores=cores()) if changes else None
    if changed is not None:
        info = changed.info
        _refuse(_cards_missing(changed.spec), force=False, queue=False)
    _refuse(card_findings(info.cards, runs_home(), {}), force=False, queue=queue)
    if changed is not None:
        _rewrite_run(run, changed)
    run.request.unlink(missing_ok=True)
    for lock in run.cache.glob("torch_extensions/**/lock"):
        lock.unlink()  # of a build that was killed: the next one would wait for it for ever
    spawn_supervisor(run, queue=queue)


def _cards_missing(spec: RunSpec) -> tuple[Finding, ...]:
    return resolve_device(spec, read_machine())[1] if spec.device == "cuda" else ()


def _rewrite_run(run: RunDir, changed: Changed) -> None:
    """Raises: PreflightError when the disk does not let us."""
    try:
        for path, text in changed.files.items():
            write_atomic(path, text.encode())
        write_atomic(run.run_json, run_json(changed.info))
    except OSError as error:
        raise PreflightError.of(str(run.path), f"cannot be written: {error.strerror}") from error


def request_stop(run: RunDir, *, now: bool) -> bool:
    """Ask a run to end, with a checkpoint or at once; False when it has ended already."""
    state = read_state(run)
    if not state.alive or state.state is None:
        return False
    numbers = [signal.SIGUSR1]
    try:
        write_atomic(run.request, msgspec.json.encode(Request("kill" if now else "stop", time.time())))
    except OSError:  # a full disk: the supervisor takes one SIGTERM for a stop and two for a kill
        numbers = [signal.SIGTERM] * (2 if now else 1)
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):  # it ended a moment ago
            os.kill(state.state.supervisor.pid, number)
        time.sleep(0.05 * (len(numbers) - 1))  # two at once would count as one
    return True


def find_run(name: str) -> RunDir:
    """The run with this id, the start of an id, or a path; `last` is the newest.

    Raises: UsageError when none or several match.
    """
    path = user_path(name, "RUN")
    if os.access(RunDir(path).run_json, os.R_OK):
        return RunDir(path.resolve())
    runs = list(all_runs(runs_home()))
    if name == "last" and runs:
        return runs[0]
    matching = [run for run in runs if run.run_id == name] or [run for run in runs if run.run_id.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(run.run_id for run in (matching or runs)[:5]) or "none yet"
    raise UsageError.of(name, "matches several runs" if matching else "no such run", f"runs: {known}")


def spawn_supervisor(run: RunDir, *, queue: bool = False) -> None:
    """Start the detached supervisor of a run and wait until it holds the run.

    Raises: PreflightError when it does not come up.
    """
    run.logs.mkdir(exist_ok=True)
    with run.supervisor_log.open("ab") as log:
        # It forks itself away and returns: it is never our child, so nobody has to wait for it.
        process = subprocess.run(
            # -P: the run directory is no place to import from.
            [sys.executable, "-P", "-m", "t5panel.launch.supervisor", str(run.path), *(["--queue"] if queue else [])],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run.path,
            check=False,
        )
    deadline = time.monotonic() + SUPERVISOR_START_SECONDS
    while process.returncode == 0 and time.monotonic() < deadline:
        if run.state.exists():
            return
        time.sleep(0.02)
    words = run.supervisor_log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
    raise PreflightError.of(str(run.path), f"the supervisor did not start: {words[0]}")


def resolved_preset(wish: Wish, machine: Machine) -> Preset:
    """The preset with the overrides, and with what a rehearsal changes when it is one."""
    from t5panel.presets import load_preset

    preset = load_preset(wish.preset, wish.overrides)
    if wants_rehearsal(preset.spec, machine):
        preset = _rehearsed(preset, wish)
    return replace(preset, spec=with_interpreter(_with_absolute_paths(preset.spec)))


def save_as(name: str, wish: Wish) -> Path:
    """Save what a wish sets as a preset of the user's own, which means the same from any folder.

    Raises: UsageError for a name that cannot be one, and with every fault of the wish; OSError.
    """
    from t5panel.presets import load_preset, save_preset

    preset = load_preset(wish.preset, wish.overrides)
    return save_preset(name, preset, _with_absolute_paths(preset.spec))


def _rehearsed(preset: Preset, wish: Wish) -> Preset:
    from t5panel.presets import load_preset, rehearsal_changes

    changes = rehearsal_changes(preset, wish.overrides)
    changed = load_preset(wish.preset, changes, wish.overrides)
    values = ((key, attrgetter(key)) for key in changes)
    replaced = tuple(sorted(key for key, value in values if value(preset.spec) != value(changed.spec)))
    return replace(changed, replaced=replaced)


def _with_absolute_paths(spec: RunSpec) -> RunSpec:
    """The same spec from anywhere: the ranks do not run in the user's folder.

    Raises: UsageError with every path that is none.
    """
    faults: list[Fault] = []

    def absolute(key: str, text: str | None, *, always: bool) -> str | None:
        if text is None or is_builtin(text):
            return text
        try:
            path = user_path(text, key)
        except UsageError as error:
            faults.extend(error.faults)
            return text
        return str(path.absolute()) if always or os.access(path, os.F_OK) else text

    data = {name: absolute(f"data.{name}", getattr(spec.data, name), always=True) for name in ("train", "validation")}
    # A model that is no folder is a hub id.
    model = {
        name: absolute(f"model.{name}", getattr(spec.model, name), always=False)
        for name in ("name_or_path", "tokenizer")
    }
    # A program by name is left to PATH. Links stay: a venv's python is one.
    by_path = spec.interpreter is not None and "/" in spec.interpreter
    interpreter = absolute("interpreter", spec.interpreter, always=True) if by_path else spec.interpreter
    if faults:
        raise UsageError(faults)
    parts = {"data": spec.data.model_copy(update=data), "model": spec.model.model_copy(update=model)}
    return spec.model_copy(update={**parts, "interpreter": interpreter})


def _run_path(wish: Wish, preset: str) -> Path:
    return user_path(str(wish.run_dir), "--run-dir").absolute() if wish.run_dir else _fresh_run_dir(preset)


def _fresh_run_dir(name: str) -> Path:
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    home = runs_home()
    return next(path for n in range(1000) if not os.path.lexists(path := home / (stamp if n == 0 else f"{stamp}-{n}")))


def _refuse(errors: tuple[Finding, ...], *, force: bool, queue: bool) -> None:
    excused = (MEMORY_CODES if force else ()) + (BUSY_CODES if queue else ())
    blocking = [finding for finding in errors if finding.code not in excused]
    if not blocking:
        return
    kind: type[T5PanelError] = PreflightError
    if all(finding.code in MEMORY_CODES for finding in blocking):
        kind = DoesNotFitError
    raise kind(Fault(finding.code, finding.message, finding.hint) for finding in blocking)


def _write_run(prospect: Prospect) -> None:
    """Create the run directory complete, or not at all.

    Raises: PreflightError when the disk does not let us.
    """
    final = prospect.run.path
    draft = RunDir(final.with_name(f".{final.name}.{os.getpid()}.new"))
    try:
        final.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        _fill_run(draft, prospect)
        draft.path.rename(final)
    except OSError as error:
        shutil.rmtree(draft.path, ignore_errors=True)
        message = f"{final} cannot be written: {error.strerror}"
        raise PreflightError.of("run-dir", message, "name another with --run-dir") from error


def _link_run(run: RunDir) -> None:
    """Let a run that lives elsewhere be listed among all others."""
    home = runs_home()
    if run.path.parent.resolve() == home.resolve():
        return
    with contextlib.suppress(OSError):  # it can still be named by its path
        home.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
        _fresh_run_dir(run.run_id).symlink_to(run.path.resolve())


def _fill_run(draft: RunDir, prospect: Prospect) -> None:
    draft.path.mkdir(mode=PRIVATE)
    for folder in (draft.logs, draft.ranks, draft.checkpoints, draft.cache, draft.config):
        folder.mkdir()
    for path, text in {**prospect.prepare.files, **prospect.command.files}.items():
        (draft.path / path.relative_to(prospect.run.path)).write_text(text, encoding="utf-8")
    draft.run_json.write_bytes(run_json(_run_info(prospect)))


def _run_info(prospect: Prospect) -> RunInfo:
    plan = prospect.plan
    return RunInfo(
        run_id=prospect.run.run_id,
        preset=prospect.preset.name,
        created=time.time(),
        spec=plan.spec.model_dump(mode="json"),
        prepare=prospect.prepare.record,
        command=command_for(plan.spec, prospect.run, cores=plan.machine.cores).record,
        cards=card_indices(plan.spec) if plan.spec.device == "cuda" else (),
        interpreter=plan.spec.interpreter or sys.executable,
        versions={"t5panel": __version__, **prospect.versions},
        plan=_plan_record(plan),
        rehearsal=plan.rehearsal,
        forced=any(finding.code in MEMORY_CODES for finding in plan.errors),
    )


def _plan_record(plan: Plan) -> dict[str, Any]:
    """What of a plan is compared with the run when it has ended."""
    return {
        "verdict": plan.verdict,
        "memory": memory_label(plan),
        "effective_batch": plan.spec.effective_batch,
        "world_size": plan.spec.num_gpus,
        "shape": asdict(plan.shape) if plan.shape is not None else None,
        "cards": [card.name for card in used_cards(plan.spec, plan.machine)],
        "driver": next((card.driver for card in used_cards(plan.spec, plan.machine)), ""),
        "vram": [msgspec.to_builtins(_predicted(card)) for card in plan.cards],
        "samples_per_second": plan.estimate.samples_per_second,
    }


def _predicted(card: CardMemory) -> PredictedVram:
    need = card.need
    return PredictedVram(card.index, need.requested, need.allocated, need.reserved, card.context)


def list_runs() -> list[tuple[RunDir, RunInfo]]:
    """All runs of this user, newest first; a run whose description is unreadable is left out."""
    found = []
    for run in all_runs(runs_home()):
        with contextlib.suppress(UsageError):
            found.append((run, read_info(run)))
    return found


def end_leftovers(run: RunDir) -> tuple[int, ...]:
    """Kill what outlived the supervisor of a run; what could not be killed."""
    return stop_all(lambda: marked(run), lambda: None, grace=0.0).survivors
