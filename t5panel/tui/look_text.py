"""A look at data as styled text: columns, rows, and how long prompts and responses are in tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from t5panel.contract.data_look import DataLook
from t5panel.language import later, tr
from t5panel.tui.browse import size_text
from t5panel.tui.parts import Part

BLOCKS = " ▁▂▃▄▅▆▇█"
COLUMN_KEYS = ("data.prompt_column", "data.response_column")
PERCENTILES = (50, 90, 99)
SIDES = ((later("source"), "max_source_length"), (later("target"), "max_target_length"))


def percentile(rising: Sequence[int], percent: int) -> int:
    """The value that this share of rising values does not exceed: nearest rank."""
    return rising[max(0, -(-len(rising) * percent // 100) - 1)]


def share_over(rising: Sequence[int], limit: int) -> float:
    """The share of rising values above a limit."""
    return (len(rising) - bisect_right(rising, limit)) / len(rising)


def histogram(rising: Sequence[int], width: int, height: int, limit: int) -> Iterator[tuple[tuple[str, str], ...]]:
    """Rows from the top, what lies above `limit` in another colour; the last column holds all that is longer."""
    bin_size = max(1, -(-percentile(rising, 99) // max(1, width - 1)))
    counts = [0] * width
    for value in rising:
        counts[min(width - 1, (value - 1) // bin_size)] += 1
    most = max(counts)
    eighths = [max(1, round(count / most * height * 8)) if count else 0 for count in counts]
    for row in reversed(range(height)):
        yield tuple(
            (BLOCKS[min(8, max(0, filled - 8 * row))], "$warning" if column * bin_size >= limit else "$primary")
            for column, filled in enumerate(eighths)
        )


def look_parts(look: DataLook | None, limits: tuple[int, int], width: int, *, height: int = 3) -> Iterator[Part]:
    """All that a look tells, against the lengths that are kept of sources and targets."""
    if look is None:
        yield (tr("looking…"), "$quiet")
        return
    yield from _file_parts(look)
    for where, message, given in look.faults:
        hint = tr("p and r take another column") if where in COLUMN_KEYS and look.columns else tr(given)
        yield from (("✗ ", "$error"), f"{where}: {tr(message)}\n", (f"  {hint}\n" if hint else "", "$quiet"))
    if look.faults:
        return
    if not look.source:
        yield (tr("reading and tokenising a sample…"), "$quiet")
        return
    for (name, setting), lengths, limit in zip(SIDES, (look.source, look.target), limits, strict=True):
        yield from _length_parts(name, lengths, setting, limit, width, height)
    of = tr("{name} tokens of {count} sampled rows", name=look.tokenizer, count=f"{look.sampled - look.dropped:,}")
    dropped = tr(", {count} empty ones left out", count=f"{look.dropped:,}") if look.dropped else ""
    yield (f"{of}{dropped}\n", "$quiet")
    if look.example:
        prompt, response = (" ".join(text.split()) for text in look.example)
        yield from (
            ("\n", ""),
            (f"{tr('prompt')} ", "$accent"),
            f"{prompt}\n",
            (f"{tr('response')} ", "$accent"),
            f"{response}\n",
        )


def lengths_line(look: DataLook, limits: tuple[int, int]) -> str:
    """`source p99 320, 0 % cut · target p99 411, 0.2 % cut`; empty before there are lengths."""
    if not look.source or not look.target:
        return ""
    sides = zip(("source", "target"), (look.source, look.target), limits, strict=True)
    return " · ".join(
        tr(
            "{side} p99 {length}, {share} cut",
            side=tr(name),
            length=f"{percentile(lengths, 99):,}",
            share=percent(share_over(lengths, limit)),
        )
        for name, lengths, limit in sides
    )


def percent(share: float) -> str:
    """A share as `0 %`, `0.3 %` or `12 %`."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.1 else f"{max(0.1, 100 * share):.1f} %"


def _file_parts(look: DataLook) -> Iterator[Part]:
    if look.rows is not None:
        count = f"{'' if look.rows_are_exact else '≈ '}{look.rows:,}"
        yield (tr("{count} rows", count=count), "bold")
    elif not look.faults:
        yield (tr("counting rows…"), "$quiet")
    if look.files:
        several = tr(" in {count} files", count=look.files) if look.files > 1 else ""
        yield (f"  {size_text(look.bytes)}{several}", "$quiet")
    yield "\n"
    for name, kind in look.columns.items():
        sides = [tr(side) for side, chosen in (("prompt", look.prompt), ("response", look.response)) if chosen == name]
        role = f"← {', '.join(sides)}" if sides else ""
        yield from ((f"{name} ", "bold" if role else ""), (f"{kind} ", "$quiet"), (role, "$accent"), "\n")


def _length_parts(
    name: str, lengths: Sequence[int], setting: str, limit: int, width: int, height: int
) -> Iterator[Part]:
    cut = share_over(lengths, limit)
    figures = " ".join(f"p{percent_} {percentile(lengths, percent_):,}" for percent_ in PERCENTILES)
    yield from ((f"\n{tr(name)} ", "bold"), f"{figures} max {lengths[-1]:,}\n")
    for row in histogram(lengths, max(8, min(width, 60)), height, limit):
        yield from row
        yield "\n"
    text = tr("{share} over {setting} {limit}", share=percent(cut), setting=setting, limit=f"{limit:,}")
    yield (f"{text}\n", "$warning" if cut else "$quiet")
