"""Before any rank starts, tokenise the data once into the shared cache: `python -m t5panel.trainers.prepare RUN`."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from t5panel.contract.layout import PRIVATE, RunDir, token_cache_home, write_atomic
from t5panel.contract.records import Prepared, Progress
from t5panel.contract.shapes import is_builtin
from t5panel.contract.spec import RunSpec
from t5panel.errors import Fault, PreflightError
from t5panel.trainers.docstrings import docstring_pairs
from t5panel.trainers.guard import read_spec
from t5panel.trainers.source import Source, find_source, first_bad_line, open_rows
from t5panel.trainers.store import FORMAT, StoreWriter, length_quantiles
from t5panel.trainers.text import Tokenizer, encode, import_transformers_without_torch, load_tokenizer

BATCH_ROWS = 1000
PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows."""

    rows: int = 0
    dropped: int = 0
    truncated_sources: int = 0
    truncated_targets: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(mine + theirs for mine, theirs in zip(_values(self), _values(other), strict=True)))


def _values(counts: Counts) -> tuple[int, ...]:
    return tuple(asdict(counts).values())


def prepare(run: RunDir, spec: RunSpec) -> Prepared:
    """The tokenised rows of a run, from the cache or made now; the folder of each split and what was left out.

    Raises: PreflightError when the data cannot be used.
    """
    tokenizer = load_tokenizer(spec.model)
    tokenizer.save_pretrained(run.tokenizer)
    train, counts = _cached(run, spec, tokenizer, spec.data.train, "data.train")
    validation = None
    if spec.data.validation is not None:
        validation, _ = _cached(run, spec, tokenizer, spec.data.validation, "data.validation")
    return Prepared(
        train=str(train),
        validation=str(validation) if validation else None,
        source_tokens=length_quantiles(train, "source"),
        target_tokens=length_quantiles(train, "target"),
        **asdict(counts),
    )


def _cached(run: RunDir, spec: RunSpec, tokenizer: Tokenizer, path: str, key: str) -> tuple[Path, Counts]:
    source = None if is_builtin(path) else find_source(path, spec.data, key)
    if isinstance(source, list):
        raise PreflightError(source)
    folder = token_cache_home() / _fingerprint(spec, tokenizer, path, source)
    folder.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    with only_one(folder.with_name(folder.name + ".lock")):
        report = folder / "counts.json"
        if not report.exists():
            counts = _tokenise(run, spec, tokenizer, source, folder, key)
            write_atomic(report, json.dumps(asdict(counts)).encode())
        return folder, Counts(**json.loads(report.read_text(encoding="utf-8")))


def _tokenise(
    run: RunDir, spec: RunSpec, tokenizer: Tokenizer, source: Source | None, folder: Path, key: str
) -> Counts:
    shutil.rmtree(folder, ignore_errors=True)
    arrow = folder.with_name(folder.name + ".arrow")
    counts = Counts()
    progress = Telling(run, f"tokenising {key}")
    try:
        total, batches = _batches(source, arrow, key)
        with StoreWriter(folder, vocabulary=len(tokenizer)) as store:
            for prompts, responses in batches:
                counts = counts.plus(_append(store, tokenizer, prompts, responses, spec))
                progress.show(counts.rows + counts.dropped, total)
    finally:
        shutil.rmtree(arrow, ignore_errors=True)
    if counts.rows == 0:
        raise PreflightError.of(key, f"all {counts.dropped} rows have an empty prompt or response")
    progress.show(total, total, last=True)
    return counts


def _append(
    store: StoreWriter, tokenizer: Tokenizer, prompts: list[Any], responses: list[Any], spec: RunSpec
) -> Counts:
    pairs = [(p, r) for p, r in zip(prompts, responses, strict=True) if p and r and p.strip() and r.strip()]
    if not pairs:
        return Counts(dropped=len(prompts))
    sources, long_sources = encode(tokenizer, [p for p, _ in pairs], spec.data.max_source_length)
    targets, long_targets = encode(tokenizer, [r for _, r in pairs], spec.data.max_target_length)
    store.append(sources, targets)
    return Counts(len(pairs), len(prompts) - len(pairs), long_sources, long_targets)


def _batches(source: Source | None, arrow: Path, key: str) -> tuple[int, Iterator[tuple[list[Any], list[Any]]]]:
    """Number of rows, and the rows as lists of prompts and responses."""
    if source is None:
        pairs = list(docstring_pairs())
        return len(pairs), iter([([pair["prompt"] for pair in pairs], [pair["response"] for pair in pairs])])
    from datasets.exceptions import DatasetGenerationError

    try:
        rows = open_rows(source, arrow)
    except DatasetGenerationError as error:
        problem = first_bad_line(source) or f"cannot be read to its end: {error.__cause__ or error}"
        raise PreflightError.of(key, problem) from error
    return len(rows), _text_batches(rows, source, key)


def _text_batches(rows: Any, source: Source, key: str) -> Iterator[tuple[list[Any], list[Any]]]:  # noqa: ANN401
    for batch in rows.iter(BATCH_ROWS):
        prompts, responses = batch[source.prompt], batch[source.response]
        if not all(value is None or type(value) is str for value in chain(prompts, responses)):
            raise PreflightError.of(key, first_bad_line(source) or "holds values that are no text")
        yield prompts, responses


def _fingerprint(spec: RunSpec, tokenizer: Tokenizer, path: str, source: Source | None) -> str:
    """A name for tokenised rows that changes whenever they would."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [
        f"format {FORMAT}",
        type(tokenizer).__name__,
        backend.to_str() if backend is not None else str(len(tokenizer)),
        f"{spec.data.max_source_length} {spec.data.max_target_length}",
        path if source is None else f"{source.prompt} {source.response}",
        sys.version if source is None else "",
    ]
    for file in source.files if source else ():
        stat = file.stat()
        parts.append(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Two runs on the same data: the second waits and finds the first one's work."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Telling:
    """How far the preparation is, twice a second."""

    def __init__(self, run: RunDir, what: str) -> None:
        self._run, self._what, self._next = run, what, 0.0

    def show(self, done: int, total: int, *, last: bool = False) -> None:
        """Tell it to whoever watches the run."""
        if last or time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            write_atomic(self._run.progress, msgspec.json.encode(Progress(self._what, done, total)), durable=False)


def main(way: Callable[[RunDir, RunSpec], Prepared] = prepare) -> int:
    """Prepare the run named on the command line, in this way; faults of the user's data go to faults.json."""
    run = RunDir(Path(sys.argv[1]))
    try:
        prepared = way(run, read_spec(run))
    except PreflightError as error:
        write_faults(run, error.faults)
        return int(error.exit_code)
    write_atomic(run.prepared, msgspec.json.encode(prepared))
    return 0


def write_faults(run: RunDir, faults: tuple[Fault, ...]) -> None:
    """Leave the faults for the front that watches the run."""
    write_atomic(run.faults, json.dumps([asdict(fault) for fault in faults], ensure_ascii=False).encode())


if __name__ == "__main__":
    import_transformers_without_torch()
    sys.exit(main())
