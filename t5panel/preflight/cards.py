"""What stands around the cards that a run would take: who uses them, how they are set up, what hides them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from t5panel.contract.layout import RUN_DIR_VARIABLE, RunDir, all_runs
from t5panel.contract.records import Card, Severity
from t5panel.errors import UsageError
from t5panel.monitor.hardware import CardModes, CardProcess, Nvml
from t5panel.monitor.runs import read_info, read_state
from t5panel.plan.planning import Finding

VISIBLE = "CUDA_VISIBLE_DEVICES"
NOTABLE_BYTES = 256 * 2**20
"""A desktop or a monitor holds less of a card."""
COMMAND_WIDTH = 48
_MIB = 2**20


class Holder(msgspec.Struct, frozen=True):
    """A process that computes on a card; `used` in bytes, None where NVML does not say."""

    pid: int
    used: int | None
    user: str = ""
    """Empty for a process that cannot be seen from here: of another container."""
    command: str = ""
    run: RunDir | None = None
    """The run of ours that it belongs to."""
    run_alive: bool = False


class CardReading(msgspec.Struct, frozen=True):
    """One card with all that matters before a start."""

    card: Card
    name: str
    modes: CardModes
    holders: tuple[Holder, ...]


def read_cards(nvml: Nvml, indices: Sequence[int] | None = None) -> tuple[CardReading, ...]:
    """The cards with these PCI indices, or all."""
    return tuple(
        CardReading(
            card,
            nvml.name(card.index),
            nvml.modes(card.index),
            tuple(read_holder(process) for process in nvml.processes(card.index)),
        )
        for card in nvml.cards(indices)
    )


def read_holder(process: CardProcess, *, proc: Path = Path("/proc")) -> Holder:
    """Whose process it is and what it runs, as far as this user may see it."""
    folder = proc / str(process.pid)
    try:
        owner, words = folder.stat().st_uid, (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return Holder(process.pid, process.used)
    run = _run_of(folder / "environ")
    alive = run is not None and read_state(run).alive
    return Holder(process.pid, process.used, _user(owner), _short_command(words), run, alive)


def _run_of(environ: Path) -> RunDir | None:
    """The run whose mark a process carries; None for a process of another user, too."""
    try:
        entries = environ.read_bytes().split(b"\0")
    except OSError:
        return None
    mark = os.fsencode(f"{RUN_DIR_VARIABLE}=")
    return next((RunDir(Path(os.fsdecode(entry[len(mark) :]))) for entry in entries if entry.startswith(mark)), None)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _short_command(words: Sequence[bytes]) -> str:
    """`python -m package.module …` on one line; empty for a zombie."""
    program, *rest = (word.decode(errors="replace") for word in words)
    return " ".join(" ".join((Path(program).name, *rest)).split())[:COMMAND_WIDTH]


def card_findings(
    cards: Sequence[int], home: Path, environ: Mapping[str, str], *, nvml: Nvml | None = None
) -> tuple[Finding, ...]:
    """What stands against these cards, by PCI index; nothing without cards. `home` is the folder of all runs."""
    if not cards:
        return ()
    nvml = nvml or Nvml()
    lost = lost_findings(nvml.lost())
    readings = read_cards(nvml, cards)
    around = (found for reading in readings for found in (*holder_findings(reading), *mode_findings(reading)))
    return (*_busy(set(cards), home), *hidden_findings(environ), *lost, *(found for found in around if _matters(found)))


def _matters(finding: Finding) -> bool:
    return finding.severity != "info"


def _busy(cards: set[int], home: Path) -> Iterator[Finding]:
    for run in all_runs(home):
        state = read_state(run)
        resting = state.phase == "paused"  # it has let its cards go
        if state.alive and not resting and (taken := sorted(cards & set(_cards_of(run)))):
            words = f"card {taken[0]} is" if len(taken) == 1 else f"cards {', '.join(map(str, taken))} are"
            end = f"`t5panel stop {run.run_id}`"
            hint = f"take others with --gpus, wait with --queue (w in the panel), or end it with {end}"
            yield Finding("error", "gpu.busy", f"{words} used by run {run.run_id}", hint)


def _cards_of(run: RunDir) -> tuple[int, ...]:
    try:
        return read_info(run).cards
    except UsageError:
        return ()


def hidden_findings(environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """A variable of the shell that would hide cards from another program."""
    if (value := environ.get(VISIBLE)) is None:
        return ()
    hint = "choose cards with --gpus, by their index in nvidia-smi"
    return (Finding("warning", "gpu.visible", f"{VISIBLE}={value} of this shell is not used", hint),)


def holder_findings(reading: CardReading) -> tuple[Finding, ...]:
    """Processes that hold a good part of a card; a run of ours that lives is only told of, its start was meant."""
    notable = [holder for holder in reading.holders if holder.used is None or holder.used > NOTABLE_BYTES]
    ours = [holder for holder in notable if holder.run_alive]
    others = [holder for holder in notable if not holder.run_alive]
    index = reading.card.index
    found = []
    if runs := sorted({holder.run.run_id for holder in ours if holder.run}):
        found.append(Finding("info", "gpu.own-run", f"card {index} is used by run {', '.join(runs)}"))
    if others:
        held = sum(holder.used or 0 for holder in others)
        severity: Severity = "error" if held > reading.card.total / 2 else "warning"
        message = f"card {index} is in use: {'; '.join(map(_holder_text, others))}"
        found.append(Finding(severity, "gpu.in-use", message, _holder_hint(others)))
    return tuple(found)


def _holder_text(holder: Holder) -> str:
    size = "an unknown share" if holder.used is None else f"{holder.used / _MIB:,.0f} MiB"
    if holder.run is not None:
        return f"pid {holder.pid} ({size}), left over by run {holder.run.run_id}"
    if not holder.user:
        return f"pid {holder.pid} ({size}), which cannot be seen from here"
    return f"pid {holder.pid} of {holder.user}, {holder.command} ({size})"


def _holder_hint(holders: Sequence[Holder]) -> str:
    if runs := sorted({holder.run.run_id for holder in holders if holder.run}):
        return f"end what is left with `t5panel stop {runs[0]}`"
    return "wait for it or end it, or take other cards with --gpus"


def lost_findings(lost: Sequence[int]) -> tuple[Finding, ...]:
    """Cards that fell off the bus."""
    hint = "`dmesg | grep -i xid` says why; a reboot brings it back, unless cable, power or card are broken"
    return tuple(Finding("warning", "gpu.lost", f"card {index} does not answer any more", hint) for index in lost)


def mode_findings(reading: CardReading) -> tuple[Finding, ...]:
    """What a card's modes, memory errors and clocks say."""
    index, modes = reading.card.index, reading.modes
    found = []
    if modes.mig:
        hint = f"t5panel takes whole cards: sudo nvidia-smi -i {index} -mig 0"
        found.append(Finding("warning", "gpu.mig", f"card {index} is split into instances (MIG)", hint))
    if modes.ecc_errors:
        message = f"card {index} had {modes.ecc_errors:,} memory errors that could not be corrected"
        found.append(Finding("warning", "gpu.ecc", message, f"results may be wrong: nvidia-smi -q -i {index} -d ECC"))
    if reading.card.throttle:
        message = f"card {index} is slowed down: {', '.join(reading.card.throttle)}"
        found.append(Finding("warning", "gpu.throttled", message, "look at its fans, the air around it and its power"))
    if modes.persistence is False:
        message = f"card {index} forgets its state when nobody uses it (persistence mode is off): slow first calls"
        found.append(Finding("info", "gpu.persistence", message, "sudo nvidia-smi -pm 1"))
    return tuple(found)
