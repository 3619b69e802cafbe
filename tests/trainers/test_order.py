"""The order of rows: a permutation that any rank computes at any step, without memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5panel.contract.spec import RunSpec
from t5panel.trainers.data import RankBatches, Split, TokenStore, open_split, rows_of_step, total_steps
from t5panel.trainers.order import permute
from t5panel.trainers.store import StoreWriter


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    shuffled = permute(np.arange(size), size, key)

    assert sorted(shuffled.tolist()) == list(range(size))


def test_permute_of_ten_million_rows_needs_no_table() -> None:
    size = 10_000_000

    found = permute(np.array([0, 1, size - 1]), size, 7)

    assert len(set(found.tolist())) == 3
    assert (found >= 0).all()
    assert (found < size).all()


def test_different_keys_give_different_orders() -> None:
    orders = {tuple(permute(np.arange(100), 100, key).tolist()) for key in range(20)}

    assert len(orders) == 20


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("store") / "rows"
    with StoreWriter(folder, vocabulary=300) as store:
        store.append(
            [np.array([n, 1], dtype=np.uint32) for n in range(101)],
            [np.array([n, 1], dtype=np.uint32) for n in range(101)],
        )
    return open_split(folder, None, max_eval_samples=10)


def test_held_out_rows_are_never_trained_on(split: Split) -> None:
    held_out = {split.eval_row(position) for position in range(split.eval_rows)}
    trained = {int(row) for step in range(40) for row in rows_of_step(split, step=step, effective_batch=7, seed=1)}

    assert len(held_out) == split.eval_rows == 10
    assert trained == set(range(101)) - held_out


def test_every_epoch_sees_every_row_once_in_an_order_of_its_own(split: Split) -> None:
    first = rows_of_step(split, step=0, effective_batch=91, seed=1).tolist()
    second = rows_of_step(split, step=1, effective_batch=91, seed=1).tolist()

    assert sorted(first) == sorted(second)
    assert len(set(first)) == 91
    assert first != second


@settings(max_examples=25)
@given(batch=st.integers(1, 5), accumulation=st.integers(1, 4), world=st.integers(1, 4), begin=st.integers(0, 3))
def test_the_ranks_together_read_exactly_the_rows_of_each_step(
    split: Split, batch: int, accumulation: int, world: int, begin: int
) -> None:
    spec = _spec(batch, accumulation, world)
    effective = spec.effective_batch
    by_rank = [
        list(RankBatches(split, spec, rank=rank, first_step=begin, last_step=begin + 2)) for rank in range(world)
    ]

    read = [row for micro in zip(*by_rank, strict=True) for rows in micro for row in rows]

    expected = np.concatenate(
        [rows_of_step(split, step=step, effective_batch=effective, seed=spec.train.seed) for step in (begin, begin + 1)]
    )
    assert read == expected.tolist()


def test_steps_of_an_epoch_are_rounded_up() -> None:
    spec = _spec(4, 2, 3)

    assert total_steps(spec, train_rows=49) == 3
    assert total_steps(spec, train_rows=48) == 2
    assert total_steps(spec, train_rows=1) == 1


def test_a_store_is_complete_or_absent(tmp_path: Path) -> None:
    def die_half_way() -> None:
        with StoreWriter(tmp_path / "rows", vocabulary=70_000) as store:
            store.append([np.array([69_999, 1], dtype=np.uint32)], [np.array([2, 1], dtype=np.uint32)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die_half_way()

    assert list(tmp_path.iterdir()) == []


def test_a_store_keeps_ids_of_large_vocabularies(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "rows", vocabulary=250_112) as store:
        store.append([np.array([250_000, 1], dtype=np.uint32)], [np.array([7, 8, 1], dtype=np.uint32)])
        store.append([np.array([5, 1], dtype=np.uint32)], [np.array([1], dtype=np.uint32)])

    rows = TokenStore(tmp_path / "rows")

    assert len(rows) == 2
    assert rows[0].source.tolist() == [250_000, 1]
    assert rows[0].target.tolist() == [7, 8, 1]
    assert rows[1].source.tolist() == [5, 1]


def _spec(batch: int, accumulation: int, world: int) -> RunSpec:
    return RunSpec.model_validate(
        {
            "method": "manual",
            "launcher": "torchrun",
            "num_gpus": world,
            "train": {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation},
        }
    )
