"""Commands as values: what is started, before anything is; and that each real launcher reads its argv as meant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from t5panel.contract.layout import RunDir
from t5panel.contract.spec import RunSpec
from t5panel.launch.commands import Command, command_for, prepare_command_for
from t5panel.presets import load_preset

RUN = RunDir(Path("/runs/one"))


def spec_of(preset: str, **overrides: Any) -> RunSpec:  # noqa: ANN401
    """A shipped preset's spec with overrides whose dots are written `__`."""
    return load_preset(preset, {key.replace("__", "."): value for key, value in overrides.items()}).spec


def command_of(spec: RunSpec) -> Command:
    """The command of a spec with 6 cores and port 29511."""
    return command_for(spec, RUN, port=29511, cores=6)


def test_torchrun_starts_a_rank_per_card_and_finds_its_own_port() -> None:
    command = command_of(spec_of("trainer", device="cuda"))

    assert command.argv == (
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1", "--nproc_per_node=3"),
        *("--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", "--rdzv_id=one", "--local_addr=127.0.0.1"),
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
        *("--dynamo_backend=no", "--mixed_precision=bf16", "--main_process_port=29511"),
        *("-m", "t5panel.trainers.manual", "/runs/one"),
    )
    assert yaml.safe_load(command.files[Path("/runs/one/config/accelerate.yaml")])["distributed_type"] == "MULTI_GPU"


def test_deepspeed_chooses_cards_by_include_and_never_by_variable() -> None:
    command = command_of(spec_of("deepspeed", device="cuda", gpus=[0, 2], num_gpus=2))

    assert command.argv[3:] == (
        *("--include=localhost:0,2", "--master_port=29511", "--master_addr=127.0.0.1", "--no_local_rank"),
        *("--module", "t5panel.trainers.deepspeed", "/runs/one"),
    )
    assert "CUDA_VISIBLE_DEVICES" not in command.env


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
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

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
