"""Why a run ended, from logs as they really were: each file of data/logs is named after what it must be called."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5panel.contract.layout import RunDir
from t5panel.contract.records import Failure
from t5panel.monitor import signatures
from t5panel.monitor.clues import Evidence, Exit, Host, Kills, Log, Login
from t5panel.monitor.diagnose import diagnose
from t5panel.monitor.evidence import (
    kills_at_logout,
    read_failures,
    read_free_disk,
    read_kernel,
    read_kills,
    read_log,
    read_login,
    read_pressure,
)
from t5panel.monitor.gpu_memory import Batch, Shortage, as_flags, read_shortage, smaller
from t5panel.monitor.proc import how_it_ended
from t5panel.monitor.sentences import LONGEST_SENTENCE
from t5panel.monitor.tracebacks import errors_in, of_failure

LOGS = Path(__file__).parents[1] / "data" / "logs"
EXCERPTS = sorted(LOGS.glob("*.log"))
GIB = 2**30
FOUR_BY_SIXTEEN = Batch(4, 16, gradient_checkpointing=True, num_gpus=3)
OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.23 GiB. GPU 1 has a total capacity of 19.58 GiB "
    "of which 411.44 MiB is free. Of the allocated memory 14.94 GiB is allocated by PyTorch, and 3.18 GiB is reserved "
    "by PyTorch but unallocated."
)
GLOO_PEER = (
    "[rank0]: Traceback (most recent call last):",
    '[rank0]:   File "/home/user/train/train.py", line 98, in <module>',
    "[rank0]: RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
    "[127.0.0.1]:45245.",
)
KEY_ERROR = (
    "[rank1]: Traceback (most recent call last):",
    '[rank1]:   File "/home/user/train/train.py", line 12, in go',
    "[rank1]: KeyError: 'rows'",
)
TORCHRUN = (
    "Root Cause (first observed failure):",
    "[0]:",
    "  time      : 2026-01-01_10:00:00",
    "  host      : localhost",
    "  rank      : {rank} (local_rank: {rank})",
    "  exitcode  : {code} (pid: 4242)",
)
KERNEL_KILL = "Out of memory: Killed process 4242 (python3) total-vm:53312244kB, anon-rss:11534336kB, file-rss:74816kB"
TIGHT = Host(used=int(11.8 * GIB), limit=12 * GIB, full=35.0)
ROOMY = Host(used=5 * GIB, limit=12 * GIB, full=0.0, kills_before=Kills(0, 0), kills_after=Kills(0, 0))


def evidence_of(excerpt: Path) -> Evidence:
    """A log file of several parts as the evidence of one death."""
    name, logs = "", dict[str, list[str]]()
    for line in excerpt.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            name = line.removeprefix("== ").removesuffix(".log")
            logs[name] = []
        elif name:
            logs[name].append(line)
    launcher_name = "deepspeed" if any("[launch.py:" in line for line in logs.get("launcher", ())) else "torchrun"
    # deepspeed's launcher returns 0 when its agent was killed: nothing but its own log is left then.
    return Evidence(
        run_id="20260101-t5",
        launcher=Log("launcher", 9.0, tuple(logs.get("launcher", ()))),
        ranks=tuple(Log(name, 1.0, tuple(lines)) for name, lines in logs.items() if name.startswith("rank-")),
        kernel=tuple(logs.get("kernel", ())),
        exit_code=0 if launcher_name == "deepspeed" and len(logs) == 1 else 1,
        launcher_name=launcher_name,
        step=1240,
        batch=FOUR_BY_SIXTEEN,
        host=ROOMY,
        free_disk=0,
    )


def torchrun(rank: int, code: int) -> Log:
    """What torchrun prints about the rank that it saw fail first."""
    return Log("launcher", 9.0, tuple(line.format(rank=rank, code=code) for line in TORCHRUN))


def failure(rank: int, time: float, kind: str, message: str) -> Failure:
    """What a rank's excepthook leaves."""
    traceback = (
        f'Traceback (most recent call last):\n  File "/t5panel/manual.py", line 61, in train\n{kind}: {message}\n'
    )
    return Failure(rank, time, kind, message, traceback, step=7)


@pytest.mark.parametrize("excerpt", EXCERPTS, ids=lambda path: path.stem)
def test_each_real_log_has_its_one_cause(excerpt: Path) -> None:
    found = diagnose(evidence_of(excerpt))

    assert found.code == excerpt.name.split(".")[0], found
    assert 20 < len(found.sentence) <= LONGEST_SENTENCE
    assert "\n" not in found.sentence + found.hint
    assert not re.search(r"[{}]| ,|  | None\b", found.sentence + found.hint), found
    assert re.search(r"t5panel|--set|--run-dir|torch|ulimit|group|limit|user|model", found.hint)


def test_no_row_of_the_table_is_dead_and_none_hides_another() -> None:
    texts: dict[str, list[str]] = {}
    for excerpt in EXCERPTS:
        texts.setdefault(excerpt.name.split(".")[0], []).append(excerpt.read_text(encoding="utf-8"))

    assert [
        row.code for row in signatures.TABLE if not any(row.match(text, text) for text in texts.get(row.code, ()))
    ] == []


def test_every_death_of_the_field_is_in_the_table() -> None:
    """The failures of the owner of the reference box: rows 1 to 9 of the list that this tool was built from."""
    met = (
        (OUT_OF_MEMORY, "cuda-out-of-memory"),
        (
            "Error while attaching to shared memory segment /dev/shm/nccl-a1 (size 0), error: No such file",
            "nccl-shared-memory",
        ),
        ("deepspeed: error: unrecognized arguments: -m", "wrong-launch-line"),
        ("ImportError: attempted relative import with no known parent package", "wrong-launch-line"),
        ("NotImplementedError: Unknown command: --local_rank=0.", "wrong-launch-line"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data/dataset_info.json'", "data-registry"),
        ("KeyError: 'input'", "column"),
        ("ImportError: cannot import name 'AutoModelForVision2Seq' from 'transformers'", "import"),
        ("RuntimeError: PytorchStreamWriter failed writing file data/2: file write failed", "disk-full"),
    )

    assert [diagnose(Evidence(launcher=Log("launcher", 1.0, (line,)))).code for line, _ in met] == [
        code for _, code in met
    ]


# Who was first.


def test_the_earliest_exception_that_is_no_consequence_is_the_cause() -> None:
    left = (
        failure(0, 1.0, "RuntimeError", "Connection closed by peer [127.0.0.1]:4"),
        failure(2, 3.0, "ValueError", "later"),
        failure(1, 2.0, "KeyError", "'rows'"),
    )

    found = diagnose(Evidence(failures=left, launcher=torchrun(0, 1), step=7))

    assert (found.rank, found.code) == (1, "exception")
    assert found.sentence == "rank 1 at step 7 failed with KeyError: 'rows' (manual.py:61)"
    assert 'File "/t5panel/manual.py", line 61' in found.detail


def test_without_exceptions_of_the_ranks_torchrun_says_who_was_first() -> None:
    logs = (Log("rank-0", 1.0, ("[rank0]: ValueError: a",)), Log("rank-1", 2.0, ("[rank1]: ValueError: b",)))

    assert diagnose(Evidence(ranks=logs, launcher=torchrun(1, 1))).rank == 1


def test_without_a_word_of_torchrun_the_log_that_ended_first_is_asked() -> None:
    logs = (Log("rank-0", 2.0, ("[rank0]: ValueError: a",)), Log("rank-1", 1.0, ("[rank1]: ValueError: b",)))

    assert diagnose(Evidence(ranks=logs, launcher=Log("launcher"))).rank == 1


@pytest.mark.parametrize(
    "excerpt", [path for path in EXCERPTS if "rank-" in path.read_text()], ids=lambda path: path.stem
)
def test_a_consequence_never_outranks_the_cause(excerpt: Path) -> None:
    known = evidence_of(excerpt)
    peer = Log("rank-7", 0.0, GLOO_PEER)

    worse = diagnose(
        replace(
            known, ranks=(peer, *known.ranks), failures=(failure(7, 0.0, "BrokenPipeError", "[Errno 32] Broken pipe"),)
        )
    )

    assert worse.code == diagnose(known).code or excerpt.name.startswith(("peer-lost", "vanished"))


def test_a_rank_that_waited_in_vain_is_believed_less_than_one_that_failed() -> None:
    watchdog = (
        "[rank0]:[E1124 10:00:00.1 ProcessGroupNCCL.cpp:607] [Rank 0] Watchdog caught collective operation timeout: "
        "WorkNCCL(SeqNum=5, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600013 milliseconds "
        "before timing out.",
    )
    logs = (Log("rank-0", 1.0, watchdog), Log("rank-1", 2.0, KEY_ERROR))

    assert diagnose(Evidence(ranks=logs, launcher=Log("launcher"))).rank == 1
    assert "in ALLREDUCE for 600 s" in diagnose(Evidence(ranks=logs[:1], launcher=Log("launcher"))).sentence


def test_an_exception_of_the_preparation_is_its_own() -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/t5panel/prepare.py", line 3, in read',
        "ValueError: no rows",
    )

    found = diagnose(Evidence(prepare=Log("prepare", 1.0, lines), exit_code=1))

    assert found.sentence == "the preparation failed with ValueError: no rows (prepare.py:3)"


def test_what_a_rank_printed_beside_its_exception_is_heard() -> None:
    left = failure(1, 1.0, "torch.AcceleratorError", "CUDA error: unspecified launch failure")
    log = Log("rank-1", 1.0, ("Indexing.cu:1231: block: [3,0,0] Assertion `srcIndex < srcSelectDimSize` failed.",))

    found = diagnose(Evidence(failures=(left,), ranks=(log,), launcher=Log("launcher")))

    assert (found.code, found.rank) == ("device-assert", 1)
    assert 'File "/t5panel/manual.py", line 61' in found.detail


def test_a_rank_that_spoke_before_it_was_killed_is_believed() -> None:
    logs = (Log("rank-0", 2.0, GLOO_PEER), Log("rank-1", 1.0, KEY_ERROR))

    assert diagnose(Evidence(ranks=logs, launcher=torchrun(1, -9))).code == "exception"


def test_ranks_that_the_supervisor_swept_are_not_the_first_to_die() -> None:
    swept = tuple(Exit(f"rank {rank}", -9) for rank in range(3))

    assert diagnose(Evidence(launcher=Log("launcher"), exit_code=-9, exits=swept)).code == "launcher-killed"


@pytest.mark.parametrize(
    ("code", "known", "sentence"),
    [
        (-9, "killed", "rank 2 was killed by SIGKILL, by whom is unknown"),
        (-15, "killed", "rank 2 was ended by SIGTERM from outside"),
        (-11, "crashed", "rank 2 crashed with SIGSEGV"),
        (3, "silent-exit", "rank 2 returned 3 without an error; its last words: step 7"),
        (1, "silent-exit", "rank 2 returned 1 without an error; its last words: step 7"),
    ],
)
def test_a_rank_that_was_seen_to_end_without_a_word_is_the_cause_of_what_the_others_miss(
    code: int, known: str, sentence: str
) -> None:
    logs = (Log("rank-0", 2.0, GLOO_PEER), Log("rank-1"), Log("rank-2", 1.0, ("step 7",)))
    exits = (Exit("rank 2", code), Exit("rank 0", 1), Exit("rank 1", -15))
    told = Log("launcher", 9.0, ("['train.py'] exits with return code = 1",))

    found = diagnose(Evidence(ranks=logs, launcher=told, launcher_name="deepspeed", exit_code=1, exits=exits))

    assert (found.code, found.rank, found.sentence) == (known, 2, sentence)


def test_a_rank_that_says_why_is_believed_whoever_was_seen_to_end_first() -> None:
    logs = (Log("rank-0", 1.0, GLOO_PEER), Log("rank-1", 2.0, KEY_ERROR))
    exits = (Exit("rank 0", 1), Exit("rank 1", 1))

    assert diagnose(Evidence(ranks=logs, launcher=Log("launcher"), exit_code=1, exits=exits)).rank == 1


@pytest.mark.parametrize("words", ["x", "No space left on device /dev/shm ", "port: 1 ", "1.", "line 1 ", "Xid ("])
def test_a_line_without_end_takes_no_time(words: str) -> None:
    line = words * (300_000 // len(words))
    begun = time.perf_counter()

    diagnose(Evidence(ranks=(Log("rank-1", 1.0, (line,) * 20),), failures=(failure(0, 1.0, "ValueError", line),)))

    assert time.perf_counter() - begun < 2.0


# Killed, and by whom.


def test_a_bare_sigkill_is_not_called_a_lack_of_memory() -> None:
    logs = (Log("rank-0", 2.0, GLOO_PEER), Log("rank-1", 1.0, ("step 7",)))

    found = diagnose(Evidence(ranks=logs, launcher=torchrun(1, -9), step=7, host=ROOMY))

    assert (found.code, found.rank) == ("killed", 1)
    assert found.sentence == (
        "rank 1 at step 7 was killed by SIGKILL, by whom is unknown: memory was at 5.0 of 12.0 GiB"
    )


@pytest.mark.parametrize(
    "known",
    [
        Evidence(kernel=(KERNEL_KILL,)),
        Evidence(host=Host(kills_before=Kills(0, 3), kills_after=Kills(1, 4))),
        Evidence(host=Host(kills_before=Kills(None, 3), kills_after=Kills(None, 4))),
    ],
)
def test_a_sigkill_with_the_kernels_word_is_a_lack_of_host_memory(known: Evidence) -> None:
    found = diagnose(replace(known, ranks=(Log("rank-0", 2.0, GLOO_PEER),), launcher=torchrun(1, -9)))

    assert (found.code, found.rank) == ("host-out-of-memory", 1)
    assert "the kernel ran out of host memory" in found.sentence


def test_a_sigkill_under_pressure_is_most_likely_a_lack_of_host_memory() -> None:
    found = diagnose(Evidence(launcher=torchrun(2, -9), host=TIGHT))

    assert found.code == "host-memory-pressure"
    assert found.sentence == (
        "rank 2 was killed by SIGKILL, most likely for want of host memory: "
        "memory was at 11.8 of 12.0 GiB, pressure 35 %"
    )


def test_a_kernel_that_killed_before_the_run_is_no_evidence() -> None:
    host = replace(ROOMY, kills_before=Kills(2, 2), kills_after=Kills(2, 2))

    assert diagnose(Evidence(launcher=torchrun(1, -9), host=host)).code == "killed"


def test_deepspeeds_launcher_that_returns_0_has_lost_its_agent() -> None:
    found = diagnose(Evidence(launcher=Log("launcher"), launcher_name="deepspeed", exit_code=0, step=7))

    assert found.code == "agent-killed"
    assert "returned 0 without a result at step 7: its agent was killed" in found.sentence


def test_an_agent_that_was_seen_dying_is_named() -> None:
    found = diagnose(Evidence(launcher=Log("launcher"), exit_code=0, exits=(Exit("the deepspeed agent", -9),)))

    assert (found.code, found.sentence[:42]) == ("agent-killed", "the deepspeed agent was killed by SIGKILL,")


def test_a_killed_launcher_is_named() -> None:
    assert diagnose(Evidence(launcher=Log("launcher"), exit_code=-9)).code == "launcher-killed"


def test_what_the_user_did_needs_no_other_cause() -> None:
    found = diagnose(Evidence(asked="kill", ranks=(Log("rank-1", 1.0, KEY_ERROR),), step=7))

    assert (found.code, found.sentence) == ("killed-by-user", "killed by the user at step 7, without a checkpoint")


def test_a_logout_is_seen_by_logind_and_the_session() -> None:
    gone = Evidence(launcher=Log("launcher"), asked="signal", login=Login(kill_user_processes=True, alive=False))

    assert diagnose(gone).code == "logged-out"
    assert diagnose(replace(gone, login=Login(kill_user_processes=True, alive=True))).code != "logged-out"
    assert diagnose(replace(gone, login=Login(kill_user_processes=None, alive=False))).code != "logged-out"


def test_a_reboot_is_told_by_the_boot_id_before_all_else() -> None:
    found = diagnose(
        Evidence(
            run_id="r1", boot_then="a", boot_now="b", doing="saving at step 40", ranks=(Log("rank-1", 1.0, KEY_ERROR),)
        )
    )

    assert found.code == "machine-restarted"
    assert found.sentence == "the machine was restarted while the run was saving at step 40"
    assert found.hint == "`t5panel resume r1` goes on from its newest complete checkpoint"


def test_a_dead_supervisor_is_said_with_what_the_run_did() -> None:
    found = diagnose(Evidence(supervisor_alive=False, doing="running at step 40"))

    assert found.code == "supervisor-killed"
    assert "the supervisor died while the run was running at step 40" in found.sentence


def test_a_card_that_the_kernel_saw_fail_outranks_what_ranks_say() -> None:
    xid = "NVRM: Xid (PCI:0000:65:00): 79, pid=4242, name=python, GPU has fallen off the bus."
    lines = ("[rank1]: torch.AcceleratorError: CUDA error: unspecified launch failure",)
    known = Evidence(ranks=(Log("rank-1", 1.0, lines),), launcher=Log("launcher"))

    assert diagnose(known).code == "cuda-error"
    assert diagnose(replace(known, kernel=(xid,))).code == "gpu-lost"
    assert diagnose(replace(known, kernel=(xid.replace("79", "48").replace("GPU has", "DBE"),))).code == "gpu-xid"
    assert diagnose(replace(known, kernel=(xid.replace("79", "31"),))).code == "cuda-error"


def test_a_card_that_failed_beside_the_run_is_not_its_cause() -> None:
    xid = "NVRM: Xid (PCI:0000:65:00): 63, pid=4242, name=python, Row remapper: row remapping recorded"

    assert diagnose(Evidence(ranks=(Log("rank-1", 1.0, KEY_ERROR),), kernel=(xid,))).code == "exception"
    assert diagnose(Evidence(ranks=(Log("rank-0", 1.0, GLOO_PEER),), kernel=(xid,))).code == "gpu-xid"


def test_a_loss_that_was_not_finite_explains_an_end_that_nothing_else_does() -> None:
    assert diagnose(Evidence(launcher=Log("launcher"), exit_code=1, loss_finite=False)).code == "loss-not-finite"


def test_without_any_word_the_last_words_are_given() -> None:
    found = diagnose(Evidence(launcher=Log("launcher", 1.0, ("half way", "")), exit_code=3))

    assert (found.code, found.sentence) == (
        "unknown",
        "the launcher returned 3 without a result; its last words: half way",
    )
    assert diagnose(Evidence()).sentence == "the launcher ended without a result; its last words: none"


def test_exit_codes_are_told_in_words() -> None:
    assert [how_it_ended(code) for code in (0, 3, -9, -99)] == [
        "returned 0",
        "returned 3",
        "was ended by SIGKILL",
        "was ended by signal 99",
    ]


text = st.text() | st.sampled_from([line for path in EXCERPTS for line in path.read_text().splitlines()] or [""])
logs = st.builds(Log, st.sampled_from(["rank-0", "rank-1", "rank-x", ""]), st.floats(0, 9), st.lists(text).map(tuple))
failures = st.builds(
    Failure,
    st.integers(0, 9),
    st.floats(0, 9),
    text,
    text,
    text,
    st.none() | st.integers(0),
    st.none() | st.integers(0),
)
kills = st.builds(Kills, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))
hosts = st.builds(
    Host, st.integers(0, 2**40), st.integers(0, 2**40), st.none(), st.none() | st.floats(0, 100), kills, kills
)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        Evidence,
        launcher=st.none() | logs,
        ranks=st.lists(logs, max_size=3).map(tuple),
        prepare=st.none() | logs,
        failures=st.lists(failures, max_size=3).map(tuple),
        exit_code=st.none() | st.integers(-200, 200),
        exits=st.lists(st.builds(Exit, text, st.integers(-70, 255)), max_size=2).map(tuple),
        host=hosts,
        free_disk=st.none() | st.integers(0, 2**50),
        step=st.none() | st.integers(0, 10**9),
        batch=st.none() | st.builds(Batch, st.integers(1, 64), st.integers(1, 64), st.booleans(), st.integers(1, 8)),
        supervisor_alive=st.booleans(),
        kernel=st.lists(text, max_size=3).map(tuple),
    )
)
def test_there_is_an_answer_to_anything(known: Evidence) -> None:
    found = diagnose(known)

    assert found.code
    assert found.sentence.strip()
    assert len(found.sentence) <= LONGEST_SENTENCE
    assert not re.search(r"[\n\r]", found.sentence)


# CUDA out of memory, in the words of several versions of torch.


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        (
            OUT_OF_MEMORY,
            Shortage(1, 1320702443, 21023864913, 431426109, 16041702850, 16041702850 + 3414499000, None),
        ),
        (
            "Tried to allocate 1.70 GiB. GPU 0 has a total capacty of 6.00 GiB of which 0 bytes is free. Of the "
            "allocated memory 2.93 GiB is allocated by PyTorch, and 2.30 GiB is reserved by PyTorch but unallocated.",
            Shortage(0, 1825361100, 6 * GIB, 0, 3146063544, 3146063544 + 2469606195, None),
        ),
        (
            "Tried to allocate 38.00 MiB (GPU 0; 4.00 GiB total capacity; 3.41 GiB already allocated; 0 bytes free; "
            "3.44 GiB reserved in total by PyTorch)",
            Shortage(0, 38 * 2**20, 4 * GIB, 0, 3661459619, 3693671874, None),
        ),
        (
            "Tried to allocate 2.00 MiB (GPU 0; 11.17 GiB total capacity; 10.62 GiB already allocated; "
            "832.00 KiB free; 18.02 MiB cached)",
            Shortage(0, 2 * 2**20, 11993696174, 832 * 1024, 11403138170, 18895339, None),
        ),
        ("CUDA error: out of memory", Shortage()),
    ],
)
def test_torchs_figures_are_read_in_all_its_wordings(message: str, seen: Shortage) -> None:
    assert read_shortage(message) == seen


def test_the_allocators_own_figures_stand_in_for_those_that_the_message_lacks() -> None:
    left = Failure(1, 1.0, "torch.AcceleratorError", "CUDA error: out of memory", "", 7, 15 * GIB, 18 * GIB)

    found = diagnose(Evidence(failures=(left,), step=7, batch=FOUR_BY_SIXTEEN))

    assert found.sentence == "rank 1 at step 7 ran out of GPU memory: 15.0 GiB allocated, 18.0 GiB reserved"


def test_an_out_of_memory_names_what_was_measured_and_the_nearest_setting() -> None:
    found = diagnose(Evidence(failures=(failure(1, 1.0, *OUT_OF_MEMORY.split(": ", 1)),), batch=FOUR_BY_SIXTEEN))

    assert found.sentence == (
        "rank 1 ran out of GPU memory on its card 1: 1.2 GiB asked for, 14.9 GiB allocated, "
        "18.1 GiB reserved of 19.6 GiB"
    )
    assert found.hint == (
        "`--set train.per_device_train_batch_size=2 --set train.gradient_accumulation_steps=32` needs less "
        "for the same 192 rows per step; PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the environment avoids "
        "the fragmentation"
    )


def test_a_card_that_another_process_uses_is_told_of() -> None:
    message = "CUDA out of memory. Tried to allocate 2.00 GiB. Process 4711 has 8.00 GiB memory in use."

    assert (
        "`t5panel doctor` names it"
        in diagnose(Evidence(failures=(failure(0, 1.0, "torch.OutOfMemoryError", message),))).hint
    )


@given(
    st.builds(Batch, st.integers(1, 512), st.integers(1, 512), st.booleans(), st.integers(1, 8)),
)
def test_a_smaller_batch_keeps_the_rows_of_a_step(batch: Batch) -> None:
    less = smaller(batch)

    assert less is None or (less.effective == batch.effective and less != batch)
    assert less is not None or (batch.per_device_train_batch_size == 1 and batch.gradient_checkpointing)
    assert less is None or less.per_device_train_batch_size <= batch.per_device_train_batch_size


def test_a_batch_of_one_turns_checkpointing_on() -> None:
    one = Batch(1, 8, gradient_checkpointing=False, num_gpus=3)
    less = smaller(one)

    assert less is not None
    assert as_flags(one, less) == "--set train.gradient_checkpointing=true"
    assert smaller(less) is None


# Tracebacks.


def test_a_chain_is_one_error_and_what_is_ignored_is_none() -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in f',
        "KeyError: 1",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "a.py", line 2, in f',
        "ValueError: two",
        " lines",
        "",
        "Exception ignored in: <function Pool.__del__ at 0x7f>",
        "Traceback (most recent call last):",
        '  File "b.py", line 9, in __del__',
        "AttributeError: late",
    )

    (error,) = errors_in(lines)

    assert (error.gist, error.where, error.text) == (
        "ValueError: two",
        "a.py:2",
        "KeyError: 1\nValueError: two\n lines",
    )


def test_a_failure_is_read_like_a_traceback() -> None:
    error = of_failure(failure(1, 2.0, "KeyError", "'rows'"))

    assert (error.gist, error.where, error.rank) == ("KeyError: 'rows'", "manual.py:61", 1)


# What the machine tells.


def write(root: Path, name: str, content: str) -> None:
    """A file of a made-up machine."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.mark.parametrize(
    ("cgroup", "file", "count"),
    [
        ("0::/user/run", "sys/fs/cgroup/user/run/memory.events", "low 0\noom 3\noom_kill 2\n"),
        ("0::/host/path", "sys/fs/cgroup/memory.events", "oom_kill 2\n"),
        ("4:memory:/run", "sys/fs/cgroup/memory/run/memory.oom_control", "under_oom 0\noom_kill 2\n"),
    ],
)
def test_kills_are_counted_in_both_versions_of_cgroups(tmp_path: Path, cgroup: str, file: str, count: str) -> None:
    write(tmp_path, "proc/self/cgroup", cgroup + "\n")
    write(tmp_path, "proc/vmstat", "nr_free 9\noom_kill 5\n")
    write(tmp_path, file, count)

    assert read_kills(root=tmp_path) == Kills(2, 5)


def test_pressure_is_the_worst_of_host_and_cgroup(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/run\n")
    write(tmp_path, "proc/pressure/memory", "some avg10=1.50 avg60=0 total=1\nfull avg10=0.50 avg60=0 total=1\n")
    write(tmp_path, "sys/fs/cgroup/run/memory.pressure", "some avg10=40.00 total=1\nfull avg10=31.25 total=1\n")

    assert read_pressure(root=tmp_path) == (40.0, 31.25)


def test_the_kernels_lines_since_the_start_are_those_that_tell(tmp_path: Path) -> None:
    write(
        tmp_path,
        "kmsg",
        f"4,1,1000000,-;Out of memory: old\n6,2,9000000,-;eth0: up\n3,3,9000001,-;{KERNEL_KILL}\n KEY=1\n",
    )

    assert read_kernel(since=5.0, path=tmp_path / "kmsg") == (KERNEL_KILL,)


def test_the_last_of_logins_files_wins(tmp_path: Path) -> None:
    assert kills_at_logout(root=tmp_path) is None
    write(tmp_path, "etc/systemd/logind.conf", "[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n")
    assert kills_at_logout(root=tmp_path) is True
    write(tmp_path, "usr/lib/systemd/logind.conf.d/10-keep.conf", "[Login]\nKillUserProcesses = no\n")
    assert kills_at_logout(root=tmp_path) is False


def test_a_login_session_lives_as_long_as_its_file(tmp_path: Path) -> None:
    write(tmp_path, "run/systemd/sessions/7", "")

    sessions: list[dict[str, str]] = [{"XDG_SESSION_ID": "7"}, {"XDG_SESSION_ID": "8"}, {}]

    assert [read_login(session, root=tmp_path).alive for session in sessions] == [True, False, None]


def test_a_machine_that_says_nothing_is_no_error(tmp_path: Path) -> None:
    assert read_kills(root=tmp_path) == Kills()
    assert read_pressure(root=tmp_path) == (None, None)
    assert read_kernel(path=tmp_path / "kmsg") == ()
    assert read_free_disk(tmp_path / "gone") is None
    assert read_log(tmp_path / "rank-0.log") == Log("rank-0")
    assert read_failures(RunDir(tmp_path)) == ()


def test_a_log_is_read_from_where_this_attempt_began(tmp_path: Path) -> None:
    (tmp_path / "rank-1.log").write_text("ValueError: of yesterday\nKeyError: 'now'\n")

    found = read_log(tmp_path / "rank-1.log", begin=len("ValueError: of yesterday\n"))

    assert (found.name, found.lines) == ("rank-1", ("KeyError: 'now'",))


def test_failures_are_read_by_rank_and_torn_ones_left_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.ranks.mkdir()
    for rank in (1, 0):
        run.rank_failure(rank).write_bytes(msgspec.json.encode(failure(rank, 1.0, "KeyError", "x")))
    run.rank_failure(2).write_bytes(b'{"rank": 2')

    assert [left.rank for left in read_failures(run)] == [0, 1]


def test_this_machine_answers() -> None:
    assert read_kills().machine is not None
    assert (read_free_disk(Path("/")) or 0) > 0
    read_kernel()
    read_login()
