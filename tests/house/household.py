"""A user's home with runs in it whose launcher and ranks are fakes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import msgspec
from click.testing import CliRunner, Result

from t5panel.cli import main
from t5panel.contract.layout import RunDir
from t5panel.contract.records import CommandInfo, RunInfo, State
from t5panel.launch.commands import TRAINER_MODULES, command_for
from t5panel.monitor.proc import descendants
from t5panel.monitor.runs import RunState, read_info, read_state
from t5panel.presets import load_preset
from t5panel.session import spawn_supervisor

NO_SETTINGS: Mapping[str, object] = MappingProxyType({})
ROOT = Path(__file__).parent.parent.parent
PYTHON_PATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
"""Where the ranks import from: this checkout, and what the tests themselves were given."""
RTX = "NVIDIA_GeForce_RTX_3080 20480 {used} 112500 54 97"
"""A card as the made-up driver reads it: tests/data/nvml_shim.c says what the words are."""
BOX = "\n".join([RTX.format(used=300)] * 3) + "\n"


@dataclass(frozen=True)
class House:
    """One user's state folder, the `t5panel` command in it, and runs of fakes."""

    home: Path
    env: dict[str, str]
    runs: list[RunDir] = field(default_factory=list)

    def panel(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """What the command prints and returns; never with a terminal."""
        return subprocess.run(
            [sys.executable, "-m", "t5panel", *words],
            env={**os.environ, **self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.home,
            check=False,
        )

    def click(self, *words: str) -> Result:
        """The same command within this process: quicker, where a process of its own adds nothing."""
        return CliRunner().invoke(main, words)

    def is_untouched(self) -> bool:
        """True while no command has written anything to the user's home."""
        return not any((self.home / kind).exists() for kind in ("state", "cache", "config", "data"))

    def run_path(self, name: str = "") -> Path:
        """Where the next fake run will be."""
        return self.home / "state" / "t5panel" / "runs" / (name or f"fake-{len(self.runs)}")

    def fake_run(
        self,
        ending: str,
        *behaviours: str,
        prepare: tuple[str, ...] = ("true",),
        name: str = "",
        settings: Mapping[str, object] = NO_SETTINGS,
        cards: tuple[int, ...] = (),
    ) -> RunDir:
        """A run directory whose launcher is a fake; nothing is started yet."""
        run = RunDir(self.run_path(name))
        for folder in (run.logs, run.ranks, run.checkpoints, run.cache, run.config):
            folder.mkdir(parents=True)
        always = {"num_gpus": max(1, len(behaviours)), "device": "cpu", "model.name_or_path": "builtin:tiny"}
        spec = load_preset("manual", always, settings).spec
        env = {"T5PANEL_RUN_ID": run.run_id, "T5PANEL_RUN_DIR": str(run.path), "PYTHONPATH": PYTHON_PATH}
        launcher = (sys.executable, "-m", "tests.house.fake_launcher", str(run.path), ending, *behaviours)
        info = RunInfo(
            run_id=run.run_id,
            preset="manual",
            created=time.time(),
            spec=spec.model_dump(mode="json"),
            prepare=CommandInfo(prepare, env),
            command=CommandInfo(launcher, env),
            cards=cards,
            interpreter=sys.executable,
            versions={},
            plan={},
        )
        run.run_json.write_bytes(msgspec.json.encode(info))
        self.runs.append(run)
        return run

    def launched_by(self, run: RunDir, preset: str, module: str) -> RunDir:
        """The same run with the preset's own launcher, which starts `module` instead of the trainer."""
        info = read_info(run)
        ranks = {"device": "cpu", "num_gpus": info.spec["num_gpus"]}
        spec = load_preset(preset, ranks).spec
        command = command_for(spec, run, cores=1)
        argv = tuple(module if word == TRAINER_MODULES[spec.method] else word for word in command.argv)
        for path, content in command.files.items():
            path.write_text(content)
        env = {**command.env, "PYTHONPATH": PYTHON_PATH}
        started = CommandInfo(argv, env)
        changed = msgspec.structs.replace(
            info, command=started, spec={**info.spec, "method": spec.method, "launcher": spec.launcher}
        )
        run.run_json.write_bytes(msgspec.json.encode(changed))
        return run

    def started(self, ending: str, *behaviours: str, prepare: tuple[str, ...] = ("true",), name: str = "") -> RunDir:
        """A fake run under a real supervisor, all its ranks alive."""
        run = self.fake_run(ending, *behaviours, prepare=prepare, name=name)
        spawn_supervisor(run)
        eventually(lambda: len(list(run.logs.glob("alive-*"))) == len(behaviours))
        return run


def set_cards(box: House, text: str) -> None:
    """What the made-up driver says from now on."""
    draft = box.home / "cards.new"
    draft.write_text(text)
    draft.replace(box.home / "cards")


def eventually(condition: Callable[[], bool], *, seconds: float = 15.0) -> float:
    """Wait until a condition holds; the seconds it took.

    Raises: TimeoutError when it does not.
    """
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - begin


def ended(run: RunDir, *, seconds: float = 15.0) -> RunState:
    """The state of a run once it has ended."""
    eventually(lambda: not read_state(run).alive, seconds=seconds)
    return read_state(run)


def kill_with_warden(run: RunDir) -> None:
    """SIGKILL to a supervisor and to the process that would end what it leaves."""
    supervisor = supervisor_pid(run)
    (warden,) = (pid for pid in descendants(supervisor) if _argv(pid) == _argv(supervisor))
    for pid in (warden, supervisor):
        os.kill(pid, signal.SIGKILL)


def _argv(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def supervisor_pid(run: RunDir) -> int:
    """The pid of a run's supervisor."""
    return msgspec.json.decode(run.state.read_bytes(), type=State).supervisor.pid
