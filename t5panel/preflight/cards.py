"""What stands around the cards that a run would take: runs of ours that use them, a variable that hides them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from t5panel.contract.layout import RunDir, all_runs
from t5panel.errors import UsageError
from t5panel.monitor.runs import read_info, read_state
from t5panel.plan.planning import Finding

VISIBLE = "CUDA_VISIBLE_DEVICES"


def card_findings(cards: Sequence[int], home: Path, environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """What stands against these cards, by PCI index; nothing without cards. `home` is the folder of all runs."""
    if not cards:
        return ()
    return (*_busy(set(cards), home), *_hidden(environ))


def _busy(cards: set[int], home: Path) -> Iterator[Finding]:
    for run in all_runs(home):
        if read_state(run).alive and (taken := sorted(cards & set(_cards_of(run)))):
            words = f"card {taken[0]} is" if len(taken) == 1 else f"cards {', '.join(map(str, taken))} are"
            hint = f"take others with --gpus, or end it with `t5panel stop {run.run_id}`"
            yield Finding("error", "gpu.busy", f"{words} used by run {run.run_id}", hint)


def _cards_of(run: RunDir) -> tuple[int, ...]:
    try:
        return read_info(run).cards
    except UsageError:
        return ()


def _hidden(environ: Mapping[str, str]) -> Iterator[Finding]:
    if (value := environ.get(VISIBLE)) is not None:
        hint = "choose cards with --gpus, by their index in nvidia-smi"
        yield Finding("warning", "gpu.visible", f"{VISIBLE}={value} of this shell is not used", hint)
