"""Commands as values: what is started, before anything is; and that each real launcher reads its argv as meant."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from t5panel.contract.layout import RunDir
from t5panel.contract.spec import LAUNCHERS, RunSpec
from t5panel.launch.commands import Command, command_for, prepare_command_for
from t5panel.launch.processes import at_free_port
from t5panel.presets import load_preset

REAL_POPEN = subprocess.Popen
RUN = RunDir(Path("/runs/one"))


def spec_of(preset: str, **overrides: Any) -> RunSpec:  # noqa: ANN401
    """A shipped preset's spec with overrides whose dots are written `__`."""
    return load_preset(preset, {key.replace("__", "."): value for key, value in overrides.items()}).spec


def command_of(spec: RunSpec) -> Command:
    """The command of a spec with 6 cores and port 29511."""
    return command_for(spec, RUN, port=29511, cores=6)


def test_torchrun_starts_a_rank_per_card_and_meets_in_a_file() -> None:
    command = command_of(spec_of("trainer", device="cuda"))

    assert command.argv == (
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc_per_node=3"),
        *("--rdzv_backend=c10d", "--rdzv_conf=store_type=file,keep_alive_interval=300"),
        *(f"--rdzv_endpoint={RUN.launcher_meeting}", "--rdzv_id=one"),
        *("-m", "t5panel.trainers.trainer", "/runs/one"),
    )
    assert command.env["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert command.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert command.env["OMP_NUM_THREADS"] == "2"
    assert "ACCELERATE_USE_CPU" not in command.env


def test_accelerate_reads_a_config_of_ours_and_no_user_default() -> None:
    command = command_of(spec_of("manual", device="cuda"))

    assert command.argv[3:] == (
        *("--config_file", "/runs/one/config/accelerate.yaml", "--multi_gpu", "--num_processes=3", "--num_machines=1"),
        *("--dynamo_backend=no", "--mixed_precision=bf16", "--main_process_port=0"),
        *("--rdzv_backend=c10d", "--rdzv_conf=store_type=file,keep_alive_interval=300"),
        *("-m", "t5panel.trainers.manual", "/runs/one"),
    )
    assert yaml.safe_load(command.files[Path("/runs/one/config/accelerate.yaml")])["distributed_type"] == "MULTI_GPU"


@pytest.mark.parametrize(("gpus", "cards"), [(None, "0,1"), ([0, 2], "0,2")])
def test_deepspeed_is_told_its_cards_one_by_one(gpus: list[int] | None, cards: str) -> None:
    command = command_of(spec_of("deepspeed", device="cuda", gpus=gpus, num_gpus=2))

    assert command.argv[3:] == (
        *(f"--include=localhost:{cards}", "--master_port=29511", "--master_addr=127.0.0.1", "--no_local_rank"),
        *("--module", "t5panel.trainers.deepspeed", "/runs/one"),
    )
    assert command.env["CUDA_VISIBLE_DEVICES"] == cards


@pytest.mark.parametrize("preset", ["manual", "trainer", "deepspeed"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_ranks_agree_on_never_leaves_the_box(preset: str, device: str) -> None:
    assert command_of(spec_of(preset, device=device)).env["GLOO_SOCKET_IFNAME"] == "lo"


def test_a_port_is_chosen_anew_at_each_start() -> None:
    argv = command_for(spec_of("deepspeed"), RUN, cores=6).argv

    with socket.socket() as taken:
        (port,) = [word.partition("=")[2] for word in at_free_port(argv) if word.startswith("--master_port=")]
        taken.bind(("127.0.0.1", int(port)))
        (other,) = [word.partition("=")[2] for word in at_free_port(argv) if word.startswith("--master_port=")]

    assert port != other


def test_chosen_cards_are_the_only_visible_ones_under_the_other_launchers() -> None:
    command = command_of(spec_of("trainer", device="cuda", gpus=[0, 2], num_gpus=2))

    assert command.env["CUDA_VISIBLE_DEVICES"] == "0,2"


@pytest.mark.parametrize("preset", ["manual", "trainer", "deepspeed"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_on_the_cpu_no_card_is_visible_and_accelerate_is_told(preset: str, ranks: int) -> None:
    env = command_of(spec_of(preset, device="cpu", num_gpus=ranks)).env

    assert (env["CUDA_VISIBLE_DEVICES"], env["ACCELERATE_USE_CPU"], env["DS_ACCELERATOR"]) == ("", "true", "cpu")


@pytest.mark.parametrize("preset", ["manual", "trainer", "deepspeed"])
def test_every_process_of_a_run_carries_its_mark(preset: str) -> None:
    spec = spec_of(preset)

    for command in (command_of(spec), prepare_command_for(spec, RUN)):
        assert (command.env["T5PANEL_RUN_ID"], command.env["T5PANEL_RUN_DIR"]) == ("one", "/runs/one")


def test_another_interpreter_runs_preparation_and_ranks() -> None:
    spec = spec_of("trainer", interpreter="/venvs/old/bin/python")

    assert command_of(spec).argv[0] == "/venvs/old/bin/python"
    assert prepare_command_for(spec, RUN).argv[0] == "/venvs/old/bin/python"


def test_a_command_can_be_pasted_into_a_shell() -> None:
    command = Command(("/bin/python", "-m", "x", "a b"), {"EMPTY": "", "TWO": "1 2"}, {})

    assert command.line == "env EMPTY='' TWO='1 2' /bin/python -m x 'a b'"
    assert command.short == "python -m x 'a b'"


@pytest.mark.parametrize(("ranks", "device"), [(1, "cpu"), (1, "cuda"), (3, "cpu"), (3, "cuda")])
def test_accelerates_own_parser_takes_our_arguments(
    ranks: int, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    command = command_for(spec_of("manual", num_gpus=ranks, device=device), RunDir(tmp_path), port=29511, cores=6)
    (config,) = command.files
    config.parent.mkdir()
    config.write_text(command.files[config])
    monkeypatch.setenv("ACCELERATE_USE_CPU", command.env.get("ACCELERATE_USE_CPU", ""))

    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(list(command.argv[3:])))

    assert (args.num_processes, args.module, args.training_script) == (ranks, True, "t5panel.trainers.manual")
    assert args.multi_gpu is (ranks > 1)
    assert args.mixed_precision == "bf16"
    _, env = prepare_simple_launcher_cmd_env(args)
    assert ranks == 1 or (prepare_multi_gpu_env(args) and int(args.master_port) > 0)
    assert ranks > 1 or env["ACCELERATE_USE_CPU"] == str(device == "cpu")


@pytest.mark.parametrize("ranks", [1, 3])
def test_torchruns_own_parser_takes_our_arguments(ranks: int) -> None:
    from torch.distributed.run import config_from_args, parse_args

    argv = list(command_of(spec_of("trainer", num_gpus=ranks)).argv[3:])

    config, program, words = config_from_args(parse_args(argv))  # type: ignore[no-untyped-call]  # torch's own

    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (1, 1, ranks)
    assert words[-3:] == ["-m", "t5panel.trainers.trainer", "/runs/one"]
    assert program == sys.executable


@pytest.mark.parametrize("ranks", [1, 3])
def test_deepspeeds_own_parser_takes_our_arguments(ranks: int) -> None:
    from deepspeed.launcher.runner import parse_args

    argv = list(command_of(spec_of("deepspeed", num_gpus=ranks)).argv[3:])

    args = parse_args(argv)

    assert (args.num_gpus, args.module, args.no_local_rank) == (ranks, True, True)
    assert (args.user_script, args.user_args) == ("t5panel.trainers.deepspeed", ["/runs/one"])


class ThreeCards:
    """What DeepSpeed's launcher asks of an accelerator, of a box with three cards."""

    def visible_devices_envs(self) -> list[str]:
        """The variable that hides cards."""
        return ["CUDA_VISIBLE_DEVICES"]

    def device_count(self) -> int:
        """As torch counts: what the variable leaves."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return 3 if visible is None else len([word for word in visible.split(",") if word])


@pytest.mark.parametrize("in_the_shell", [None, "", "1"])
def test_deepspeeds_launcher_takes_the_chosen_cards_whatever_the_shell_says(
    in_the_shell: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed.launcher import runner

    started: list[list[str]] = []

    def popen(argv: list[str], **_: object) -> subprocess.Popen[bytes]:
        started.append(argv)
        return REAL_POPEN(["/bin/true"])

    command = command_of(spec_of("deepspeed", device="cuda", gpus=[0, 2], num_gpus=2))
    for name, value in {"CUDA_VISIBLE_DEVICES": in_the_shell, **command.env}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(runner.signal, "signal", lambda *_: None)
    monkeypatch.setattr(runner, "get_accelerator", ThreeCards)
    monkeypatch.setattr(runner.subprocess, "Popen", popen)

    runner.main(list(command.argv[3:]))

    (world,) = [word.partition("=")[2] for word in started[0] if word.startswith("--world_info=")]
    assert json.loads(base64.urlsafe_b64decode(world)) == {"localhost": [0, 2]}


@pytest.mark.parametrize("launcher", LAUNCHERS["llamafactory"])
def test_no_launcher_starts_llamafactorys_own_trainer_nor_another_of_its_ways(launcher: str) -> None:
    command = command_of(spec_of("llamafactory", device="cuda", launcher=launcher))

    assert any(word.startswith("t5panel.trainers.llamafactory") for word in command.argv)
    assert not any(word.startswith("llamafactory") for word in command.argv)
    assert (command.env["USE_MCA"], command.env["ALLOW_EXTRA_ARGS"]) == ("0", "0")


def test_llamafactorys_own_launcher_starts_our_trainer_and_meets_in_a_file() -> None:
    command = command_of(spec_of("llamafactory", device="cuda", launcher="llamafactory-cli"))

    assert command.argv == (sys.executable, "-m", "t5panel.trainers.llamafactory_cli", "train")
    assert (command.env["NPROC_PER_NODE"], command.env["FORCE_TORCHRUN"]) == ("3", "1")
    assert command.env["PET_RDZV_BACKEND"] == "c10d"
    assert command.env["PET_RDZV_ENDPOINT"] == str(RUN.launcher_meeting)


def test_deepspeed_within_llamafactory_is_left_to_find_out_that_there_is_no_card() -> None:
    with_engine = command_of(spec_of("llamafactory", device="cpu"))
    without = command_of(spec_of("llamafactory", device="cpu", deepspeed=None))

    assert "ACCELERATE_USE_CPU" not in with_engine.env
    assert without.env["ACCELERATE_USE_CPU"] == "true"
