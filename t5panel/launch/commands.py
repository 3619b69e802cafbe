"""Plan → Command: argv, environment and files of each launcher. Builds, never runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from t5panel.contract import llamafactory
from t5panel.contract.layout import RunDir
from t5panel.contract.records import PORT, CommandInfo
from t5panel.contract.words import Method

if TYPE_CHECKING:
    from t5panel.contract.spec import RunSpec

TRAINER_MODULES: dict[Method, str] = {
    "manual": "t5panel.trainers.manual",
    "trainer": "t5panel.trainers.trainer",
    "deepspeed": "t5panel.trainers.deepspeed",
    "llamafactory": "t5panel.trainers.llamafactory",
}
PREPARE = "t5panel.trainers.prepare"
PREPARE_MODULES: dict[Method, str] = {"llamafactory": "t5panel.trainers.llamafactory_prepare"}
"""What makes the rows ready, where it is another module."""
RENDEZVOUS = ("--rdzv_backend=c10d", "--rdzv_conf=store_type=file,keep_alive_interval=300")
"""torchrun's meeting in a file: its TCP store listens on every network and takes pickles. The file grows by a kilobyte
with each sign of life, which nobody needs on one machine."""


OTHER_WAYS = ("USE_MCA", "USE_RAY", "USE_KT", "USE_V1", "LLAMABOARD_ENABLED", "ALLOW_EXTRA_ARGS")
"""Variables of a shell by which LLaMA-Factory would train in another way than was tested, or pass over its keys."""


@dataclass(frozen=True)
class Command:
    """A process to start: argv, what its environment has beyond ours, and the files it reads (path → text)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[Path, str]

    @property
    def line(self) -> str:
        """The command as one shell line that can be pasted."""
        env = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.env.items())
        return f"env {env} {shlex.join(self.argv)}"

    @property
    def record(self) -> CommandInfo:
        """The command as run.json keeps it; its files are in the run directory."""
        return CommandInfo(self.argv, dict(self.env))

    @property
    def short(self) -> str:
        """The command without environment and interpreter path, for a screen."""
        return shlex.join((Path(self.argv[0]).name, *self.argv[1:]))


def command_for(spec: RunSpec, run: RunDir, *, port: int | str = PORT, cores: int) -> Command:
    """How the ranks of a run are started; `port` is where they meet, PORT: one that is free when they start."""
    command = _launcher_command(spec, run, port, cores)
    if spec.method != "llamafactory":
        return command
    return replace(command, files={**command.files, **llamafactory.files_of(spec, run)})


def _launcher_command(spec: RunSpec, run: RunDir, port: int | str, cores: int) -> Command:
    python = spec.interpreter or sys.executable
    module = TRAINER_MODULES[spec.method]
    match spec.launcher:
        case "accelerate":
            return _accelerate(spec, run, python, module, _environment(spec, run, cores))
        case "torchrun":
            return _torchrun(spec, run, python, module, _environment(spec, run, cores))
        case "deepspeed":
            return _deepspeed(spec, run, python, module, port, _environment(spec, run, cores))
        case "llamafactory-cli":
            return _llamafactory_cli(spec, run, python, _environment(spec, run, cores))
    assert_never(spec.launcher)


def prepare_command_for(spec: RunSpec, run: RunDir) -> Command:
    """How the data of a run is tokenised before any rank starts."""
    python = spec.interpreter or sys.executable
    env = {**run.mark, "CUDA_VISIBLE_DEVICES": "", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    if spec.method == "llamafactory":  # it reads through the cache of `datasets`, which would keep a copy of the rows
        env["HF_DATASETS_CACHE"] = str(run.cache / "datasets")
    return Command((python, "-m", PREPARE_MODULES.get(spec.method, PREPARE), str(run.path)), env, {})


def _environment(spec: RunSpec, run: RunDir, cores: int) -> dict[str, str]:
    env = {
        **run.mark,
        "OMP_NUM_THREADS": str(max(1, cores // spec.num_gpus)),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "WANDB_MODE": "offline",
        # Ranks of one box need no host name resolution, and nothing of them is for the network to see.
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        # torchrun, also within accelerate: no TCP store of its own for the ranks, which meet in a file.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PET_RDZV_ENDPOINT": str(run.launcher_meeting),
        "PET_LOCAL_ADDR": "127.0.0.1",
        # A cache of our own: a killed build leaves a lock there that would hang every other program of this Python.
        "TORCH_EXTENSIONS_DIR": str(run.cache / "torch_extensions"),
    }
    if spec.method == "llamafactory":
        env |= dict.fromkeys(OTHER_WAYS, "0")
    if spec.device == "cpu":
        return {
            **env,
            "CUDA_VISIBLE_DEVICES": "",
            # Without it accelerate 1.15 trains one separate model per process and returns 0; with it 1.11, which
            # LLaMA-Factory needs, leaves DeepSpeed out without a word.
            **({} if spec.method == "llamafactory" and spec.deepspeed is not None else {"ACCELERATE_USE_CPU": "true"}),
            "DS_ACCELERATOR": "cpu",
        }
    return {**env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": _comma(card_indices(spec))}


def card_indices(spec: RunSpec) -> tuple[int, ...]:
    """PCI indices of the cards a spec takes."""
    return spec.gpus if spec.gpus is not None else tuple(range(spec.num_gpus))


def _comma(cards: tuple[int, ...]) -> str:
    return ",".join(map(str, cards))


def _accelerate(spec: RunSpec, run: RunDir, python: str, module: str, env: dict[str, str]) -> Command:
    # A config file of our own: without one, the user's global default applies silently (accelerate#1133).
    import yaml

    config = run.config / "accelerate.yaml"
    settings = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU" if spec.num_gpus > 1 else "NO",
        "num_machines": 1,
        "num_processes": spec.num_gpus,
        "mixed_precision": "bf16" if spec.train.bf16 else "no",
        # For one process its launcher sets ACCELERATE_USE_CPU from this; for several it refuses it beside --multi_gpu.
        "use_cpu": spec.device == "cpu" and spec.num_gpus == 1,
    }
    several = ("--multi_gpu",) if spec.num_gpus > 1 else ()
    argv = (
        *(python, "-m", "accelerate.commands.launch", "--config_file", str(config), *several),
        *(f"--num_processes={spec.num_gpus}", "--num_machines=1", "--dynamo_backend=no"),
        *(f"--mixed_precision={settings['mixed_precision']}", "--main_process_port=0", *RENDEZVOUS),
        *("-m", module, str(run.path)),
    )
    return Command(argv, env, {config: yaml.safe_dump(settings, sort_keys=False)})


def _torchrun(spec: RunSpec, run: RunDir, python: str, module: str, env: dict[str, str]) -> Command:
    argv = (
        *(python, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc_per_node={spec.num_gpus}"),
        *(*RENDEZVOUS, f"--rdzv_endpoint={run.launcher_meeting}", f"--rdzv_id={run.run_id}"),
        *("-m", module, str(run.path)),
    )
    return Command(argv, env, {})


def _llamafactory_cli(spec: RunSpec, run: RunDir, python: str, env: dict[str, str]) -> Command:
    # It starts torchrun itself, with a fixed command line: torchrun takes from the environment what is not in there.
    own = {
        **dict.fromkeys(("NNODES", "MIN_NNODES", "MAX_NNODES"), "1"),
        **dict.fromkeys(("NODE_RANK", "MAX_RESTARTS"), "0"),
        "FORCE_TORCHRUN": "1",
        "NPROC_PER_NODE": str(spec.num_gpus),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
        "OPTIM_TORCH": "0",  # another allocator than that of the other launchers
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_CONF": "store_type=file,keep_alive_interval=300",
        "PET_RDZV_ID": run.run_id,
    }
    return Command((python, "-m", "t5panel.trainers.llamafactory_cli", "train"), {**env, **own}, {})


def _deepspeed(spec: RunSpec, run: RunDir, python: str, module: str, port: int | str, env: dict[str, str]) -> Command:
    # 0.19.8's runner.main drops a CUDA_VISIBLE_DEVICES that is not empty before it counts cards, and takes --include
    # as indices among all of them. So ours must be there: it stands in for an empty one of the user's shell, which
    # would not be dropped and hide every card. --num_gpus would take the first cards, whatever the variable says.
    on_cards = spec.device == "cuda"
    chosen = f"--include=localhost:{_comma(card_indices(spec))}" if on_cards else f"--num_gpus={spec.num_gpus}"
    argv = (
        *(python, "-m", "deepspeed.launcher.runner", chosen, f"--master_port={port}", "--master_addr=127.0.0.1"),
        *("--no_local_rank", "--module", module, str(run.path)),
    )
    return Command(argv, env, {})
