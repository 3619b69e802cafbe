"""The plan beside the form: effective batch, memory, verdict, findings."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from t5panel.cells import left
from t5panel.contract.records import Severity
from t5panel.errors import Fault
from t5panel.language import later, tr
from t5panel.plan.machine import GIB
from t5panel.plan.planning import Plan
from t5panel.render import SEVERITY_MARK, gib, parts_text
from t5panel.render_speed import rate_text, time_text
from t5panel.tui.parts import Part
from t5panel.tui.widgets.bars import bar

BAR_CELLS = 8
FINDING_STYLES = {"info": "$quiet", "warning": "$warning", "error": "$error"}
VERDICTS = {
    "fits": (later("FITS"), "$success"),
    "tight": (later("TIGHT"), "$warning"),
    "no": (later("DOES NOT FIT"), "$error"),
}
VERDICT_WORDS = {
    "fits": later("with room for every segment"),
    "tight": later("if the allocator finds room for every block"),
    "no": later("not even the blocks"),
}


class PlanPane(VerticalScroll, can_focus=False):
    """Shows what would happen; with faults, what must be set right first."""

    formula: reactive[str] = reactive("")
    plan: reactive[Plan | None] = reactive(None)
    faults: reactive[tuple[Fault, ...]] = reactive(())
    pending: reactive[bool] = reactive(default=False)

    def __init__(self) -> None:
        super().__init__(classes="section")
        self.border_title = tr("Plan")
        self._text = Static()

    def compose(self) -> ComposeResult:
        """One text."""
        yield self._text

    def watch_pending(self, pending: bool) -> None:
        """Say that the plan is being made anew."""
        self.border_title = tr("Plan · checking…") if pending else tr("Plan")

    def watch_formula(self) -> None:
        """Show it."""
        self._show()

    def watch_plan(self) -> None:
        """Show it."""
        self._show()

    def watch_faults(self) -> None:
        """Show them."""
        self._show()

    def _show(self) -> None:
        self._text.update(Content.assemble(*plan_parts(self.formula, self.plan, self.faults)))


def plan_parts(formula: str, plan: Plan | None, faults: tuple[Fault, ...]) -> Iterator[Part]:
    """The plan as styled text."""
    if faults:
        yield (tr("Set this right first") + "\n", "bold $error")
        for fault in faults:
            yield from _fault_parts(fault)
        return
    yield from ((formula, "bold $accent"), f" {tr('rows a step')}\n" if formula else "")
    if plan is None:
        yield (tr("looking at model, data and memory…"), "$quiet")
        return
    on_cards = plan.spec.device == "cuda"
    meaning = tr("batch × accumulation × cards") if on_cards else tr("batch × accumulation × ranks")
    yield (f"{meaning}\n", "$quiet")
    yield from _suggestion_parts(plan, tr("this fits"), is_faster=False)
    yield from _finding_parts(plan, "error")
    yield from _verdict_parts(plan)
    yield from _suggestion_parts(plan, tr("next faster that fits"), is_faster=True)
    yield from _memory_parts(plan)
    yield from _speed_parts(plan)
    yield from _finding_parts(plan, "warning", "info")


def _suggestion_parts(plan: Plan, what: str, *, is_faster: bool) -> Iterator[Part]:
    """What one key would set, and why."""
    for best in plan.suggestions[:1]:
        if best.is_faster == is_faster:
            yield from ((f"f {what}: ", "$accent"), f"{tr(best.title)}\n", (f"  {tr(best.reason)}\n", "$quiet"))


def _fault_parts(fault: Fault) -> Iterator[Part]:
    """A setting by its name, whose help the form shows; anything else with its hint."""
    _, is_setting, key = fault.where.rpartition(": ")
    yield from (("✗ ", "$error"), f"{key.removeprefix('train.')}\n  {tr(fault.message)}\n")
    if fault.hint and not is_setting:
        yield (f"  {tr(fault.hint)}\n", "$quiet")


def _memory_parts(plan: Plan) -> Iterator[Part]:
    if plan.cards:
        yield (tr("VRAM at the longest rows") + "\n", "$quiet")
    for card in plan.cards:
        yield from _bar_parts(tr("card {index}", index=card.index), card.expected, card.capacity)
    if plan.ram:
        yield from _bar_parts(tr("host"), plan.ram.total, plan.ram.capacity)
        yield (
            "  " + tr("{ranks} ranks × {size}", ranks=plan.spec.num_gpus, size=gib(plan.ram.per_rank)) + "\n",
            "$quiet",
        )
    if plan.cards:
        yield (tr("each card: {parts}", parts=parts_text(plan.cards[0])) + "\n", "$quiet")


def _speed_parts(plan: Plan) -> Iterator[Part]:
    """Rate, time and energy, and where they come from; nothing where nothing is known of the speed."""
    rate, time = rate_text(plan.estimate), time_text(plan.estimate)
    if rate and time:
        yield f"{rate}\n{time}\n"
        yield (tr("estimate: {basis}", basis=tr(plan.estimate.basis)) + "\n", "$quiet")


def _bar_parts(name: str, used: int, capacity: int) -> Iterator[Part]:
    full, empty = bar(used / capacity, BAR_CELLS)
    style = "$error" if used > capacity else "$primary"
    yield from (left(name, 7), (full, style), (empty, "$rule"), f" {used / GIB:.1f}/{capacity / GIB:.1f} GiB\n")


def _verdict_parts(plan: Plan) -> Iterator[Part]:
    if not plan.cards and plan.ram is None:
        return
    word, style = VERDICTS[plan.verdict]
    yield from (
        (f" {tr(word)} ", f"bold reverse {style}"),
        " " + (tr(VERDICT_WORDS[plan.verdict]) if plan.cards else tr("host RAM, estimate")) + "\n",
    )


def _finding_parts(plan: Plan, *severities: Severity) -> Iterator[Part]:
    for found in (found for severity in severities for found in plan.findings if found.severity == severity):
        yield from ((f"{SEVERITY_MARK[found.severity]} ", FINDING_STYLES[found.severity]), f"{tr(found.message)}\n")
        yield (f"  {tr(found.hint)}\n" if found.hint else "", "$quiet")
