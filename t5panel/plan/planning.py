"""Preset and machine → Plan: the value that everything after it acts on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from t5panel.contract.memory_table import minor
from t5panel.contract.records import Severity
from t5panel.contract.shapes import Shape
from t5panel.plan.context import MeasuredContext, context_of
from t5panel.plan.forecast import NOTHING_KNOWN, Experience, forecast
from t5panel.plan.host import HostMemory, host_memory
from t5panel.plan.machine import GIB, CardFacts, Machine
from t5panel.plan.memory import CardMemory, Verdict, card_memory, training_step
from t5panel.plan.need import need_of, quick_need
from t5panel.plan.solve import Job, Option, Suggestion, solve, suggest
from t5panel.plan.speed import Estimate
from t5panel.plan.table import NoTableError, load_table

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec
    from t5panel.presets import Preset

NOT_CHECKED = "not checked by t5panel's memory plan"
"""The label of a run whose memory nobody foretells."""
SMALLER_MODEL = "a smaller model or another card: no batch is small enough"
LESS_MEMORY = "a smaller batch with more accumulation, gradient_checkpointing=true, or another card"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth knowing before a start; an error blocks it."""

    severity: Severity
    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as it would start: the resolved spec, the memory verdict and everything found."""

    preset: str
    spec: RunSpec
    machine: Machine
    rehearsal: bool
    replaced: tuple[str, ...]
    """Keys whose values the rehearsal has changed."""
    cards: tuple[CardMemory, ...]
    ram: HostMemory | None
    findings: tuple[Finding, ...]
    shape: Shape | None
    """The model's, None when it could not be read."""
    estimate: Estimate
    suggestions: tuple[Suggestion, ...] = ()
    """What fits when this does not, or what would be faster; the best first."""
    options: tuple[Option, ...] = ()
    """All that surely fits with as many rows a step, by estimated speed; this plan's own settings may be among it."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the packages that the ranks will import."""

    @property
    def verdict(self) -> Verdict | Literal["unchecked"]:
        """The worst of the cards and the host; a decoder-only model is not checked."""
        if self.spec.model.decoder_only:
            return "unchecked"
        verdicts = {card.verdict for card in self.cards} | ({self.ram.verdict} if self.ram else set())
        return "no" if "no" in verdicts else "tight" if "tight" in verdicts else "fits"

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that block a start."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def memory_label(plan: Plan) -> str | None:
    """What stands beside a plan instead of figures of memory; None where there are such."""
    return NOT_CHECKED if plan.verdict == "unchecked" else None


def wants_rehearsal(spec: RunSpec, machine: Machine) -> bool:
    """True when this start is a rehearsal: nothing but shipped defaults, and the CPU by choice or by lack of cards."""
    on_cpu = spec.device == "cpu" or (spec.device == "auto" and not machine.cards)
    return on_cpu and uses_shipped_defaults(spec)


def uses_shipped_defaults(spec: RunSpec) -> bool:
    """True when model and data are those the shipped presets name."""
    shipped_model = spec.model.name_or_path in ("builtin:t5-base", "builtin:tiny") and spec.model.tokenizer is None
    return shipped_model and spec.data.train == "builtin:docstrings" and spec.data.validation is None


def resolve_device(spec: RunSpec, machine: Machine) -> tuple[RunSpec, tuple[Finding, ...]]:
    """The spec with `device` decided, and what stands against it."""
    if spec.device == "auto" and not machine.cards and not uses_shipped_defaults(spec):
        finding = Finding(
            "error",
            "gpu.none",
            "no NVIDIA card was found, and this is a model or data of your own",
            "--device cpu trains it on the CPU all the same (slow)",
        )
        return spec.model_copy(update={"device": "cuda"}), (finding,)
    device = "cuda" if spec.device == "cuda" or (spec.device == "auto" and machine.cards) else "cpu"
    resolved = spec.model_copy(update={"device": device})
    if device == "cpu":
        return resolved, ()
    first = tuple(card.index for card in machine.cards[: spec.num_gpus])
    if spec.gpus is None and len(first) == spec.num_gpus and first != tuple(range(spec.num_gpus)):
        resolved = resolved.model_copy(update={"gpus": first})  # a card before them is lost
    return resolved, _card_findings(resolved, machine)


def make_plan(
    preset: Preset,
    machine: Machine,
    *,
    shape: Shape | None,
    rehearsal: bool,
    versions: Mapping[str, str],
    findings: tuple[Finding, ...] = (),
    known: Experience = NOTHING_KNOWN,
) -> Plan:
    """The plan of a preset on a machine. `shape` is the model's, None when it could not be read.

    `versions` are those of the packages that the ranks will import.
    """
    spec, device_findings = resolve_device(preset.spec, machine)
    used = used_cards(spec, machine)
    cards, memory_findings = _cards(spec, shape, used, versions, known.contexts)
    ram = host_memory(spec, shape, machine.ram_limit) if shape else None
    suggestions: tuple[Suggestion, ...] = ()
    options: tuple[Option, ...] = ()
    if shape is not None and not device_findings:
        job = Job(spec, shape, used, cards, machine.ram_limit, versions, known)
        options = solve(job)
        suggestions = suggest(job, options)
    all_findings = (*device_findings, *findings, *memory_findings, *_memory_findings(cards, ram, suggestions))
    speed = forecast(spec, shape, used, known)
    return Plan(
        preset.name,
        spec,
        machine,
        rehearsal,
        preset.replaced,
        cards,
        ram,
        all_findings,
        shape,
        speed,
        suggestions,
        tuple(option for option in options if option.sure),
        versions,
    )


def glance(plan: Plan, preset: Preset, *, versions: Mapping[str, str], known: Experience = NOTHING_KNOWN) -> Plan:
    """The plan of other settings of the same model, in closed form: two milliseconds, for a screen while one types.

    The allocator adds to what is requested as much as in `plan`; nothing is suggested. What was found in files and on
    the machine is taken to be as it was.
    """
    spec, device_findings = resolve_device(preset.spec, plan.machine)
    used, shape = used_cards(spec, plan.machine), plan.shape
    try:
        cards = _glanced_cards(plan, spec, used, versions, known.contexts)
    except NoTableError:
        cards = ()
    ram = host_memory(spec, shape, plan.machine.ram_limit) if shape else None
    kept = tuple(found for found in plan.findings if not found.code.startswith(("memory.", "gpu.")))
    return replace(
        plan,
        spec=spec,
        cards=cards,
        ram=ram,
        findings=(*device_findings, *kept, *_memory_findings(cards, ram, ())),
        estimate=forecast(spec, shape, used, known),
        suggestions=(),
        options=(),
    )


def _glanced_cards(
    plan: Plan,
    spec: RunSpec,
    used: tuple[CardFacts, ...],
    versions: Mapping[str, str],
    measured: tuple[MeasuredContext, ...],
) -> tuple[CardMemory, ...]:
    if plan.shape is None or not plan.cards or not used:
        return ()
    need = quick_need(training_step(spec, plan.shape, versions, used), plan.cards[0].need)
    return tuple(card_memory(need, card, context_of(spec, card, versions, measured)) for card in used)


def used_cards(spec: RunSpec, machine: Machine) -> tuple[CardFacts, ...]:
    """The cards a spec takes on a machine; none on the CPU."""
    if spec.device != "cuda":
        return ()
    if spec.gpus is None:
        return machine.cards[: spec.num_gpus]
    return tuple(card for card in machine.cards if card.index in spec.gpus)


def batch_formula(spec: RunSpec) -> str:
    """`8 x 16 x 3 = 384`: rows per card, accumulation, ranks, rows per optimizer step."""
    return formula(spec.train.per_device_train_batch_size, spec.train.gradient_accumulation_steps, spec.num_gpus)


def formula(batch: int, accumulation: int, ranks: int) -> str:
    """`batch_formula` from its three numbers."""
    return f"{batch} × {accumulation} × {ranks} = {batch * accumulation * ranks}"


def _card_findings(spec: RunSpec, machine: Machine) -> tuple[Finding, ...]:
    present = {card.index for card in machine.cards}
    if spec.gpus is not None and (absent := sorted(set(spec.gpus) - present)):
        return (
            Finding(
                "error", "gpu.absent", f"cards {absent} do not exist; found {sorted(present)}", "see `nvidia-smi -L`"
            ),
        )
    if len(present) < spec.num_gpus:
        hint = (
            f"--set num_gpus={len(present)}" if present else "check `nvidia-smi`; --device cpu trains on the CPU (slow)"
        )
        return (Finding("error", "gpu.too-few", f"{spec.num_gpus} cards were asked for, {len(present)} found", hint),)
    return ()


def _cards(
    spec: RunSpec,
    shape: Shape | None,
    used: tuple[CardFacts, ...],
    versions: Mapping[str, str],
    measured: tuple[MeasuredContext, ...],
) -> tuple[tuple[CardMemory, ...], tuple[Finding, ...]]:
    """What the run needs on each card; nothing where it cannot be known, and why."""
    if shape is None or not used:
        return (), ()
    try:
        if "transformers" not in versions:
            raise NoTableError.of("transformers", "is not installed where the ranks run, so no peak can be predicted")
        need = need_of(training_step(spec, shape, versions, used))
    except NoTableError as error:
        return (), tuple(
            Finding("warning", "memory.unknown", f"{fault.where} {fault.message}", fault.hint) for fault in error.faults
        )
    cards = tuple(card_memory(need, card, context_of(spec, card, versions, measured)) for card in used)
    return cards, _torch_findings(versions)


def _torch_findings(versions: Mapping[str, str]) -> tuple[Finding, ...]:
    """Whether the memory table was made with the torch that the ranks will import."""
    ours, known = minor(versions.get("torch", "")), load_table(versions["transformers"]).torch
    if ours in known:
        return ()
    message = f"the memory is predicted as with torch {' and '.join(known)}; the ranks have torch {ours or 'unknown'}"
    return (Finding("info", "memory.torch", message, "after a run the plan shows how far it was off"),)


def _memory_findings(
    cards: tuple[CardMemory, ...], ram: HostMemory | None, suggestions: tuple[Suggestion, ...]
) -> tuple[Finding, ...]:
    found = []
    fitting = [f"{best.title} fits: {best.arguments}" for best in suggestions]
    for number, card in enumerate(cards):
        less = "" if number else next(iter(fitting), LESS_MEMORY)
        have = f"{card.capacity / GIB:.1f} GiB are free"
        if card.verdict == "no" and card.need.start > card.need.allocated:
            message = f"card {card.index} needs {card.low / GIB:.1f} GiB to build the model, {have}"
            found.append(Finding("error", "memory.vram", message, "" if number else next(iter(fitting), SMALLER_MODEL)))
        elif card.verdict == "no":
            message = f"card {card.index} needs {card.low / GIB:.1f} GiB at least, {have}"
            found.append(Finding("error", "memory.vram", message, less))
        elif card.verdict == "tight":
            message = (
                f"card {card.index} takes {card.expected / GIB:.1f} GiB when it can, {have}: "
                "it runs if the allocator finds room for every block"
            )
            found.append(Finding("warning", "memory.tight", message, less))
    if ram and ram.verdict == "no":
        message = f"the ranks need {ram.total / GIB:.1f} GiB of host RAM, the limit is {ram.capacity / GIB:.1f} GiB"
        found.append(Finding("error", "memory.ram", message, next(iter(fitting), "fewer ranks (--set num_gpus=…)")))
    return tuple(found)
