"""Writing tokenised rows: flat files of ids that every rank maps, complete or absent, never half."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Prepared

FORMAT = 2
_SMALL_VOCABULARY = 2**16
QUANTILES = 64
LOOKED_AT = 2**14
"""Rows, evenly spaced in the file, whose lengths stand for all."""


def prepared_of(run: RunDir) -> Prepared:
    """What the preparation left for the ranks of a run."""
    return msgspec.json.decode(run.prepared.read_bytes(), type=Prepared)


def store_meta(folder: Path) -> dict[str, Any]:
    """What a store holds: its format, rows and id type, tokens and their checksum per side."""
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    return meta


def length_quantiles(folder: Path, side: str) -> tuple[int, ...]:
    """Evenly spaced quantiles of a side's lengths in tokens, in rising order, the longest last."""
    ends = np.memmap(folder / f"{side}.ends", dtype=np.int64, mode="r")
    rows = np.unique(np.linspace(0, len(ends) - 1, LOOKED_AT).astype(np.int64))
    lengths = np.sort(ends[rows] - np.where(rows == 0, 0, ends[rows - 1]))
    last = np.arange(1, QUANTILES + 1) * len(lengths) / QUANTILES
    return tuple(lengths[np.ceil(last).astype(np.int64) - 1].tolist())


class StoreWriter:
    """Builds the store in `folder`; it appears under that name only when everything is in it."""

    def __init__(self, folder: Path, *, vocabulary: int) -> None:
        self._folder = folder
        self._temporary = folder.with_name(folder.name + ".part")
        self._dtype = np.dtype(np.uint16 if vocabulary <= _SMALL_VOCABULARY else np.uint32)
        self._lengths = {"source": 0, "target": 0}
        self._checksums = {"source": 0, "target": 0}
        self._rows = 0

    def __enter__(self) -> Self:
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._files = {
            (side, kind): (self._temporary / f"{side}.{kind}").open("wb")
            for side in self._lengths
            for kind in ("tokens", "ends")
        }
        return self

    def append(self, sources: Sequence[NDArray[np.uint32]], targets: Sequence[NDArray[np.uint32]]) -> None:
        """Add rows: source and target ids of each."""
        for side, arrays in (("source", sources), ("target", targets)):
            ends = self._lengths[side] + np.cumsum([len(array) for array in arrays], dtype=np.int64)
            for kind, array in (("tokens", np.concatenate(arrays).astype(self._dtype)), ("ends", ends)):
                content = array.tobytes()
                self._files[side, kind].write(content)
                self._checksums[side] = zlib.crc32(content, self._checksums[side])
            self._lengths[side] = int(ends[-1])
        self._rows += len(sources)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        if kind is not None or self._rows == 0:
            shutil.rmtree(self._temporary)
            return
        meta = {
            "format": FORMAT,
            "rows": self._rows,
            "dtype": self._dtype.name,
            "tokens": self._lengths,
            "crc32": self._checksums,
        }
        (self._temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        self._temporary.rename(self._folder)
