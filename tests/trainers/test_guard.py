"""Separate trainings must never pass as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from t5panel.session import Wish, prospect, start
from tests.trainers.runs import finish, write_pairs


def test_ranks_of_the_wrong_world_end_at_once_and_the_run_fails(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data.jsonl", [(f"prompt {n}", f"response {n}") for n in range(50)])
    planned = prospect(
        Wish(
            "trainer",
            {"device": "cpu", "data.train": str(data), "model.name_or_path": "builtin:tiny"},
            tmp_path / "run",
        )
    )
    argv = tuple(word.replace("--nproc_per_node=3", "--nproc_per_node=2") for word in planned.command.argv)

    last = finish(start(replace(planned, command=replace(planned.command, argv=argv))))

    assert last.state.phase == "failed"
    assert "WorldSizeError: the launcher started a world of 2, the run needs 3" in last.state.message
    assert last.result is None
