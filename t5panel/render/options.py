"""What else fits, ranked: the solver's options as lines and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from t5panel.cells import left
from t5panel.language import tr
from t5panel.plan.machine import GIB
from t5panel.plan.planning import Plan
from t5panel.plan.solve import Option, changes, title_of

SHOWN = 10
"""Options that are told one by one; the others are counted."""
RATE_CELLS = 17


def options_json(plan: Plan) -> dict[str, Any]:
    """How many settings surely fit, and the fastest of them: what each changes, its sizes and what it needs."""
    return {
        "effective_batch": plan.spec.effective_batch,
        "fitting": len(plan.options),
        "ranked": [_option_json(plan, option) for option in plan.options[:SHOWN]],
    }


def _option_json(plan: Plan, option: Option) -> dict[str, Any]:
    train = option.spec.train
    return {
        "set": changes(plan.spec, option.spec),
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "gradient_checkpointing": train.gradient_checkpointing,
        "zero_stage": option.spec.zero_stage,
        "effective_batch": option.spec.effective_batch,
        "samples_per_second": option.rate,
        "at_most": option.most + _context(plan),
    }


def option_lines(plan: Plan) -> Iterator[str]:
    """The same for people; nothing where nothing is known to fit."""
    if not plan.options:
        return
    words = tr(
        "{count} settings with {rows} rows a step surely fit", count=len(plan.options), rows=plan.spec.effective_batch
    )
    if len(plan.options) > SHOWN:
        words = tr("{words}; the first {shown}:", words=words, shown=SHOWN)
    yield f"{left(tr('options'), 9)} {words}"
    for option in plan.options[:SHOWN]:
        rate = "" if option.rate is None else left(tr("{rate:.1f} samples/s", rate=option.rate), RATE_CELLS)
        most = tr("at most {size} GiB", size=f"{(option.most + _context(plan)) / GIB:.1f}")
        yield f"    {rate}{most}  {tr(title_of(plan.spec, option.spec))}"


def _context(plan: Plan) -> int:
    return max((card.context_most for card in plan.cards), default=0)
