"""What a model is fed: padding, labels, shifted decoder inputs, and the tokenizers they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import ByT5Tokenizer

from t5panel.contract.shapes import SHAPES
from t5panel.contract.spec import ModelSpec
from t5panel.errors import PreflightError
from t5panel.trainers.data import Row, collate
from t5panel.trainers.docstrings import docstring_pairs
from t5panel.trainers.evaluation import corpus_scores
from t5panel.trainers.loss import cross_entropy_sum, summed_loss
from t5panel.trainers.model import config_of
from t5panel.trainers.text import encode, load_tokenizer

CHINESE = "为何会肌肉痉挛？"


def row(source: list[int], target: list[int]) -> Row:
    return Row(np.array(source, dtype=np.uint16), np.array(target, dtype=np.uint16))


def test_labels_are_padded_with_minus_100_and_decoder_inputs_are_shifted() -> None:
    batch = collate([row([5, 6, 1], [7, 8, 9, 1]), row([4, 1], [3, 1])])

    assert batch["input_ids"].tolist() == [[5, 6, 1, 0, 0, 0, 0, 0], [4, 1, 0, 0, 0, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]
    assert batch["labels"].tolist() == [[7, 8, 9, 1, -100, -100, -100, -100], [3, 1] + [-100] * 6]
    assert batch["decoder_input_ids"].tolist() == [[0, 7, 8, 9, 1, 0, 0, 0], [0, 3, 1, 0, 0, 0, 0, 0]]


def test_our_loss_is_transformers_own_loss_times_its_tokens() -> None:
    from transformers import T5ForConditionalGeneration

    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config_of(SHAPES["tiny"])).eval()
    batch = collate([row([5, 6, 1], [7, 8, 9, 1]), row([4, 1], [3, 1])])
    labels_only = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}

    ours = summed_loss(model, batch)

    assert ours.item() == pytest.approx(6 * model(**labels_only).loss.item(), rel=1e-6)


def test_an_ignored_batch_has_no_loss_and_no_nan() -> None:
    assert cross_entropy_sum(torch.randn(1, 2, 5), torch.full((1, 2), -100)).item() == 0.0


@pytest.mark.parametrize("text", ["plain", "naïve façade", CHINESE, "a\nb\t", ""])
def test_byte_ids_are_those_of_byt5_tokenizer(text: str) -> None:
    tokenizer = ByT5Tokenizer()

    [ids], cut = encode(tokenizer, [text], 512)

    assert ids.tolist() == tokenizer(text)["input_ids"]
    assert cut == 0


def test_a_long_row_is_cut_counted_and_still_ends() -> None:
    [ids], cut = encode(ByT5Tokenizer(), ["abcdefgh"], 4)

    assert ids.tolist() == [ord("a") + 3, ord("b") + 3, ord("c") + 3, 1]
    assert cut == 1


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real, small SentencePiece model as the T5 family ships it."""
    folder = tmp_path_factory.mktemp("spiece")
    texts = [pair["response"] for pair in docstring_pairs()] + [CHINESE] * 50
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "spiece"),
        vocab_size=600,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 0}))
    return folder


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5"])
@pytest.mark.parametrize("text", ["Return the value.", CHINESE])
def test_sentencepiece_tokenizers_of_the_family_load_from_a_folder(family: str, text: str, spiece: Path) -> None:
    (spiece / "config.json").write_text(json.dumps({"model_type": family}))
    tokenizer = load_tokenizer(ModelSpec(name_or_path="builtin:tiny", tokenizer=str(spiece)))

    [ids], _ = encode(tokenizer, [text], 64)

    assert len(tokenizer) == 600
    assert ids[-1] == 1
    # SentencePiece normalises full-width punctuation; the words must come back.
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=True).rstrip("？?") == text.rstrip("？")


def test_an_unreachable_tokenizer_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read once, at its import

    with pytest.raises(PreflightError) as caught:
        load_tokenizer(ModelSpec(name_or_path="no-such-owner/no-such-model"))

    [fault] = caught.value.faults
    assert "HF_HUB_OFFLINE" in fault.hint
    assert "local folder" in fault.hint


def test_docstring_pairs_are_many_and_whole() -> None:
    pairs = list(docstring_pairs())

    assert len(pairs) > 3000
    assert len({pair["prompt"] for pair in pairs}) == len(pairs)
    assert all("(" in pair["prompt"] and len(pair["response"]) >= 12 for pair in pairs)


def test_chinese_answers_are_scored_by_character() -> None:
    from t5panel.contract.records import Prediction

    same = Prediction("问", "今天天气很好我们去公园", "今天天气很好我们去公园")
    chrf, bleu = corpus_scores([same])

    assert chrf == pytest.approx(100.0)
    assert bleu == pytest.approx(100.0)
    assert corpus_scores([]) == (None, None)
