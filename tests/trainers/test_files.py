"""Files of a checkpoint are read without running what is in them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from t5panel.trainers.random_state import load_rng, rng_file
from t5panel.trainers.shards import ShardFiles


class Trap:
    """Pickled, it makes a folder when it is read by a careless program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_malicious_shard_is_refused_and_nothing_of_it_runs(tmp_path: Path, *, zipped: bool) -> None:
    sprung = tmp_path / "sprung"
    shard = tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"optimizer_state_dict": Trap(sprung)}, shard, _use_new_zipfile_serialization=zipped)

    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        ShardFiles().load(str(shard), map_location="cpu")

    assert not sprung.exists()


def test_malicious_random_generators_are_refused(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"python": Trap(sprung)}, rng_file(tmp_path, 0))

    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        load_rng(tmp_path, rank=0, seed=1, step=1)

    assert not sprung.exists()


def test_what_deepspeed_pickles_beside_tensors_is_read(tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    state = {
        "loss_scaler": LossScaler(2.0),
        "zero_stage": ZeroStageEnum.gradients,
        "slices": {"weight": fragment_address(numel=5, start=3)},
        "moments": torch.ones(3),
    }
    files = ShardFiles()
    files.save(state, str(tmp_path / "shard.pt"))
    files.raise_first()

    found = files.load(str(tmp_path / "shard.pt"))

    assert found["loss_scaler"].cur_scale == 2.0
    assert found["zero_stage"] is ZeroStageEnum.gradients
    assert found["slices"]["weight"].numel == 5
    assert torch.equal(found["moments"], torch.ones(3))


def test_a_shard_that_cannot_be_written_is_told_after_the_others_were_met(tmp_path: Path) -> None:
    files = ShardFiles()

    files.save({}, str(tmp_path / "no-such-folder" / "shard.pt"))

    with pytest.raises(OSError, match="no-such-folder"):
        files.raise_first()
    files.raise_first()
