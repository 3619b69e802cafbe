"""A plan as styled text of a given width: rows a step, verdict, bars by part, speed, suggestion, findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from t5panel.cells import left, width_of
from t5panel.errors import Fault
from t5panel.language import later, tr
from t5panel.plan.host import HostMemory
from t5panel.plan.machine import GIB
from t5panel.plan.memory import CardMemory
from t5panel.plan.planning import Finding, Plan
from t5panel.render.faults import SEVERITY_MARK
from t5panel.render.plan import card_parts, context_basis
from t5panel.render.speed import rate_text, time_text
from t5panel.tui.parts import Part
from t5panel.tui.widgets.stacked import Share, stacked

NAME_CELLS = 7
ROOMY, WIDE = 34, 48
"""Cells from which a unit stands behind a figure, and a range."""
LEAST_BAR = 6
ON_THE_BARS = "memory.vram"
"""What the bars above say already, card by card."""
FINDING_STYLES = {"info": "$quiet", "warning": "$warning", "error": "$error"}
VERDICTS = {
    "fits": (later("FITS"), "$success"),
    "tight": (later("TIGHT"), "$warning"),
    "no": (later("DOES NOT FIT"), "$error"),
    "unchecked": (later("NOT CHECKED"), "$warning"),
}
VERDICT_WORDS = {
    "fits": later("with room for every segment, at the longest rows"),
    "tight": later("if the allocator finds room for every block, at the longest rows"),
    "no": later("not even the blocks, at the longest rows"),
}
PART_STYLES = {
    "weights": "$series-0",
    "gradients": "$series-1",
    "optimizer": "$series-2",
    "activations": "$series-3",
    "logits": "$series-4",
    "buckets": "$series-5",
    "workspace": "$series-6",
    "overhead": "$part-overhead",
    "context": "$part-context",
}
"""In the order in which they are drawn, which is also that of the legend."""
SHORT = {"gradients": later("grads"), "optimizer": later("optim"), "activations": later("activ")}
"""Where there is little room."""


def plan_parts(
    formula: str, plan: Plan | None, faults: tuple[Fault, ...], *, width: int = 35, brief: bool = False
) -> Iterator[Part]:
    """The plan as styled text, `brief` without words of explanation; with faults, what must be set right first."""
    if faults:
        yield (tr("Set this right first") + "\n", "bold $error")
        for fault in faults:
            yield from _fault_parts(fault)
        return
    yield from ((formula, "bold $accent"), f" {tr('rows a step')}\n" if formula else "")
    if plan is None:
        yield (tr("looking at model, data and memory…"), "$quiet")
        return
    if not brief:
        on_cards = plan.spec.device == "cuda"
        meaning = tr("batch × accumulation × cards") if on_cards else tr("batch × accumulation × ranks")
        yield (f"{meaning}\n", "$quiet")
    yield from _verdict_parts(plan, brief=brief)
    yield from _suggestion_parts(plan, is_faster=False, brief=brief)
    yield from _finding_parts([found for found in plan.errors if found.code != ON_THE_BARS])
    yield from _memory_parts(plan, width, brief=brief)
    yield from _finding_parts([found for found in plan.errors if found.code == ON_THE_BARS])
    yield from _speed_parts(plan, width)
    yield from _suggestion_parts(plan, is_faster=True, brief=brief)
    yield from _finding_parts(
        [found for kind in ("warning", "info") for found in plan.findings if found.severity == kind]
    )
    yield from _basis_parts(plan)


def _fault_parts(fault: Fault) -> Iterator[Part]:
    """A setting by its name, whose help the form shows; anything else with its hint."""
    _, is_setting, key = fault.where.rpartition(": ")
    yield from (("✗ ", "$error"), f"{key.removeprefix('train.')}\n  {tr(fault.message)}\n")
    if fault.hint and not is_setting:
        yield (f"  {tr(fault.hint)}\n", "$quiet")


def _verdict_parts(plan: Plan, *, brief: bool) -> Iterator[Part]:
    if plan.verdict != "unchecked" and not plan.cards and plan.ram is None:
        return
    word, style = VERDICTS[plan.verdict]
    yield (f" {tr(word)} ", f"bold reverse {style}")
    if plan.verdict == "unchecked":
        yield "\n"
        return
    if not plan.cards:
        yield f" {tr('host RAM, estimate')}\n"
        return
    fullest = max(plan.cards, key=lambda card: card.expected / card.capacity)
    yield " " + tr("{low} to {high} GiB a card", low=_figure(fullest.low), high=_figure(fullest.high)) + "\n"
    if not brief:
        yield (tr(VERDICT_WORDS[plan.verdict]) + "\n", "$quiet")


def _memory_parts(plan: Plan, width: int, *, brief: bool) -> Iterator[Part]:
    for card in plan.cards:
        error = (card.low, card.high)
        shares = _card_shares(card)
        yield from _bar_parts(tr("card {index}", index=card.index), shares, card.expected, card.capacity, width, error)
    if plan.ram is not None:
        yield from _bar_parts(tr("host"), _host_shares(plan.ram), plan.ram.total, plan.ram.capacity, width, None)
    if plan.cards:
        names = SHORT if brief else {}
        shown = _shown(plan.cards[0]).items()
        yield from _legend(
            ((f"{tr(names.get(name, name))} {_figure(size)}", PART_STYLES[name]) for name, size in shown), width
        )
    if plan.ram is not None and not brief:
        each, rest = _figure(plan.ram.per_rank), _figure(plan.ram.launcher)
        text = tr("host: {ranks} ranks × {each} + {rest} GiB", ranks=plan.spec.num_gpus, each=each, rest=rest)
        yield (f"{text}\n", "$quiet")


def _shown(card: CardMemory) -> Mapping[str, int]:
    """The parts worth a word."""
    return {name: size for name, size in card_parts(card).items() if size >= GIB / 20}


def _card_shares(card: CardMemory) -> list[Share]:
    return [Share(size, PART_STYLES[name]) for name, size in card_parts(card).items()]


def _host_shares(ram: HostMemory) -> list[Share]:
    """Every rank in its own colour, as the run screen has it."""
    ranks = round(ram.ranks / ram.per_rank) if ram.per_rank else 0
    each = [Share(ram.per_rank, f"$series-{rank % 7}") for rank in range(ranks)]
    return [*each, Share(ram.launcher + ram.supervisor, PART_STYLES["overhead"])]


def _bar_parts(
    name: str, shares: list[Share], used: int, capacity: int, width: int, error: tuple[int, int] | None
) -> Iterator[Part]:
    """`card 0 ████▓▒├─┤░░  6.6/20.0 GiB`."""
    figures = f"{_figure(used):>5}/{_figure(capacity)}{' GiB' if width >= ROOMY else ''}"
    yield left(name, NAME_CELLS)
    yield from stacked(shares, capacity, max(LEAST_BAR, width - NAME_CELLS - len(figures)), error)
    yield (f"{figures}\n", "$error" if used > capacity else "")


def _legend(items: Iterable[tuple[str, str]], width: int) -> Iterator[Part]:
    """Each text behind a block of its colour, as many on a line as there is room for."""
    at = 0
    for text, style in items:
        cells = width_of(text) + 3
        if at and at + cells - 1 > width:
            yield "\n"
            at = 0
        yield from (("█ ", style), (f"{text} ", "$quiet"))
        at += cells
    yield "\n"


def _speed_parts(plan: Plan, width: int) -> Iterator[Part]:
    """Rate, time, energy and money; nothing where nothing is known of the speed."""
    rate, time = rate_text(plan.estimate), time_text(plan.estimate, brief=width < WIDE)
    if rate and time:
        yield f"{rate}\n{time}\n"


def _suggestion_parts(plan: Plan, *, is_faster: bool, brief: bool) -> Iterator[Part]:
    """What one key would set, and why."""
    for best in (best for best in plan.suggestions[:1] if best.is_faster == is_faster):
        faster = tr("faster") if brief else tr("next faster that fits")
        what = faster if best.is_faster else tr("this fits")
        yield from ((f"f {what}: ", "$accent"), f"{tr(best.title)}\n", (f"  {tr(best.reason)}\n", "$quiet"))


def _basis_parts(plan: Plan) -> Iterator[Part]:
    """Where the figures come from."""
    if plan.cards:
        memory = tr("memory: the step replayed through torch's allocator; {context}", context=tr(context_basis(plan)))
        yield (f"{memory}\n", "$quiet")
    yield (tr("speed: {basis}", basis=tr(plan.estimate.basis)) + "\n", "$quiet")


def _finding_parts(findings: Iterable[Finding]) -> Iterator[Part]:
    for found in findings:
        yield from ((f"{SEVERITY_MARK[found.severity]} ", FINDING_STYLES[found.severity]), f"{tr(found.message)}\n")
        yield (f"  {tr(found.hint)}\n" if found.hint else "", "$quiet")


def _figure(size: int) -> str:
    """Bytes in GiB with one decimal."""
    return f"{size / GIB:.1f}"
