"""The panel beside other viewers on the same run, each measured the same way. Prints a Markdown table.

    python -m tests.benchmarks.rivals [--wandb PYTHON] [--tensorboard PYTHON] [--llamafactory PYTHON]

PYTHON is the interpreter of an environment in which that program is installed. Each program is started, its cost noted
when the loss is there to be seen, and then left alone for half a minute while one step a second is added. A web
interface has no terminal: of it the bytes of its first page count, as a server sends them (gzip where it offers it).
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from t5panel import __version__
from t5panel.launch.processes import free_port
from t5panel.monitor.export import write_events
from tests.benchmarks.panel import FIRST_FRAME, PANEL, PLOT, SETTLING_SECONDS, recorded_run
from tests.benchmarks.player import played
from tests.benchmarks.plots import with_steps
from tests.benchmarks.screen import Cost, Screen, cpu_seconds, end, shown
from tests.house.household import House

STEPS = 5000
SECONDS = 30.0
PATIENCE_SECONDS = 300.0
WANDB_WRITER = """
import json, sys, time
import wandb
quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True)
run = wandb.init(mode="offline", dir=sys.argv[2], settings=quiet)
names = {"loss": "train/loss", "learning_rate": "train/learning_rate", "grad_norm": "train/grad_norm",
         "step_seconds": "time/step_seconds", "data_wait_seconds": "time/data_wait_seconds"}
steps = [m for m in map(json.loads, open(sys.argv[1])) if m["kind"] == "step"]
for step in steps:
    run.log({tag: step[key] for key, tag in names.items()}, step=step["step"])
time.sleep(3)
print(run.dir, flush=True)
for number in range(steps[-1]["step"] + 1, 1 << 60):
    run.log({tag: steps[number % len(steps)][key] for key, tag in names.items()}, step=number)
    time.sleep(1)
"""
REFERENCES = re.compile(r"""(?:(?:src|href)=["']?|(?:from|import)\s*["'])([./\w-]+\.(?:js|css))(?=["'?\s>])""")
"""What a page or a script names that a browser loads at once; what scripts load later is not known without one."""


@dataclass(frozen=True)
class Row:
    """One program; megabytes of memory are of all its processes."""

    name: str
    begun: Cost
    resident: float
    sent: str
    idle: float
    """Percent of a core while one step a second comes in."""

    @property
    def line(self) -> str:
        """A row of the table."""
        begun = self.begun
        return (
            f"| {self.name} | {begun.cpu / 1e3:.2f} s | {begun.wall / 1e3:.2f} s | {self.resident:.0f} MiB "
            f"| {self.idle:.1f} % | {self.sent} |"
        )


def of_screen(name: str, screen: Screen, *texts: str) -> Row:
    """A program in a terminal, once the last of these texts stands on it."""
    begun = screen.until(*texts)
    screen.rest(SETTLING_SECONDS)
    rate = screen.rest(SECONDS)
    sent = f"{begun.written / 1e3:.0f} kB, then {rate.written / 1e3:.1f} kB/s"
    return Row(name, begun, screen.resident, sent, rate.cpu)


def panel(house: House) -> Row:
    """The panel on a living run."""
    run = recorded_run(house, "20260101-120000-manual")
    with_steps(run, STEPS)
    with played(run), shown(PANEL, house.env) as screen:
        return of_screen(f"t5panel {__version__}", screen, FIRST_FRAME, PLOT)


def leet(house: House, python: Path) -> Row:
    """`wandb leet` on a run that is being written."""
    folder = house.home / "wandb"
    folder.mkdir()
    metrics = house.run_path("20260101-120000-manual") / "metrics.jsonl"
    writer = subprocess.Popen(
        [python, "-c", WANDB_WRITER, metrics, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        files = writer.stdout.readline().strip() if writer.stdout else ""
        argv = [str(python.with_name("wandb")), "leet", str(Path(files).parent)]
        with shown(argv, {**house.env, "HOME": str(house.home), "WANDB_MODE": "offline"}) as screen:
            return of_screen(f"wandb leet {version(python, 'wandb')}", screen, "train/loss")
    finally:
        end(writer)  # type: ignore[arg-type]


def tensorboard(house: House, python: Path) -> Row:
    """TensorBoard on the event files of the same run."""
    folder, port = house.home / "events", free_port()
    run = recorded_run(house, "20260101-100000-events")
    with_steps(run, STEPS)
    write_events(run, folder)
    argv = [str(python.with_name("tensorboard")), "--logdir", str(folder), "--port", str(port)]
    data = "data/plugin/scalars/scalars?run=.&tag=train%2Floss"
    with served(argv, port, data, house.env) as server:
        page = f"{server.page_bytes() / 1e6:.1f} MB page"
        return server.row(f"TensorBoard {version(python, 'tensorboard')}", page)


def llamaboard(house: House, python: Path) -> Row:
    """LlamaBoard, from its start: it shows the loss of runs that it started itself."""
    port = free_port()
    server_env = {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    env = {**house.env, **server_env, "HF_HUB_OFFLINE": "1"}
    with served([str(python.with_name("llamafactory-cli")), "webui"], port, "", env, cwd=house.home) as server:
        page = f"{server.page_bytes() / 1e6:.1f} MB page"
        return server.row(f"LlamaBoard {version(python, 'llamafactory')}", page)


@dataclass(frozen=True)
class Server:
    """A web interface that has answered."""

    pid: int
    root: str
    begun: Cost

    def row(self, name: str, page: str) -> Row:
        """Its costs, and what it takes while nobody looks."""
        cpu = cpu_seconds(self.pid)
        time.sleep(SECONDS)
        idle = 100 * (cpu_seconds(self.pid) - cpu) / SECONDS
        return Row(name, self.begun, resident_tree(self.pid), page, idle)

    def page_bytes(self) -> int:
        """Of the first page, the scripts and styles that it names, and those that they name."""
        sent, known, queue = 0, {self.root}, [self.root]
        while queue:
            url = queue.pop()
            size, text = fetched(url)
            sent += size
            named = {urljoin(url, name) for name in REFERENCES.findall(text.decode(errors="replace"))}
            queue += named - known
            known |= named
        return sent


@contextmanager
def served(argv: list[str], port: int, path: str, env: Mapping[str, str], cwd: Path | None = None) -> Iterator[Server]:
    """A web interface from the moment in which it answers to `path`.

    Raises: TimeoutError.
    """
    begin, root = time.monotonic(), f"http://127.0.0.1:{port}/"
    with subprocess.Popen(
        argv, env={**os.environ, **env}, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while not answers(root + path):
                if time.monotonic() - begin > PATIENCE_SECONDS:
                    raise TimeoutError(f"{argv[0]} does not answer")
                time.sleep(0.05)
            wall = 1000 * (time.monotonic() - begin)
            yield Server(process.pid, root, Cost(1000 * cpu_seconds(process.pid), wall, 0))
        finally:
            end(process)


def answers(url: str) -> bool:
    """Whether a page is there and says something."""
    try:
        return len(fetched(url)[1]) > len("[]\n")
    except (URLError, ConnectionError):
        return False


def fetched(url: str) -> tuple[int, bytes]:
    """Bytes sent, and the page."""
    with urlopen(Request(url, headers={"Accept-Encoding": "gzip"}), timeout=30) as answer:  # noqa: S310 - a local server
        body: bytes = answer.read()
        packed = answer.headers.get("Content-Encoding") == "gzip"
    return len(body), gzip.decompress(body) if packed else body


def resident_tree(pid: int) -> float:
    """MiB of a process and of those it started."""
    return Screen(pid, -1).resident


def version(python: Path, package: str) -> str:
    """The version of a package in another environment."""
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rivals = {"wandb": leet, "tensorboard": tensorboard, "llamafactory": llamaboard}
    for name in rivals:
        parser.add_argument(f"--{name}", type=Path, metavar="PYTHON")
    chosen = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder), {f"XDG_{kind.upper()}_HOME": f"{folder}/{kind}" for kind in ("state", "cache")})
        sys.stdout.write("| program | CPU | wall | RSS | idle | sent |\n|---|---|---|---|---|---|\n")
        sys.stdout.write(panel(house).line + "\n")
        for name, measure in rivals.items():
            if chosen[name] is not None:
                sys.stdout.write(measure(house, chosen[name].absolute()).line + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
