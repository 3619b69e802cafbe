"""A bad preset or command line ends with exit code 2, every fault in one message, and nothing written."""

from __future__ import annotations

import json

import pytest

from tests.house.household import House

PLAN = ("plan", "--preset", "deepspeed")


@pytest.mark.parametrize(
    ("assignment", "place", "message", "hint"),
    [
        ("train.per_device_train_batch_sise=4", "train.per_device_train_batch_sise", "unknown key", "did you mean"),
        ("trane.seed=4", "trane", "unknown key", "did you mean"),
        ("train.per_device_train_batch_size=-4", "train.per_device_train_batch_size", "greater than or equal to 1", ""),
        ("train.per_device_train_batch_size=4.5", "train.per_device_train_batch_size", "not 4.5", "Rows per card"),
        ("train.bf16=maybe", "train.bf16", "not 'maybe'", "bfloat16 compute"),
        ("train.learning_rate=.nan", "train.learning_rate", "finite", "Peak learning rate"),
        ("train.optim=adamw", "train.optim", "'adafactor'", "Optimizer"),
        ("num_gpus.x=1", "num_gpus.x", "'num_gpus' is a single value", ""),
        ("model.name_or_path=builtin:t5-bse", "model.name_or_path", "no built-in model builtin:t5-bse", "builtin:tiny"),
        ("model.name_or_path=''", "model.name_or_path", "is empty", "a path"),
        ("data.train=builtin:alpaca", "data.train", "no built-in data set", "builtin:docstrings"),
        ("launcher=slurm", "launcher", "'torchrun'", "Which program starts the ranks"),
        ("launcher=accelerate", "deepspeed.yaml", "cannot start method 'deepspeed'", ""),
        ("deepspeed.train_batch_size=8", "deepspeed.yaml", "is filled in from train", ""),
        ("deepspeed.zero_optimization.stage=4", "deepspeed.yaml", "must be 0, 1, 2 or 3", ""),
        ("deepspeed.zero_optimizaton.stage=3", "deepspeed.yaml", "is no key of DeepSpeed; did you mean", ""),
        ("train.seed=4294967295", "train.seed", "less than or equal to 4294966271", "Seed of weights"),
        ("gpus=[0,1]", "deepspeed.yaml", "names 2 cards but num_gpus is 3", ""),
        ("train", "--set", "is not key=value", "for example"),
        ("train.seed=[1", "--set train.seed", "is not YAML", ""),
    ],
)
def test_a_bad_setting_is_named_with_its_place_and_what_would_help(
    house: House, assignment: str, place: str, message: str, hint: str
) -> None:
    answer = house.click(*PLAN, "--set", assignment)

    assert answer.exit_code == 2
    assert place in answer.stderr
    assert message in answer.stderr
    assert hint in answer.stderr
    assert answer.stdout == ""
    assert house.is_untouched()


def test_every_fault_of_a_preset_stands_in_one_message(house: House) -> None:
    preset = house.home / "mine.yaml"
    preset.write_text("method: manual\nlauncher: torchrun\ntrain: {seed: -1, bf16: maybe, epochs: 3}\n")

    answer = house.click("plan", "--preset", str(preset), "--model", "builtin:nope", "--set", "train.seed.x=1")

    assert answer.exit_code == 2
    assert [line.split(": ")[-2] for line in answer.stderr.splitlines() if not line.startswith(" ")] == [
        *("train.seed.x", "model.name_or_path", "train.seed", "train.bf16", "train.epochs"),
    ]


def test_every_fault_of_a_command_line_stands_in_one_message(house: House) -> None:
    answer = house.click(*PLAN, "--set", "x", "--set", "train.seed=[", "--gpus", "first")

    assert answer.exit_code == 2
    assert [line.partition(":")[0] for line in answer.stderr.splitlines() if not line.startswith(" ")] == [
        *("--set", "--set train.seed", "--gpus"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: [manual\nlauncher: torchrun", "line 2: is not YAML"),
        ("method: manual\nmethod: trainer\n", "line 2: is not YAML: key 'method' stands twice"),
        ("- method\n", "its top level must be a mapping"),
        ("", "its top level must be a mapping"),
        ("? [a, b]\n: 1\n", "a key must be a word"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("a: \x07\n", "is not YAML"),
        ("launcher: torchrun\n", "method: is missing"),
        ("method: manual\nlauncher: torchrun\ntrain: 3\n", "train: Input should be"),
    ],
)
def test_a_file_that_is_no_preset_is_refused_with_its_line(house: House, text: str, message: str) -> None:
    preset = house.home / "mine.yaml"
    preset.write_text(text)

    answer = house.click("plan", "--preset", str(preset))

    assert answer.exit_code == 2
    assert "mine.yaml" in answer.stderr
    assert message in answer.stderr


def test_a_preset_that_is_no_text_is_refused(house: House) -> None:
    preset = house.home / "mine.yaml"
    preset.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")

    answer = house.click("plan", "--preset", str(preset))

    assert (answer.exit_code, "cannot be read" in answer.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [("deepsped", "did you mean 'deepspeed'?"), ("./none.yaml", "no file ./none.yaml"), ("/", "no file /")],
)
def test_a_preset_that_does_not_exist_is_refused(house: House, name: str, words: str) -> None:
    answer = house.click("plan", "--preset", name)

    assert answer.exit_code == 2
    assert words in answer.stderr


def test_a_merged_mapping_is_yaml_like_any_other(house: House) -> None:
    preset = house.home / "mine.yaml"
    preset.write_text("method: manual\nlauncher: torchrun\ntrain:\n  <<: {seed: 7, bf16: false}\n  seed: 8\n")

    answer = house.click("show", str(preset), "--json")

    assert json.loads(answer.stdout)["train"]["seed"] == 8
    assert json.loads(answer.stdout)["train"]["bf16"] is False


@pytest.mark.parametrize("words", [("plan",), ("--no-ui",), ("--dry-run",), ()])
def test_a_start_without_a_preset_or_a_terminal_is_a_usage_error(house: House, words: tuple[str, ...]) -> None:
    assert house.click(*words).exit_code == 2
    assert house.is_untouched()


@pytest.mark.parametrize("command", ["attach", "stop", "resume"])
def test_a_run_that_does_not_exist_is_a_usage_error(house: House, command: str) -> None:
    answer = house.click(command, "nothing")

    assert answer.exit_code == 2
    assert "no such run" in answer.stderr


def test_faults_are_json_too(house: House) -> None:
    answer = house.click(*PLAN, "--set", "train.seed=-1", "--json")

    assert answer.exit_code == 2
    (fault,) = json.loads(answer.stdout)["faults"]
    assert fault["where"].endswith("train.seed")


def test_options_before_a_command_are_refused_because_they_would_be_lost(house: House) -> None:
    answer = house.click("--preset", "manual", "--json", "plan", "--preset", "deepspeed")

    assert answer.exit_code == 2
    assert "--preset --json: has no effect before a command\n    write: t5panel plan --preset --json" in answer.stderr


def test_a_broken_preset_hides_no_other(house: House) -> None:
    home = house.home / "config/t5panel/presets"
    home.mkdir(parents=True)
    (home / "mine.yaml").write_text("method: magic\nlauncher: torchrun\n")

    answer = house.click("presets", "--json")

    assert answer.exit_code == 2
    assert [row["name"] for row in json.loads(answer.stdout)] == ["deepspeed", "trainer", "manual", "llamafactory"]
    assert "mine.yaml: method: Input should be" in answer.stderr


@pytest.mark.parametrize("bad", ["~nobody-has-this-name/x", "a" * 300])
@pytest.mark.parametrize(
    ("words", "place"),
    [
        ((*PLAN, "--data", "{}"), "data.train"),
        ((*PLAN, "--set", "data.validation={}"), "data.validation"),
        ((*PLAN, "--model", "{}"), "model.name_or_path"),
        ((*PLAN, "--set", "model.tokenizer={}"), "model.tokenizer"),
        ((*PLAN, "--set", "interpreter={}/python"), "interpreter"),
        ((*PLAN, "--run-dir", "{}"), "--run-dir"),
        (("plan", "--preset", "{}"), "--preset"),
        (("attach", "{}"), "RUN"),
    ],
)
def test_what_can_be_no_path_is_refused_with_its_place(
    house: House, words: tuple[str, ...], place: str, bad: str
) -> None:
    answer = house.click(*(word.format(bad) for word in words))

    assert answer.exit_code == 2, answer.stderr
    assert answer.stderr.startswith(f"{place}: '{bad[:40]}")
    assert "is no path" in answer.stderr
    assert house.is_untouched()


def test_all_that_can_be_no_path_stands_in_one_message(house: House) -> None:
    answer = house.click(*PLAN, "--data", "~nobody-has-this-name/x", "--model", "a" * 300)

    assert [line.partition(":")[0] for line in answer.stderr.splitlines()] == ["data.train", "model.name_or_path"]
