"""A fake rank: `python fake_rank.py RUN [BEHAVIOUR]`. It trains nothing and is as hard to end as its behaviour says."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from t5panel.contract.checkpoints import PREFIX
from t5panel.contract.layout import RunDir, write_atomic
from t5panel.contract.marker import Identity, write_marker
from t5panel.contract.process import start_time_of
from t5panel.contract.records import Failure, RankId, Record, Result, Start, Status, Step, encode_line
from t5panel.monitor.runs import read_info

ALONE = Identity(
    data={}, method="manual", world_size=1, per_device_train_batch_size=1, gradient_accumulation_steps=1, seed=1
)
PATIENCE_SECONDS = 120.0
"""A rank forgotten by a broken test ends by itself."""


def behave(run: RunDir, behaviour: str) -> None:
    """Live as told: until killed, or until the run is asked to stop."""
    match behaviour:
        case "own-session":
            os.setsid()
        case "ignores-term":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "daemon":
            _become_daemon()
        case "guarded":
            from t5panel.trainers.guard import enter_rank

            enter_rank()
        case "honours-stop":
            _wait_for_request(run)
            write_result(run, "stopped")
            return
        case "lends-its-port":
            _lend_port(run)
            _wait_for_request(run)
            write_result(run, "stopped")
            return
        case "saves-slowly":
            _wait_for_request(run)
            _say_saving(run)
            time.sleep(3.0)
            write_result(run, "stopped")
            return
        case "saves-forever":
            _wait_for_request(run)
            _say_saving(run)
        case "fails-to-save":
            _wait_for_request(run)
            run.rank_log(0).write_text("[rank0]: OSError: [Errno 28] No space left on device\n")
            sys.exit(1)
        case "fits-batch-2":
            _finish_or_run_out_of_memory(run)
            return
        case "loses-its-loss":
            _say_alive(run)
            _make_a_step(run, loss=None)
            _wait_for_request(run)
            write_result(run, "stopped")
            return
        case "stalls":
            faulthandler.register(signal.SIGUSR2, file=run.stacks(0).open("w"), all_threads=True)
            _make_a_step(run, loss=2.0)
            _linger(run)
            return
    _begin(run)
    _linger(run)


def _linger(run: RunDir) -> None:
    _say_alive(run)
    time.sleep(PATIENCE_SECONDS)


def _finish_or_run_out_of_memory(run: RunDir) -> None:
    _say_alive(run)
    write_checkpoint(run, 7)
    if read_info(run).spec["train"]["per_device_train_batch_size"] <= 2:
        write_result(run, "finished")
        return
    message = "CUDA out of memory. Tried to allocate 1.23 GiB. GPU 0 has a total capacity of 19.58 GiB"
    failure = Failure(0, time.time(), "torch.OutOfMemoryError", message, f"torch.OutOfMemoryError: {message}", 8)
    write_atomic(run.rank_failure(0), msgspec.json.encode(failure))
    sys.exit(1)


def lender(run: RunDir) -> str:
    """The abstract address at which a process outside of the run may borrow a rank's port."""
    return f"\0{run.path}"


def _lend_port(run: RunDir) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(lender(run))
        socket.send_fds(other, [b"port"], [server.fileno()])
    server.detach()  # open as long as this process lives


def _begin(run: RunDir) -> None:
    _write(run, Start(time.time(), 0, 100, world_size=1, parameters=1, train_rows=1, eval_rows=1, effective_batch=1))


def _make_a_step(run: RunDir, *, loss: float | None) -> None:
    _begin(run)
    step = Step(time.time(), 7, 0.1, loss, 1e-3, 1.0, 7, 7, step_seconds=0.1, data_wait_seconds=0.0)
    _write(run, Status(time.time(), 0, "running"), step)


def _write(run: RunDir, *records: Record) -> None:
    with run.metrics.open("ab") as file:
        file.writelines(map(encode_line, records))


def write_result(run: RunDir, status: str) -> None:
    """Rank 0's proof of a clean end."""
    result = {
        "status": status,
        "step": 7,
        "loss_first": 5.0,
        "loss_last": 2.0,
        "samples_per_second": 3.0,
        "peak_rss_per_rank": (1, 2),
        "peak_vram_per_card": (),
        "checkpoint": "checkpoints/checkpoint-7",
    }
    write_checkpoint(run, 7)
    write_atomic(run.result, msgspec.json.encode(msgspec.convert(result, Result)))


def write_checkpoint(run: RunDir, step: int) -> None:
    """A complete checkpoint, as small as can be."""
    folder = run.checkpoints / f"{PREFIX}{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    write_marker(folder, ALONE, step)


def register(run: RunDir) -> None:
    """Say who this rank is, as the guard of a real one does."""
    pid, rank = os.getpid(), int(os.environ["RANK"])
    write_atomic(run.ranks / str(rank), msgspec.json.encode(RankId(rank, pid, start_time_of(pid) or 0)), durable=False)


def _say_alive(run: RunDir) -> None:
    register(run)
    (run.logs / f"alive-{os.environ['RANK']}").touch()


def _say_saving(run: RunDir) -> None:
    _write(run, Status(time.time(), 7, "saving"))


def _wait_for_request(run: RunDir) -> None:
    _begin(run)
    _say_alive(run)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not run.request.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def _become_daemon() -> None:
    """Fork twice with a session between, as a daemon does, and ignore SIGTERM."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    behave(RunDir(Path(sys.argv[1])), sys.argv[2] if len(sys.argv) > 2 else "guarded")
