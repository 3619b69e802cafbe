"""Text in and token ids out: the tokenizer of a run, loaded once by the preparation and once per rank for decoding."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t5panel.contract.layout import RunDir
from t5panel.contract.shapes import is_builtin
from t5panel.contract.spec import ModelSpec
from t5panel.errors import PreflightError

END = 1
BYTE_OFFSET = 3
"""ByT5: ids 0, 1, 2 are padding, end and unknown; a byte's id is its value + 3."""

Tokenizer = Any
"""A transformers tokenizer; the library is untyped."""


def import_transformers_without_torch() -> None:
    """Import transformers as if there were no torch, which a folder's tokenizer would load: 2 CPU seconds for nothing.

    It holds for the life of the process, since transformers looks once: no function of a rank may call it.
    """
    if "transformers" in sys.modules:
        return
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    sys.modules["torch"] = None  # type: ignore[assignment]
    import transformers  # noqa: F401

    del sys.modules["torch"]  # datasets looks for the name alone


def load_tokenizer(model: ModelSpec) -> Tokenizer:
    """The tokenizer of a model: a folder's or hub id's own, or the byte tokenizer for built-in models.

    Raises: PreflightError when it cannot be had, naming HF_HUB_OFFLINE and local paths.
    """
    source = model.tokenizer or model.name_or_path
    if is_builtin(source):
        from transformers import ByT5Tokenizer

        return ByT5Tokenizer()
    from transformers import AutoTokenizer, T5Tokenizer

    try:
        try:
            return AutoTokenizer.from_pretrained(source)
        except ValueError:
            if not Path(source).is_dir():
                raise
            # A UMT5 or MT5 folder with nothing but its spiece.model: the auto class does not know that it is T5's kind.
            return T5Tokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise PreflightError.of(
            "model.tokenizer", f"no tokenizer from {source!r}: {first_line(error)}", where_from(source)
        ) from error


def run_tokenizer(run: RunDir) -> Tokenizer:
    """The tokenizer that the preparation left in the run directory."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(run.tokenizer)


def encode(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> tuple[list[NDArray[np.uint32]], int]:
    """Token ids of each text, ending in the end token, at most `max_length` long; and how many texts were cut."""
    if type(tokenizer).__name__ == "ByT5Tokenizer":
        full = [_byte_ids(text) for text in texts]
    else:
        encoded = tokenizer(list(texts), add_special_tokens=True, return_attention_mask=False)["input_ids"]
        full = [np.array(ids, dtype=np.uint32) for ids in encoded]
    cut = sum(len(ids) > max_length for ids in full)
    return [_cut(ids, max_length) for ids in full], cut


def where_from(source: str) -> str:
    """What helps when a model or tokenizer cannot be loaded."""
    if Path(source).exists():
        return "the folder must hold the files that save_pretrained writes"
    offline = (
        "HF_HUB_OFFLINE is set; unset it to download, or "
        if os.environ.get("HF_HUB_OFFLINE")
        else "is the hub reachable? Else set HF_HUB_OFFLINE=1 to use the cache, or "
    )
    return offline + "give the path of a local folder"


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _byte_ids(text: str) -> NDArray[np.uint32]:
    """ByT5's ids of a text, 30 times as fast as its Python tokenizer."""
    data = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32) + BYTE_OFFSET
    return np.append(data, np.uint32(END))


def _cut(ids: NDArray[np.uint32], max_length: int) -> NDArray[np.uint32]:
    if len(ids) <= max_length:
        return ids
    shorter = ids[:max_length].copy()
    shorter[-1] = END
    return shorter
