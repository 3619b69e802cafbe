"""The records of rank 0 that count: what a later start of the ranks took back is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

from t5panel.contract.reading import decoded, records_in
from t5panel.contract.records import Metric, Start

START = b'{"kind":"start"'


def metrics_that_count(path: Path) -> Iterator[Metric]:
    """Records of a metrics.jsonl in their order, in constant memory; lines that are none are left out.

    A run that was resumed at step 100 made the steps after it once more, so the first ones are void.

    Raises: OSError when it cannot be read.
    """
    decoder = msgspec.json.Decoder(Metric)
    with path.open("rb") as file:
        heads = b"".join(line for line in file if line.startswith(START) and line.endswith(b"\n"))
    starts = [metric.step for metric in decoded(heads, decoder)[0]]
    ends = [min(starts[number + 1 :], default=math.inf) for number in range(len(starts))]
    end, later = math.inf, iter(ends)
    for metric in records_in(path, decoder):
        if isinstance(metric, Start):
            end = next(later, math.inf)
        if metric.step <= end:
            yield metric
