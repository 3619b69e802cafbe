"""Why a run ended, from logs as torch, gloo and torchrun write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from t5panel.monitor.last_words import Log, read_log, why

PREPARED = ("Traceback (most recent call last):", '  File "prepare.py", line 3, in read', "ValueError: bad row 7")
OUT_OF_MEMORY = (
    "[rank1]: Traceback (most recent call last):",
    '[rank1]:   File "/t5panel/trainers/manual.py", line 61, in train',
    "[rank1]:     loss.backward()",
    "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has 19.6 GiB in total",
    "[W1124 05:13:46 TCPStore.cpp:125] [c10d] recvValue failed on SocketImpl(fd=3): failed to recv, got 0 bytes",
)
GLOO_PEER = (
    "[rank0]: Traceback (most recent call last):",
    '[rank0]:   File "/t5panel/trainers/ranks.py", line 55, in sum',
    "[rank0]: RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer "
    "[127.0.0.1]:41234",
)
NCCL_PEER = ("[rank2]: torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, remote error",)
PIPE = ("[rank2]: BrokenPipeError: [Errno 32] Broken pipe",)


def torchrun_log(rank: int, exitcode: int = 1) -> Log:
    """What torchrun prints when a rank has failed."""
    return Log(
        "launcher",
        9.0,
        (
            "E1124 05:13:46 api.py:882] failed (exitcode: 1) local_rank: 1 (pid: 4242) of binary: /usr/bin/python",
            "Traceback (most recent call last):",
            "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
            "============================================================",
            "t5panel.trainers.trainer FAILED",
            "------------------------------------------------------------",
            "Failures:",
            "[1]:",
            "  time      : 2026-01-01_10:00:01",
            "  host      : localhost",
            "  rank      : 0 (local_rank: 0)",
            "  exitcode  : 1 (pid: 4241)",
            "------------------------------------------------------------",
            "Root Cause (first observed failure):",
            "[0]:",
            "  time      : 2026-01-01_10:00:00",
            "  host      : localhost",
            f"  rank      : {rank} (local_rank: {rank})",
            f"  exitcode  : {exitcode} (pid: 4242)",
            "  error_file: <N/A>",
            "  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html",
            "============================================================",
        ),
    )


def test_the_prefix_that_torch_puts_before_a_traceback_hides_nothing() -> None:
    assert why([Log("rank-1", 1.0, OUT_OF_MEMORY)]).startswith("torch.OutOfMemoryError: CUDA out of memory")


@pytest.mark.parametrize("consequence", [GLOO_PEER, NCCL_PEER, PIPE])
def test_what_the_other_ranks_say_when_one_is_gone_is_no_cause(consequence: tuple[str, ...]) -> None:
    logs = [Log("rank-0", 1.0, consequence), Log("rank-1", 2.0, OUT_OF_MEMORY), Log("rank-2", 1.5, PIPE)]

    assert why(logs, torchrun_log(0)).startswith("torch.OutOfMemoryError")


def test_the_rank_that_torchrun_saw_fail_first_is_asked_first() -> None:
    logs = [Log("rank-0", 1.0, ("[rank0]: KeyError: 'a'",)), Log("rank-1", 2.0, ("[rank1]: ValueError: b",))]

    assert why(logs, torchrun_log(1)) == "ValueError: b"


def test_without_a_word_from_torchrun_the_log_that_ended_first_is_asked_first() -> None:
    logs = [Log("rank-0", 2.0, ("[rank0]: KeyError: 'a'",)), Log("rank-1", 1.0, ("[rank1]: ValueError: b",))]

    assert why(logs, Log("launcher", 3.0, ("[INFO] Killing subprocess 4242",))) == "ValueError: b"


def test_a_rank_that_was_killed_is_named_when_the_others_only_miss_it() -> None:
    logs = [Log("rank-0", 2.0, GLOO_PEER), Log("rank-1", 1.0, ("step 7",))]

    assert why(logs, torchrun_log(1, -9)) == "rank-1 was killed by SIGKILL; the kernel kills so when memory runs out"


def test_a_consequence_is_better_than_nothing() -> None:
    assert "Connection closed by peer" in why([Log("rank-0", 1.0, GLOO_PEER)], Log("launcher", 2.0, ()))


def test_an_error_of_the_launcher_is_found_when_no_rank_began() -> None:
    assert why([], Log("launcher", 1.0, ("RuntimeError: no GPU resources available", ""))).startswith(
        "RuntimeError: no"
    )


def test_without_an_error_the_last_words_are_given() -> None:
    assert why([Log("prepare", 1.0, ("reading", "half way", ""))]) == "half way"
    assert why([Log("prepare", 1.0, ())]) == "no output; see the logs folder"


def test_a_log_is_read_from_its_end_and_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "prepare.log").write_text("\n".join(PREPARED) + "\n")

    assert why([read_log(tmp_path / "prepare.log")]) == "ValueError: bad row 7"
    assert read_log(tmp_path / "rank-0.log").lines == ()
