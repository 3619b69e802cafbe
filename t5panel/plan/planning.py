"""Preset and machine → Plan: the value that everything after it acts on."""

from __future__ import annotations

from dataclasses import dataclass

from t5panel.contract.records import Severity
from t5panel.contract.shapes import Shape
from t5panel.contract.spec import RunSpec
from t5panel.plan.forecast import NOTHING_KNOWN, Experience, forecast
from t5panel.plan.host import HostMemory, host_memory
from t5panel.plan.machine import GIB, CardFacts, Machine
from t5panel.plan.memory import STATES_ONLY, CardMemory, Verdict, card_memory
from t5panel.plan.speed import Estimate
from t5panel.presets import Preset


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

    @property
    def verdict(self) -> Verdict:
        """The worst of the cards and the host."""
        verdicts = {card.verdict for card in self.cards} | ({self.ram.verdict} if self.ram else set())
        return next((verdict for verdict in ("no", "tight") if verdict in verdicts), "fits")

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that block a start."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


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
    findings: tuple[Finding, ...] = (),
    known: Experience = NOTHING_KNOWN,
) -> Plan:
    """The plan of a preset on a machine. `shape` is the model's, None when it could not be read."""
    spec, device_findings = resolve_device(preset.spec, machine)
    used = used_cards(spec, machine)
    cards = tuple(card_memory(spec, shape, card) for card in used) if shape else ()
    ram = host_memory(spec, shape, machine.ram_limit) if shape else None
    all_findings = (*device_findings, *findings, *_memory_findings(cards, ram))
    speed = forecast(spec, shape, used, known)
    return Plan(preset.name, spec, machine, rehearsal, preset.replaced, cards, ram, all_findings, shape, speed)


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


def _memory_findings(cards: tuple[CardMemory, ...], ram: HostMemory | None) -> tuple[Finding, ...]:
    found = []
    if cards:
        found.append(Finding("info", "memory.states-only", f"the VRAM figures are an estimate of {STATES_ONLY}"))
    for card in cards:
        if card.verdict == "no":
            need, have = (card.states + card.context) / GIB, card.capacity / GIB
            hint = "shard more (--set deepspeed.zero_optimization.stage=3) or take a smaller model"
            found.append(
                Finding(
                    "error",
                    "memory.vram",
                    f"card {card.index} needs {need:.1f} of {have:.1f} GiB for states alone",
                    hint,
                )
            )
    if ram and ram.verdict == "no":
        message = f"the ranks need {ram.total / GIB:.1f} GiB of host RAM, the limit is {ram.capacity / GIB:.1f} GiB"
        found.append(Finding("error", "memory.ram", message, "fewer ranks (--set num_gpus=…)"))
    return tuple(found)
