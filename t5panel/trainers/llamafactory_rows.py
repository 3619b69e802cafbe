"""Rows of an encoder-decoder from LLaMA-Factory's data modules: the prompt to the encoder, the answer to be learnt.

LLaMA-Factory's own processor is for decoders: it puts prompt and answer into the input, where T5's encoder reads both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t5panel.contract.spec import DataSpec
from t5panel.errors import PreflightError
from t5panel.trainers.llamafactory_modules import LlamaFactory
from t5panel.trainers.text import Tokenizer, encode

Turns = Sequence[Mapping[str, str]]
COLUMNS = ("input_ids", "labels", "cut_source", "cut_target")


def register_rows(factory: LlamaFactory, data: DataSpec, tokenizer: Tokenizer) -> None:
    """Let LLaMA-Factory turn every row of supervised fine-tuning into what an encoder-decoder learns from."""
    base = factory.loader.SupervisedDatasetProcessor

    class Seq2SeqProcessor(base):  # type: ignore[misc, valid-type]
        """A processor of LLaMA-Factory's kind."""

        def preprocess_dataset(self, examples: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
            """Token ids of a batch of aligned rows; empty ones where a row has no prompt or no answer."""
            return encoded_rows(examples["_prompt"], examples["_response"], examples["_system"], data, tokenizer)

        def print_data_example(self, example: Mapping[str, Any]) -> None:
            """Nothing: the rows are the user's, and logs are shared."""

    def processor_for(data_args: Any, stage: str, template: Any, tok: Any, processor: Any, **_: Any) -> Any:  # noqa: ANN401
        if stage != "sft" or data_args.packing:
            raise PreflightError.of("stage", "an encoder-decoder is trained with stage sft, without packing")
        return Seq2SeqProcessor(template=template, tokenizer=tok, processor=processor, data_args=data_args)

    factory.loader._get_dataset_processor = processor_for


def encoded_rows(
    prompts: Sequence[Turns], responses: Sequence[Turns], systems: Sequence[str], data: DataSpec, tokenizer: Tokenizer
) -> dict[str, list[Any]]:
    """Token ids of aligned rows, each ending in the end token, and which had to be cut.

    Raises: PreflightError for a row of several turns, which T5 has no form for.
    """
    pairs = [_pair(*row) for row in zip(prompts, responses, systems, strict=True)]
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for position, (column, cut, limit) in enumerate(
        (("input_ids", "cut_source", data.max_source_length), ("labels", "cut_target", data.max_target_length))
    ):
        for pair in pairs:
            ids, was_cut = encode(tokenizer, [pair[position]], limit) if pair is not None else ([()], 0)
            columns[column].append(list(map(int, ids[0])))
            columns[cut].append(was_cut)
    return columns


def _pair(prompt: Turns, response: Turns, system: str) -> tuple[str, str] | None:
    """Prompt and answer of a row; None where one is missing. A system prompt stands before the prompt."""
    if len(prompt) > 1 or len(response) > 1:
        turns = "several answers" if len(response) > 1 else "several turns"
        raise PreflightError.of("data", f"a row has {turns}: T5 learns from one prompt and one answer")
    if not prompt or not response:
        return None
    asked, answer = prompt[0]["content"], response[0]["content"]
    if not asked.strip() or not answer.strip():
        return None
    return f"{system}\n{asked}" if system else asked, answer
