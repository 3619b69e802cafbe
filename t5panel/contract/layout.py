"""The only file that knows the names inside a run directory and where run directories live."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

APP = "t5panel"
RUN_ID_VARIABLE = "T5PANEL_RUN_ID"
RUN_DIR_VARIABLE = "T5PANEL_RUN_DIR"
SUPERVISOR_VARIABLE = "T5PANEL_SUPERVISOR_PID"
PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class RunDir:
    """The paths of one run."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's name: its folder's name."""
        return self.path.name

    @property
    def mark(self) -> dict[str, str]:
        """What the environment of every process of this run carries. Two runs may share a name, never a folder."""
        return {RUN_ID_VARIABLE: self.run_id, RUN_DIR_VARIABLE: str(self.path.resolve())}

    def mark_of(self, supervisor: int) -> dict[str, str]:
        """What the environment of all that one supervisor started for this run carries, and of nothing else."""
        return {RUN_DIR_VARIABLE: self.mark[RUN_DIR_VARIABLE], SUPERVISOR_VARIABLE: str(supervisor)}

    @property
    def run_json(self) -> Path:
        """Resolved spec, command, versions, plan; written once."""
        return self.path / "run.json"

    @property
    def state(self) -> Path:
        """The supervisor's atomic state."""
        return self.path / "state.json"

    @property
    def metrics(self) -> Path:
        """Rank 0's records."""
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """Rank 0's proof of a clean end."""
        return self.path / "result.json"

    @property
    def samples(self) -> Path:
        """The supervisor's readings of cards and memory."""
        return self.path / "samples.jsonl"

    @property
    def events(self) -> Path:
        """The supervisor's journal."""
        return self.path / "events.jsonl"

    @property
    def request(self) -> Path:
        """What a front asks of the run."""
        return self.path / "request.json"

    @property
    def note(self) -> Path:
        """The user's own words about the run, one line of UTF-8 text; written by a front."""
        return self.path / "note.txt"

    @property
    def lock(self) -> Path:
        """Held by the one supervisor."""
        return self.path / "lock"

    @property
    def logs(self) -> Path:
        """Folder of all output."""
        return self.path / "logs"

    @property
    def launcher_log(self) -> Path:
        """Output of the launcher."""
        return self.logs / "launcher.log"

    @property
    def supervisor_log(self) -> Path:
        """Output of the supervisor itself: empty unless it broke."""
        return self.logs / "supervisor.log"

    @property
    def prepare_log(self) -> Path:
        """Output of the preparation of data."""
        return self.logs / "prepare.log"

    def rank_log(self, rank: int) -> Path:
        """Output of one rank."""
        return self.logs / f"rank-{rank}.log"

    def stacks(self, rank: int) -> Path:
        """Where a rank stood when its run stalled."""
        return self.logs / f"stacks-{rank}.txt"

    @property
    def ranks(self) -> Path:
        """Folder in which each rank leaves its pid."""
        return self.path / "ranks"

    @property
    def meeting(self) -> Path:
        """The file in which the ranks of one start find each other. torch's TCP store would listen on every network."""
        return self.ranks / "meeting"

    @property
    def launcher_meeting(self) -> Path:
        """The same for torchrun's own rendezvous, whose entries it unpickles."""
        return self.ranks / "launcher"

    def rank_failure(self, rank: int) -> Path:
        """The exception that ended a rank."""
        return self.ranks / f"failure-{rank}.json"

    @property
    def progress(self) -> Path:
        """How far the preparation of data is; replaced atomically by it."""
        return self.path / "progress.json"

    @property
    def prepared(self) -> Path:
        """What the preparation found: where the tokenised rows are, how many were dropped."""
        return self.path / "prepared.json"

    @property
    def faults(self) -> Path:
        """Faults of the user's data or model found by the preparation."""
        return self.path / "faults.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def predictions(self) -> Path:
        """Greedy answers of the last evaluation."""
        return self.path / "predictions.jsonl"

    @property
    def cache(self) -> Path:
        """Derived files that may be deleted."""
        return self.path / "cache"

    @property
    def bookmark(self) -> Path:
        """What a reader made of the metrics so far; replaced by whoever read much more of them."""
        return self.cache / "metrics.bookmark"

    @property
    def samples_bookmark(self) -> Path:
        """The same of the readings."""
        return self.cache / "samples.bookmark"

    @property
    def tokenizer(self) -> Path:
        """The run's tokenizer, put there by the preparation: a rank never asks the hub for it."""
        return self.cache / "tokenizer"

    @property
    def config(self) -> Path:
        """Folder of the files generated for the launcher."""
        return self.path / "config"


def runs_home() -> Path:
    """`$XDG_STATE_HOME/t5panel/runs`."""
    from platformdirs import user_state_path

    return user_state_path(APP) / "runs"


def cards_home() -> Path:
    """`$XDG_STATE_HOME/t5panel/cards`: one lock per card, held by the supervisor whose run uses it."""
    return runs_home().parent / "cards"


def collective_checks() -> Path:
    """`$XDG_STATE_HOME/t5panel/collective.json`: which ranks have reached each other since the machine was started."""
    return runs_home().parent / "collective.json"


def machine_file() -> Path:
    """`$XDG_STATE_HOME/t5panel/machine.json`: what runs on this machine have shown."""
    return runs_home().parent / "machine.json"


def command_file() -> Path:
    """`$XDG_STATE_HOME/t5panel/command.sh`: the commands that the setup screen copied last."""
    return runs_home().parent / "command.sh"


def token_cache_home() -> Path:
    """`$XDG_CACHE_HOME/t5panel/tokens`: tokenised data shared by all runs."""
    from platformdirs import user_cache_path

    return user_cache_path(APP) / "tokens"


def environments_home() -> Path:
    """`$XDG_DATA_HOME/t5panel/envs`: Python environments for methods that cannot live in the panel's own."""
    from platformdirs import user_data_path

    return user_data_path(APP) / "envs"


def user_presets_home() -> Path:
    """`$XDG_CONFIG_HOME/t5panel/presets`."""
    from platformdirs import user_config_path

    return user_config_path(APP) / "presets"


def taste_file() -> Path:
    """`$XDG_CONFIG_HOME/t5panel/panel.json`: how the user likes the panel."""
    return user_presets_home().parent / "panel.json"


def all_runs(home: Path) -> Iterator[RunDir]:
    """The runs under a folder, newest first by name, each once; one that lives elsewhere is linked there."""
    if not home.is_dir():
        return
    seen = set[Path]()  # a folder elsewhere that was removed and used again has several links
    for path in sorted(home.iterdir(), reverse=True):
        place = path.resolve() if path.is_symlink() else path
        if not path.name.startswith(".") and place not in seen and os.access(place / "run.json", os.R_OK):
            seen.add(place)
            yield RunDir(place)


def write_atomic(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file so that a reader sees the old or the new content, never a part; durable: past a power cut too."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: bytes) -> None:
    """Append one whole line in one write; a torn line that a dead writer or a full disk left is ended first."""
    with path.open("a+b", buffering=0) as file:
        if file.seek(0, 2) > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                line = b"\n" + line
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, "only a part of a line could be written", str(path))
