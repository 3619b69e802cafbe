"""Do the ranks of a run reach each other? `python -m t5panel.trainers.collective --ranks 3 --device cpu --json`

The real backend, the real cards, one all-reduce of 1 MiB: what fails here would fail in the run, minutes later and in
words nobody understands. torch is imported once; the ranks are forked from it before any of them touches CUDA.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import select
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

LIMIT_SECONDS = 20.0
GRACE_SECONDS = 1.5
"""How long the others may still say why they failed, once one rank has failed."""
ELEMENTS = 2**18
"""float32 values of 1 MiB."""
STAGES = ("start", "join the group", "add up 1 MiB", "leave the group")
"""What a rank does, in order; a rank that hangs is in the stage after the last one it reported."""
SHM_TROUBLE = re.compile(r"shared memory|/dev/shm|shmget|\bshm\b", re.IGNORECASE)
BOILERPLATE = ("Exception raised from", "CUDA kernel errors might be asynchronously reported")
MOST_CHARACTERS = 600
"""Characters of an error that are passed on."""
_PR_SET_PDEATHSIG = 1
_KILL_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """Who shall reach whom."""

    ranks: int
    device: str
    cards: tuple[int, ...]
    limit: float = LIMIT_SECONDS
    """Seconds after which everything is killed."""


@dataclass(frozen=True)
class Outcome:
    """What came of it. `code` is empty when all went well."""

    code: str
    message: str
    backend: str
    ranks: int
    device: str
    seconds: float
    reduce_seconds: float | None = None
    """The second all-reduce, on the slowest rank: the first one connects."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables without which it does not work."""
    torch: Mapping[str, Any] = field(default_factory=dict)
    """Version, CUDA version and architectures of this interpreter's torch."""


def check(plan: Plan) -> Outcome:
    """Let the ranks add up 1 MiB; once more without shared memory when that is what NCCL failed on."""
    _choose_cards(plan)
    import torch

    begin = time.monotonic()
    facts = {"version": torch.__version__, "cuda": torch.version.cuda}
    backend = "nccl" if plan.device == "cuda" else "gloo"

    def outcome(code: str, message: str, **more: Any) -> Outcome:  # noqa: ANN401
        return Outcome(code, message, backend, plan.ranks, plan.device, time.monotonic() - begin, torch=facts, **more)

    if plan.device == "cuda" and not (torch.version.cuda and torch.distributed.is_nccl_available()):
        return outcome("torch.no-cuda", f"torch {torch.__version__} is built without CUDA")
    code, message, seconds = _attempt(plan, backend, plan.limit)
    if code and plan.device == "cuda" and SHM_TROUBLE.search(message) and "NCCL_SHM_DISABLE" not in os.environ:
        os.environ["NCCL_SHM_DISABLE"] = "1"
        again, _, seconds = _attempt(plan, backend, max(1.0, plan.limit - (time.monotonic() - begin)))
        if not again:
            return outcome("collective.shm", message, reduce_seconds=seconds, env={"NCCL_SHM_DISABLE": "1"})
    return outcome(code, message, reduce_seconds=seconds)


def _choose_cards(plan: Plan) -> None:
    """Before torch is imported: what CUDA reads when it wakes up."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, plan.cards)) if plan.device == "cuda" else ""


def _attempt(plan: Plan, backend: str, limit: float) -> tuple[str, str, float | None]:
    """One try: (code, message, seconds of the slowest all-reduce). The ranks meet in a file, as those of a run do."""
    with tempfile.TemporaryDirectory(prefix="t5panel-") as folder:
        return _attempt_in(f"{folder}/meeting", plan, backend, limit)


def _attempt_in(meeting: str, plan: Plan, backend: str, limit: float) -> tuple[str, str, float | None]:
    deadline = time.monotonic() + limit
    pipes: dict[int, int] = {}
    pids: dict[int, int] = {}
    for rank in range(plan.ranks):
        pids[rank], pipes[rank] = _fork(plan, rank, backend, meeting, limit)
    died: dict[int, int] = {}
    try:
        reports = _listen(pipes, deadline)
        died = {rank: number for rank, pid in pids.items() if (number := _signal_that_ended(pid))}
    finally:
        _end(tuple(pids.values()))
        for pipe in pipes.values():
            os.close(pipe)
    return verdict(reports, died, limit)


def verdict(
    reports: Mapping[int, Sequence[Mapping[str, Any]]], died: Mapping[int, int], limit: float
) -> tuple[str, str, float | None]:
    """What the ranks' reports amount to: a rank that died, else the first failure, else who is late, else the time."""
    for rank, number in died.items():
        return "collective.failed", f"rank {rank} died of {signal.Signals(number).name} in the check", None
    failures = {rank: lines[-1] for rank, lines in reports.items() if lines and "error" in lines[-1]}
    if failures:
        rank = min(failures, key=lambda rank: failures[rank]["time"])
        return failures[rank]["code"], f"rank {rank}: {failures[rank]['error']}", None
    missing = {rank: len(lines) for rank, lines in reports.items() if not lines or "seconds" not in lines[-1]}
    if missing:
        least = min(missing.values())
        who = [rank for rank, done in missing.items() if done == least]
        words = f"rank {who[0]}" if len(who) == 1 else f"ranks {', '.join(map(str, who))}"
        return "collective.timeout", f"{words} did not {STAGES[least]} within {limit:.0f} s", None
    return "", "", max(lines[-1]["seconds"] for lines in reports.values())


def _fork(plan: Plan, rank: int, backend: str, meeting: str, limit: float) -> tuple[int, int]:
    """A rank as a child of this process: (pid, the pipe it reports to)."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _be_rank(plan, rank, backend, meeting, limit, writer, parent)
    os.close(writer)
    return pid, reader


def _be_rank(plan: Plan, rank: int, backend: str, meeting: str, limit: float, writer: int, parent: int) -> NoReturn:
    """The life of a forked rank; it never returns into the code of its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    code = 1
    try:
        if os.getppid() == parent:
            os.dup2(2, 1)  # whatever a library prints is no part of our answer
            add_up(plan, rank, backend, meeting, limit, writer)
            code = 0
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        kind = "torch.arch" if isinstance(error, ArchitectureError) else "collective.failed"
        text = f"{type(error).__name__}: {short_error(str(error))}"
        _report(writer, code=kind, error=str(error) if kind == "torch.arch" else text, time=time.monotonic())
    finally:
        os._exit(code)


class ArchitectureError(Exception):
    """torch holds no code for a card."""


def add_up(plan: Plan, rank: int, backend: str, meeting: str, limit: float, writer: int) -> None:
    """What one rank does: join, add up, wait for all, leave. It reports after each stage."""
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore

    _report(writer, stage=0)
    device = torch.device("cpu")
    if plan.device == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
        _require_code_for(torch.cuda.get_device_capability(device), torch.cuda.get_arch_list())
    dist.init_process_group(
        backend,
        store=FileStore(meeting, plan.ranks),
        rank=rank,
        world_size=plan.ranks,
        timeout=timedelta(seconds=limit),
        device_id=device if plan.device == "cuda" else None,
    )
    _report(writer, stage=1)
    for _ in range(2):
        values = torch.full((ELEMENTS,), rank + 1.0, device=device)
        dist.barrier()
        begin = time.monotonic()
        dist.all_reduce(values)
        right = bool((values == plan.ranks * (plan.ranks + 1) / 2).all().item())
        seconds = time.monotonic() - begin
        if not right:
            raise ArithmeticError("the sum over the ranks is wrong")
    _report(writer, stage=2)
    dist.barrier()
    dist.destroy_process_group()
    _report(writer, seconds=seconds)


def _require_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> None:
    if architectures and not has_code_for(capability, architectures):
        name = f"sm_{capability[0]}{capability[1]}"
        raise ArchitectureError(f"torch holds no code for this card ({name}), only for {', '.join(architectures)}")


def has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """True when one of torch's architectures runs on a card: the same major version, or PTX of an earlier one."""
    for name in architectures:
        kind, _, digits = name.partition("_")
        digits = digits.rstrip("af")  # sm_90a: for 9.0 alone
        major, minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and (major, minor) <= capability:
            return True
        if kind == "sm" and major == capability[0] and minor <= capability[1]:
            return True
    return False


def _report(writer: int, **words: Any) -> None:  # noqa: ANN401
    os.write(writer, json.dumps(words).encode() + b"\n")


def short_error(text: str) -> str:
    """An exception's text without C++ frames and advice; of a long one also the end, where NCCL has its last error."""
    for marker in BOILERPLATE:
        text = text.partition(marker)[0]
    words = " ".join(text.split())
    return words if len(words) <= MOST_CHARACTERS else f"{words[:100]} … {words[100 - MOST_CHARACTERS :]}"


def _listen(pipes: Mapping[int, int], deadline: float) -> dict[int, list[dict[str, Any]]]:
    """What the ranks report until all have ended, one has failed a moment ago, or time is up."""
    heard = dict.fromkeys(pipes, b"")
    open_pipes = {pipe: rank for rank, pipe in pipes.items()}
    while open_pipes and (left := deadline - time.monotonic()) > 0:
        for pipe in select.select(list(open_pipes), [], [], left)[0]:
            chunk = os.read(pipe, 65536)
            heard[open_pipes[pipe]] += chunk
            if b'"error"' in chunk:
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            if not chunk:
                rank = open_pipes.pop(pipe)
                if b'"seconds"' not in heard[rank]:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    return {rank: [json.loads(line) for line in text.splitlines()] for rank, text in heard.items()}


def _signal_that_ended(pid: int) -> int:
    """The signal of which a child has died already; 0 for none. It stays to be collected."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended.si_status if ended is not None and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED) else 0


def _end(pids: Sequence[int]) -> None:
    """Kill what still lives and collect it; a process in state D is left to the kernel after two seconds."""
    deadline = time.monotonic() + _KILL_SECONDS
    left = set(pids)
    while left and time.monotonic() < deadline:
        for pid in tuple(left):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if os.waitpid(pid, os.WNOHANG)[0]:
                left.discard(pid)
        if left:
            time.sleep(0.01)


def main(words: Sequence[str]) -> int:
    """The check as a command: one JSON object or one sentence; 1 when it failed."""
    parser = argparse.ArgumentParser(prog="t5panel.trainers.collective", description=check.__doc__)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--cards", default="", help="PCI indices, 0,1,2")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(words)
    cards = tuple(int(card) for card in given.cards.split(",") if card)
    outcome = check(Plan(given.ranks, given.device, cards, given.limit))
    text = f"{outcome.code or 'ok'}: {outcome.message or f'{outcome.ranks} ranks over {outcome.backend}'}"
    sys.stdout.write((json.dumps(asdict(outcome)) if given.json else text) + "\n")
    return 1 if outcome.code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
