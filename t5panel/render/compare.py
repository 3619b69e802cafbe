"""A comparison of runs as aligned columns, as Markdown and as JSON values. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from t5panel.cells import left, width_of, wrapped
from t5panel.language import later, tr
from t5panel.monitor.compare import Comparison, Figures, Setup, Stability
from t5panel.plan.cards import short_name
from t5panel.plan.machine import GIB
from t5panel.plan.planning import formula
from t5panel.render.speed import count_text, rough
from t5panel.render.values import duration, gib, loss_text, mib, value_text

UNKNOWN = "—"
MOST_COLUMNS = 4
LEAST_WIDTH = 14
"""Cells of a run's column: below it the runs are told in several tables."""
GAP = 2
FOLDS = "._-/:"
"""Signs behind which a long word may go on below."""

Row = tuple[str, tuple[str, ...]]
"""A label, and a cell of each run."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the table: its title and its rows."""

    title: str
    rows: tuple[Row, ...]


def sections(found: Comparison) -> tuple[Section, ...]:
    """Differing settings first, then what was measured; what is unknown is a dash."""
    settings = tuple((each.key, tuple(map(_value, each.values))) for each in found.settings)
    several = len(found.runs) > 1
    return (
        *(
            [Section(tr("settings that differ"), settings or ((tr("none"), ("",) * len(found.runs)),))]
            if several
            else []
        ),
        Section(tr("run"), _rows(found, _RUN)),
        Section(tr("measured"), _rows(found, _MEASURED)),
        Section(tr("{count} samples at that pace (estimate)", count=count_text(found.samples)), _projected(found)),
        Section(tr("stability"), _rows(found, _STABILITY)),
    )


def title_text(part: Section) -> str:
    """A section's title as a line of its own."""
    return part.title.upper()


def notes(found: Comparison) -> Iterator[str]:
    """What the figures are not."""
    changed = tr("pace, memory and power are those since its settings last changed")
    kinds: tuple[tuple[str, Callable[[Figures], bool | int]], ...] = (
        (tr("on the CPU, says nothing about a GPU"), lambda run: run.on_cpu),
        (tr("not ended, the figures are those until now"), lambda run: run.alive),
        (changed, lambda run: run.settings_changed),
    )
    for text, holds in kinds:
        names = [run.run_id for run in found.runs if holds(run)]
        if names:
            yield f"{text}: {', '.join(names)}"
    yield tr(
        "pace: median of warm steps, without evaluations and saves; energy: of the cards alone, at their mean power"
    )


def comparison_lines(found: Comparison, *, width: int, numbered: bool = False) -> Iterator[str]:
    """Tables of at most four runs each, as many as fit into `width` columns of text; runs numbered as in a plot."""
    parts = sections(found)
    heads = [f"{at}\N{NO-BREAK SPACE}{run.run_id}" if numbered else run.run_id for at, run in enumerate(found.runs, 1)]
    longest = max(width_of(row[0]) for part in parts for row in part.rows)
    label = min(longest, max(LEAST_WIDTH, width // 3))
    at_once = min(MOST_COLUMNS, max(1, (width - label) // (LEAST_WIDTH + GAP)))
    for begin in range(0, len(found.runs), at_once):
        chosen = slice(begin, begin + at_once)
        yield from _table_lines(parts, heads[chosen], chosen, label, width)
        yield ""
    yield from (line for note in notes(found) for line in wrapped(note, max(20, width), indent="  "))


def markdown_lines(found: Comparison) -> Iterator[str]:
    """One Markdown table for each section."""
    heads = tuple(f"`{run.run_id}`" for run in found.runs)
    for part in sections(found):
        yield _markdown_row(part.title, heads)
        yield "|---" * (len(heads) + 1) + "|"
        yield from (_markdown_row(label, cells) for label, cells in part.rows)
        yield ""
    yield from (f"- {note}" for note in notes(found))


def comparison_json(found: Comparison) -> dict[str, Any]:
    """All figures with their units of origin: bytes, seconds, watts, kWh; what is unknown is null."""
    import msgspec

    value: dict[str, Any] = msgspec.to_builtins(found)
    return value


def _table_lines(
    parts: Sequence[Section], heads: Sequence[str], chosen: slice, label: int, width: int
) -> Iterator[str]:
    fair = max(1, (width - label) // len(heads) - GAP)
    widths = [
        min(fair, max(width_of(head), *(width_of(row[1][chosen][at]) for part in parts for row in part.rows)))
        for at, head in enumerate(heads)
    ]
    yield from _row_lines("", heads, label, widths)
    for part in parts:
        yield from ("", title_text(part))
        for name, cells in part.rows:
            yield from _row_lines(name, cells[chosen], label, widths)


def _row_lines(name: str, cells: Sequence[str], label: int, widths: Sequence[int]) -> Iterator[str]:
    """A row; what is wider than its column goes on below."""
    columns = (label, *widths)
    folded = [list(_folded(text, width)) for text, width in zip((name, *cells), columns, strict=True)]
    for lines in zip_longest(*folded, fillvalue=""):
        shown = (left(text, width) for text, width in zip(lines, columns, strict=True))
        yield (" " * GAP).join(shown).rstrip()


def _folded(text: str, width: int) -> Iterator[str]:
    """Lines of at most `width`: folded at a space, else within a word behind a sign, else anywhere."""
    for line in wrapped(text, width) if text else ():
        rest = line
        while width_of(rest) > width:
            signs = [at + 1 for at, sign in enumerate(rest[:width]) if sign in FOLDS]
            at = signs[-1] if signs else width
            yield rest[:at]
            rest = rest[at:]
        yield rest


def _markdown_row(label: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in (label, *cells))} |"


def _rows(found: Comparison, table: Sequence[tuple[str, Callable[[Figures], str]]]) -> tuple[Row, ...]:
    """Rows that say nothing of any run are left out."""
    rows = ((tr(label), tuple(text(run) for run in found.runs)) for label, text in table)
    return tuple(row for row in rows if any(cell != UNKNOWN for cell in row[1]))


def _projected(found: Comparison) -> tuple[Row, ...]:
    money = ["cost"] if found.price is not None else []
    each = [run.projection for run in found.runs]
    values = {
        later("time"): tuple(_text(one.seconds, duration) for one in each),
        later("energy"): tuple(_text(one.kwh, lambda kwh: f"{rough(kwh)} kWh") for one in each),
        later("cost"): tuple(_text(one.cost, rough) for one in each),
    }
    return tuple((tr(label), values[label]) for label in ("time", "energy", *money))


def _text(value: Any, write: Callable[[Any], str]) -> str:  # noqa: ANN401
    return UNKNOWN if value is None else write(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _value(value: Any) -> str:  # noqa: ANN401
    """A value of a spec as YAML has it."""
    return _text(value, value_text)


def _place(run: Figures) -> str:
    setup = run.setup
    if run.on_cpu:
        return tr("{ranks} CPU ranks", ranks=setup.world_size) + (f", {tr('REHEARSAL')}" if run.rehearsal else "")
    kinds = {name: setup.cards.count(name) for name in setup.cards}
    names = ", ".join(f"{count} × {short_name(name)}" for name, count in kinds.items())
    return names or _text(setup.world_size, lambda count: tr("{count} cards", count=count))


def _batch(run: Figures) -> str:
    setup = run.setup
    return UNKNOWN if setup.batch is None or setup.world_size is None else formula(*setup.batch, setup.world_size)


def techniques(setup: Setup) -> str:
    """`bf16, gradient checkpointing, ZeRO-2, optimizer on the host, adamw_torch_fused, sdpa`."""
    words = [
        setup.precision,
        tr("gradient checkpointing") if setup.gradient_checkpointing else None,
        f"ZeRO-{setup.zero_stage}" if setup.zero_stage is not None else None,
        *(tr("{part} on the host", part=part) for part in setup.offloaded),
        setup.optimizer,
        setup.attention,
    ]
    return ", ".join(word for word in words if word) or UNKNOWN


def _steps(run: Figures) -> str:
    step, all_steps = run.learning.step, run.learning.max_steps
    return (
        UNKNOWN if step is None else tr("{step:,} of {all:,}", step=step, all=all_steps) if all_steps else f"{step:,}"
    )


def _losses(run: Figures) -> str:
    learning = run.learning
    if learning.step is None:
        return UNKNOWN
    return f"{loss_text(learning.loss_first)} → {loss_text(learning.loss_last)}"


def _sizes(sizes: Sequence[int], unit: int, name: str, digits: int) -> str:
    return f"{' '.join(f'{size / unit:,.{digits}f}' for size in sizes)} {name}" if sizes else UNKNOWN


def _host(run: Figures) -> str:
    memory = run.memory
    if memory.host_used is None or memory.host_limit is None:
        return UNKNOWN
    return tr("{need:.1f} of {capacity:.1f} GiB", need=memory.host_used / GIB, capacity=memory.host_limit / GIB)


def _watts(run: Figures) -> str:
    watts = [f"{card.power:.0f}" for card in run.memory.cards if card.power is not None]
    return f"{' '.join(watts)} W" if watts else UNKNOWN


def _torch(run: Figures) -> str:
    memory = run.memory
    if memory.allocated is None or memory.reserved is None:
        return UNKNOWN
    return f"{memory.allocated / GIB:.2f} {tr('allocated')}, {memory.reserved / GIB:.2f} GiB {tr('reserved')}"


def trouble(found: Stability) -> str:
    """`1 loss not finite, 2 loss-spike, 1 resume`, or that there was none."""
    alerts = {name: count for name, count in found.alerts.items() if name != "not-finite"}
    words = [
        _counted(found.not_finite, later("{count:,} loss not finite"), later("{count:,} losses not finite")),
        *(f"{count} {name}" for name, count in alerts.items()),
        _counted(
            found.recoveries, later("{count:,} out-of-memory recovery"), later("{count:,} out-of-memory recoveries")
        ),
        _counted(found.resumes, later("{count:,} resume"), later("{count:,} resumes")),
    ]
    return ", ".join(word for word in words if word) or tr("no trouble")


def _ended(run: Figures) -> str:
    message = tr(run.message)
    return message if run.message.startswith(run.phase) else f"{tr(run.phase)}: {message}".removesuffix(": ")


def _counted(count: int, one: str, many: str) -> str:
    return tr(one if count == 1 else many, count=count) if count else ""


_RUN: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    (later("on"), _place),
    (later("method"), lambda run: _text(run.setup.method, lambda method: f"{method}, {run.setup.launcher}")),
    (later("model"), lambda run: _text(run.setup.model, str)),
    (later("batch"), _batch),
    (later("techniques"), lambda run: techniques(run.setup)),
    (later("note"), lambda run: run.note or UNKNOWN),
)
_MEASURED: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    (later("steps"), _steps),
    (later("samples seen"), lambda run: _text(run.learning.samples, "{:,}".format)),
    (later("samples/s"), lambda run: _text(run.pace, lambda pace: f"{pace.samples_per_second:,.1f}")),
    (later("target tokens/s"), lambda run: _text(run.pace, lambda pace: f"{pace.target_tokens_per_second:,.0f}")),
    (later("seconds a step"), lambda run: _text(run.pace, lambda pace: f"{pace.step_seconds:.3g}")),
    (later("data wait"), lambda run: _text(run.pace, lambda pace: f"{100 * pace.data_wait_share:.1f} %")),
    (later("communication"), lambda run: _text(run.pace and run.pace.communication_share, _percent)),
    (later("MFU (estimate)"), lambda run: _text(run.mfu, _percent)),
    (later("VRAM per card"), lambda run: _sizes([card.used for card in run.memory.cards], GIB, "GiB", 1)),
    (later("VRAM total"), lambda run: _text(run.memory.vram_total, gib)),
    (later("torch, rank 0"), _torch),
    (later("RAM per rank"), lambda run: _sizes(run.memory.rss_per_rank, 2**20, "MiB", 0)),
    (later("RAM all ranks"), lambda run: _text(run.memory.rss_total, mib)),
    (later("host RAM"), _host),
    (later("power per card"), _watts),
    (later("loss"), _losses),
    (later("eval loss"), lambda run: _text(run.learning.eval_loss, loss_text)),
    (later("chrF"), lambda run: _text(run.learning.chrf, "{:.1f}".format)),
)
_STABILITY: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    (later("trouble"), lambda run: trouble(run.stability)),
    (later("ended"), _ended),
)
