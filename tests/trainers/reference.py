"""The plainest training loop there is, and a model to fine-tune: what every method is compared with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSeq2SeqLM, ByT5Tokenizer, T5ForConditionalGeneration, get_scheduler

from t5panel.contract.layout import RunDir
from t5panel.contract.shapes import SHAPES
from t5panel.trainers.data import collate, open_split, rows_of_step
from t5panel.trainers.guard import read_spec
from t5panel.trainers.model import config_of
from t5panel.trainers.store import prepared_of


def write_model(folder: Path) -> Path:
    """A tiny model whose weights are not those that a run's seed would give."""
    torch.manual_seed(99)
    T5ForConditionalGeneration(config_of(SHAPES["tiny"])).save_pretrained(folder)
    ByT5Tokenizer().save_pretrained(folder)
    return folder


def reference_losses(run: RunDir, steps: int) -> list[float]:
    """The loss of a run's first steps on its own rows: the whole effective batch in one forward pass."""
    spec, prepared = read_spec(run), prepared_of(run)
    validation = Path(prepared.validation) if prepared.validation else None
    split = open_split(Path(prepared.train), validation, spec.data.max_eval_samples)
    model = AutoModelForSeq2SeqLM.from_pretrained(spec.model.name_or_path, dropout_rate=0.0).train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": spec.train.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=spec.train.learning_rate,
    )
    last = spec.train.max_steps or steps
    schedule = get_scheduler("cosine", optimizer, round(spec.train.warmup_steps * last), last)
    curve = []
    for step in range(steps):
        rows = rows_of_step(split, step=step, effective_batch=spec.effective_batch, seed=spec.train.seed)
        batch = collate([split.train[int(row)] for row in rows])
        labels = batch.pop("labels")
        logits = model(**batch).logits
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.train.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        curve.append(loss.item())
    return curve
