"""Plans as plain text or JSON values: what would run, whether it fits, how long it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from t5panel.cells import left
from t5panel.contract.llamafactory import decoder_cutoff
from t5panel.contract.versions import SHOWN
from t5panel.language import tr
from t5panel.launch.commands import Command
from t5panel.plan.machine import GIB
from t5panel.plan.memory import CardMemory
from t5panel.plan.planning import Plan, batch_formula, memory_label
from t5panel.plan.records import Prediction
from t5panel.render.faults import SEVERITY_MARK
from t5panel.render.options import option_lines, options_json
from t5panel.render.speed import estimate_json, estimate_lines
from t5panel.render.values import gib, launch_text

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

MEMORY_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buckets", "workspace")
MEMORY_BASIS = "the model's own step replayed through torch's allocator at the longest rows (README, Measured)"


def plan_json(plan: Plan, command: Command) -> dict[str, Any]:
    """A plan as `plan --json` prints it. Parts that are not estimated yet are null."""
    cards = [_card_json(card) for card in plan.cards]
    ram = plan.ram
    return {
        "preset": plan.preset,
        "verdict": plan.verdict,
        "memory": memory_label(plan),
        "world_size": plan.spec.num_gpus,
        "effective_batch": plan.spec.effective_batch,
        "device": plan.spec.device,
        "rehearsal": plan.rehearsal,
        "spec": plan.spec.model_dump(mode="json"),
        "interpreter": plan.spec.interpreter or sys.executable,
        "versions": dict(plan.versions),
        "vram": {
            "per_card": cards,
            "low": max((card.low for card in plan.cards), default=None),
            "high": max((card.high for card in plan.cards), default=None),
            "basis": MEMORY_BASIS if plan.cards else None,
            "context_basis": context_basis(plan) or None,
        },
        "ram": None
        if ram is None
        else {
            "capacity": ram.capacity,
            "total": ram.total,
            "per_rank": ram.per_rank,
            "parts": {"ranks": ram.ranks, "launcher": ram.launcher, "supervisor": ram.supervisor},
        },
        "command": {"argv": list(command.argv), "env": dict(command.env)},
        "findings": [
            {"severity": found.severity, "code": found.code, "message": found.message, "hint": found.hint}
            for found in plan.findings
        ],
        "suggestions": [
            {"set": dict(each.settings), "verdict": each.verdict, "reason": each.reason} for each in plan.suggestions
        ],
        "options": options_json(plan),
        "estimate": estimate_json(plan.estimate),
    }


def _card_json(card: CardMemory) -> dict[str, Any]:
    return {
        "index": card.index,
        "capacity": card.capacity,
        "requested": card.need.requested,
        "allocated": card.need.allocated,
        "reserved": card.need.reserved,
        "start": card.need.start,
        "context": card.context,
        "context_most": card.context_most,
        "low": card.low,
        "high": card.high,
        "verdict": card.verdict,
        "parts": memory_parts(card),
    }


def memory_parts(card: CardMemory) -> dict[str, int]:
    """A card's requested bytes by purpose."""
    parts = card.need.parts
    return {name: getattr(parts, name) for name in MEMORY_PARTS}


def context_basis(plan: Plan) -> str:
    """How the context on each card is known; empty without cards."""
    return ", ".join(dict.fromkeys(card.context_basis for card in plan.cards))


def plan_lines(plan: Plan, command: Command) -> Iterator[str]:
    """A plan for people."""
    spec = plan.spec
    what = launch_text(spec.method, spec.launcher, spec.num_gpus, spec.device)
    yield titled(tr("preset"), f"{plan.preset}: {what}")
    yield titled(tr("machine"), tr(plan.machine.summary))
    yield titled(tr("python"), interpreter_text(plan))
    yield titled(tr("model"), spec.model.name_or_path)
    yield titled(tr("data"), f"{spec.data.train}, {_lengths(spec)}")
    yield titled(tr("batch"), tr("{formula} rows per optimizer step", formula=batch_formula(spec)))
    yield titled(tr("precision"), precision(plan))
    for card in plan.cards:
        sizes = {"need": card.expected, "capacity": card.capacity, "low": card.low, "high": card.high}
        words = {name: gib(size) for name, size in sizes.items()}
        text = tr("{need} of {capacity}, between {low} and {high}", **words)
        yield titled(tr("card {index}", index=card.index), text)
    if plan.cards:
        yield titled("", f"{parts_text(plan.cards[0])}; {tr(context_basis(plan))}")
    if plan.ram:
        total, capacity, per_rank = (gib(size) for size in (plan.ram.total, plan.ram.capacity, plan.ram.per_rank))
        text = tr("{total} of {capacity}, {each} per rank (estimate)", total=total, capacity=capacity, each=per_rank)
        yield titled(tr("host RAM"), text)
    yield from estimate_lines(plan.estimate)
    yield titled(tr("verdict"), tr(memory_label(plan) or plan.verdict))
    yield from suggestion_lines(plan)
    yield from option_lines(plan)
    yield from finding_lines(plan)
    yield titled(tr("command"), command.line)


def _lengths(spec: RunSpec) -> str:
    if spec.model.decoder_only:
        return tr("up to {count} tokens, prompt and answer together", count=decoder_cutoff(spec))
    source, target = spec.data.max_source_length, spec.data.max_target_length
    return tr("up to {source} → {target} tokens", source=source, target=target)


def titled(name: str, text: str) -> str:
    """A line of a plan: its name in ten cells, then what there is to say."""
    return f"{left(name, 9)} {text}"


def interpreter_text(plan: Plan) -> str:
    """Which Python will run the ranks, and the versions that matter there."""
    shown = [f"{name} {plan.versions[name]}" for name in SHOWN if name in plan.versions]
    return " · ".join([plan.spec.interpreter or sys.executable, *shown])


def suggestion_lines(plan: Plan) -> Iterator[str]:
    """What would fit or be faster, why, and the options that set it."""
    for each in plan.suggestions:
        yield titled(tr("faster") if each.is_faster else tr("fits"), f"{tr(each.title)}, {tr(each.reason)}")
        yield f"    {each.arguments}"


def finding_lines(plan: Plan) -> Iterator[str]:
    """What was found, one line each, hints indented below."""
    for found in plan.findings:
        yield f"{SEVERITY_MARK[found.severity]} {found.code}: {tr(found.message)}"
        if found.hint:
            yield f"    {tr(found.hint)}"


def precision(plan: Plan) -> str:
    """`bf16, checkpointing` and the ZeRO stage."""
    spec = plan.spec
    words = ["bf16" if spec.train.bf16 else "fp32"]
    if spec.train.gradient_checkpointing:
        words.append(tr("gradient checkpointing"))
    if spec.deepspeed is not None:
        words.append(f"ZeRO-{spec.zero_stage}")
    return ", ".join(words)


def rehearsal_notice(plan: Plan) -> str:
    """The first line of a rehearsal: what it is and what it is not."""
    spec = plan.spec
    words = tr(
        "REHEARSAL: {why}. The same method, launcher and code path run on {ranks} CPU ranks "
        "with {model} and {data}; figures say nothing about a GPU.",
        why=_why_on_cpu(plan),
        ranks=spec.num_gpus,
        model=spec.model.name_or_path,
        data=spec.data.train,
    )
    return words + (" " + tr("Replaced: {settings}.", settings=", ".join(plan.replaced)) if plan.replaced else "")


def rehearsal_headline(plan: Plan) -> str:
    """`rehearsal_notice` for a screen: what runs here, and what its figures are not."""
    return tr(
        "{why}: {ranks} CPU ranks train {model}; figures say nothing about a GPU",
        why=_why_on_cpu(plan),
        ranks=plan.spec.num_gpus,
        model=plan.spec.model.name_or_path,
    )


def _why_on_cpu(plan: Plan) -> str:
    return tr("the CPU was asked for") if plan.machine.cards else tr("no NVIDIA card was found")


def parts_text(card: CardMemory) -> str:
    """`weights 0.4, … context 1.2 GiB`; what the allocator adds to the parts is told as its overhead."""
    sizes = card_parts(card)
    return ", ".join(f"{tr(name)} {size / GIB:.1f}" for name, size in sizes.items() if size >= GIB / 20) + " GiB"


def card_parts(card: CardMemory) -> dict[str, int]:
    """All that a card will show as used, by part; what the allocator adds to the requested bytes is its overhead."""
    overhead = card.need.reserved - card.need.requested
    return {**memory_parts(card), "overhead": overhead, "context": card.context}


def prediction_lines(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Each record's predicted peaks, and their errors where they were measured."""
    for each in predictions:
        figures = {"requested": each.requested, "allocated": each.allocated, "reserved": each.reserved}
        errors = each.error or {}
        shown = (
            f"{name} {size / GIB:7.3f}" + (f" {100 * errors[name]:+6.2f} %" if name in errors else "")
            for name, size in figures.items()
        )
        yield f"{each.id:<78} {'  '.join(shown)}  GiB{'  FALSE FIT' if each.false_fit else ''}"
