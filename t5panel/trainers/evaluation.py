"""Held-out rows: loss per target token, and greedy answers scored over the whole corpus."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from t5panel.contract.records import Evaluation, Prediction, finite_or_none
from t5panel.trainers.data import Row, Split, collate
from t5panel.trainers.guard import Rank
from t5panel.trainers.loss import IGNORED, summed_loss, target_tokens, to_device
from t5panel.trainers.ranks import Ranks
from t5panel.trainers.text import Tokenizer, run_tokenizer

CJK = ("\u3040", "\u9fff")


class Evaluator:
    """Evaluates a model on the run's held-out rows, all ranks together."""

    def __init__(self, me: Rank, split: Split, ranks: Ranks) -> None:
        self._run, self._spec, self._split, self._ranks = me.run, me.spec, split, ranks
        self._tokenizer: Tokenizer | None = None

    def evaluate(
        self,
        model: nn.Module,
        generator: Any,  # noqa: ANN401
        step: int,
        precision: AbstractContextManager[Any],
    ) -> Evaluation:
        """Loss through `model` (as wrapped for training), answers through `generator` (the transformers model)."""
        begin = time.monotonic()
        model.eval()
        with torch.no_grad(), precision:
            loss = self._loss(model)
            predictions = self._predictions(generator)
        model.train()
        chrf, bleu = corpus_scores(predictions)
        return Evaluation(time.time(), step, loss, chrf, bleu, tuple(predictions), time.monotonic() - begin)

    def _loss(self, model: nn.Module) -> float | None:
        total = torch.zeros((), device=self._ranks.device)
        tokens = 0
        for rows, counts in self._batches(self._split.eval_rows, self._spec.train.per_device_eval_batch_size):
            batch = collate(rows)
            if not counts:
                batch["labels"] = torch.full_like(batch["labels"], IGNORED)
            tokens += target_tokens(batch)
            total += summed_loss(model, to_device(batch, self._ranks.device))
        loss_sum, token_sum = self._ranks.sum([total.item(), float(tokens)])
        loss = loss_sum / max(token_sum, 1.0)
        return finite_or_none(loss)

    def _predictions(self, generator: Any) -> list[Prediction]:  # noqa: ANN401
        wanted = min(self._spec.data.max_predict_samples, self._split.eval_rows)
        mine: list[Prediction] = []
        for rows, counts in self._batches(wanted, self._spec.train.per_device_eval_batch_size):
            answers = self._generate(generator, rows)
            mine += [self._prediction(row, answer) for row, answer in zip(rows, answers, strict=True) if counts]
        by_rank = self._ranks.gather(mine)
        return [by_rank[i % len(by_rank)][i // len(by_rank)] for i in range(wanted)]

    def _batches(self, rows: int, size: int) -> Iterator[tuple[list[Row], bool]]:
        """This rank's share of the first held-out rows, batch by batch, the same number of batches on every rank.

        ZeRO-3 gathers parameters in every forward pass, so a rank without rows runs one that does not count.
        """
        mine = list(range(self._ranks.rank, rows, self._ranks.world_size))
        longest = math.ceil(rows / self._ranks.world_size)
        for begin in range(0, longest, size):
            part = mine[begin : begin + size]
            yield [self._split.evaluation[self._split.eval_row(position)] for position in part or [0]], bool(part)

    def _generate(self, generator: Any, rows: Sequence[Row]) -> list[Tensor]:  # noqa: ANN401
        batch = to_device(collate(rows), self._ranks.device)
        return list(
            generator.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=self._spec.train.generation_max_length,
                num_beams=1,
                do_sample=False,
                use_cache=True,
                synced_gpus=self._spec.zero_stage == 3,
            ).cpu()
        )

    def _prediction(self, row: Row, answer: Tensor) -> Prediction:
        return Prediction(self._text(row.source.tolist()), self._text(row.target.tolist()), self._text(answer.tolist()))

    def _text(self, ids: list[int]) -> str:
        if self._tokenizer is None:
            self._tokenizer = run_tokenizer(self._run)
        # A model's vocabulary may be larger than its tokenizer's: such ids have no text.
        known = [token for token in ids if token < len(self._tokenizer)]
        return str(self._tokenizer.decode(known, skip_special_tokens=True))


def corpus_scores(predictions: Sequence[Prediction]) -> tuple[float | None, float | None]:
    """Corpus chrF and BLEU of predictions, 0-100; None without any. Chinese and Japanese are split by character."""
    if not predictions:
        return None, None
    import sacrebleu

    answers = [item.prediction for item in predictions]
    references = [[item.reference for item in predictions]]
    tokenize = "zh" if any(CJK[0] <= sign <= CJK[1] for sign in "".join(references[0])) else "13a"
    chrf = sacrebleu.corpus_chrf(answers, references).score
    return float(chrf), float(sacrebleu.corpus_bleu(answers, references, tokenize=tokenize).score)
