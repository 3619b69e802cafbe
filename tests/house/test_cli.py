"""Every command: what it prints where, and what it returns."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from t5panel.contract.layout import RunDir
from t5panel.session import spawn_supervisor
from tests.house.fake_rank import write_checkpoint
from tests.house.household import House, ended

REHEARSE = ("--preset", "manual", "--device", "cpu")


@pytest.fixture
def finished(house: House) -> RunDir:
    """A run that has finished."""
    run = house.fake_run("finishes", name="20260101-120000-manual")
    spawn_supervisor(run)
    ended(run)
    return run


@pytest.fixture
def stopped(house: House) -> RunDir:
    """A run that was stopped before its ranks started."""
    run = house.fake_run("waits", "honours-stop", name="20260102-120000-manual")
    run.request.write_text('{"action": "stop", "time": 0}')
    spawn_supervisor(run)
    ended(run)
    return run


def test_the_version_is_one_line(house: House) -> None:
    answer = house.panel("--version")

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("t5panel 0.")


def test_help_names_every_command(house: House) -> None:
    text = house.click("--help").stdout

    for command in ("plan", "presets", "show", "runs", "attach", "stop", "resume"):
        assert f"\n  {command} " in text


def test_a_plan_for_people_says_what_would_run(house: House) -> None:
    answer = house.click("plan", *REHEARSE)

    assert answer.exit_code == 0
    assert answer.stdout.startswith("REHEARSAL: ")
    assert "batch     2 × 16 × 3 = 96 rows per optimizer step" in answer.stdout
    assert "-m t5panel.trainers.manual" in answer.stdout
    assert house.is_untouched()


def test_a_plan_as_json_has_the_agreed_keys(house: House) -> None:
    plan = json.loads(house.click("plan", *REHEARSE, "--json").stdout)

    assert plan.keys() >= {
        *("preset", "verdict", "world_size", "effective_batch", "vram", "ram", "command", "findings", "suggestions"),
        "estimate",
    }
    assert plan["command"].keys() == {"argv", "env"}
    assert isinstance(plan["ram"]["total"], int)


@pytest.mark.parametrize(
    ("model", "machine", "verdict", "code"),
    [
        ("builtin:t5-base", "3x20GiB,12GiB", "fits", 0),
        ("builtin:t5-3b", "3x20GiB,12GiB", "no", 3),
        ("builtin:t5-base", "3x20GiB,2GiB", "no", 3),
        ("builtin:t5-base", "2x20GiB,12GiB", "fits", 4),
    ],
)
def test_another_machine_can_be_planned_for(house: House, model: str, machine: str, verdict: str, code: int) -> None:
    answer = house.click("plan", "--preset", "trainer", "--model", model, "--machine", machine, "--json")

    assert (json.loads(answer.stdout)["verdict"], answer.exit_code) == (verdict, code)


def test_a_dry_run_shows_a_port_and_a_run_keeps_none(house: House) -> None:
    words = ("--preset", "deepspeed", "--device", "cpu")
    shown = json.loads(house.click("--dry-run", *words, "--json").stdout)["command"]["argv"]

    house.click("--detach", *words, "--run-dir", str(house.home / "mine"))

    run = RunDir(house.home / "mine")
    house.runs.append(run)
    house.click("stop", str(run.path), "--now")
    kept = json.loads(run.run_json.read_bytes())["command"]["argv"]
    assert [word.partition("=")[2].isdecimal() for word in shown if "--master_port" in word] == [True]
    assert "--master_port=@free-port@" in kept


def replaced_by_rehearsal(house: House, *words: str) -> list[str]:
    """What the first line of a plan says a rehearsal has replaced."""
    first = house.click("plan", "--device", "cpu", *words).stdout.splitlines()[0]
    return first.rpartition(" Replaced: ")[2].rstrip(".").split(", ")


def test_a_rehearsal_names_what_it_has_replaced_and_nothing_that_the_user_set(house: House) -> None:
    all_of_it = replaced_by_rehearsal(house, "--preset", "manual")

    asked = replaced_by_rehearsal(house, "--preset", "manual", "--set", "train.max_steps=3", "--model", "builtin:tiny")

    assert {"model.name_or_path", "train.max_steps", "train.bf16"} <= set(all_of_it)
    assert asked == [key for key in all_of_it if key not in ("train.max_steps", "model.name_or_path")]


def test_a_rehearsal_leaves_a_users_own_preset_as_it_is_written(house: House) -> None:
    own = house.home / "mine.yaml"
    own.write_text(
        "method: manual\nlauncher: torchrun\nmodel: {name_or_path: builtin:t5-base}\n"
        "data: {max_source_length: 100}\ntrain: {learning_rate: 3.0e-5, bf16: true}\n"
    )

    spec = json.loads(house.click("plan", "--device", "cpu", "--preset", str(own), "--json").stdout)["spec"]

    assert (spec["data"]["max_source_length"], spec["train"]["learning_rate"], spec["train"]["bf16"]) == (
        *(100, 3e-5, True),
    )
    assert spec["train"]["max_steps"] is None
    assert replaced_by_rehearsal(house, "--preset", str(own)) == [
        *("data.max_target_length", "model.name_or_path", "train.generation_max_length"),
    ]


def test_a_dry_run_is_the_plan_and_writes_nothing(house: House) -> None:
    answer = house.click("--dry-run", *REHEARSE, "--json", "--set", "train.seed=5")

    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["spec"]["train"]["seed"] == 5
    assert house.is_untouched()


def test_presets_are_listed_with_their_batch(house: House) -> None:
    answer = house.click("presets")

    assert [line.split()[0] for line in answer.stdout.splitlines()] == [
        "deepspeed",
        "trainer",
        "manual",
        "llamafactory",
    ]
    assert "8 × 16 × 3 = 384" in answer.stdout
    assert [row["name"] for row in json.loads(house.click("presets", "--json").stdout)][:2] == ["deepspeed", "trainer"]


def test_a_shown_preset_can_be_used_as_a_preset(house: House) -> None:
    shown = house.home / "mine.yaml"
    shown.write_text(house.click("show", "deepspeed").stdout)

    answer = house.click("show", str(shown), "--json")

    assert answer.exit_code == 0
    assert json.loads(answer.stdout) == json.loads(house.click("show", "deepspeed", "--json").stdout)


def test_a_users_own_preset_is_found_by_its_name(house: House) -> None:
    home = house.home / "config/t5panel/presets"
    home.mkdir(parents=True)
    (home / "mine.yaml").write_text("summary: my own\nmethod: manual\nlauncher: torchrun\n")

    assert "my own" in house.click("presets").stdout
    assert json.loads(house.click("show", "mine", "--json").stdout)["launcher"] == "torchrun"


def test_without_runs_the_list_is_empty_and_says_how_to_start_one(house: House) -> None:
    answer = house.click("runs")

    assert (answer.exit_code, answer.stdout) == (0, "")
    assert "no runs yet" in answer.stderr
    assert json.loads(house.click("runs", "--json").stdout) == []


def test_runs_are_listed_newest_first(house: House, finished: RunDir, stopped: RunDir) -> None:
    rows = json.loads(house.click("runs", "--json").stdout)

    assert [(row["run_id"], row["phase"]) for row in rows] == [
        (stopped.run_id, "stopped"),
        (finished.run_id, "finished"),
    ]
    assert [line.split()[0] for line in house.click("runs").stdout.splitlines()] == [stopped.run_id, finished.run_id]


def test_a_run_with_a_broken_description_hides_no_other(house: House, finished: RunDir) -> None:
    broken = finished.path.with_name("20260103-broken")
    broken.mkdir()
    (broken / "run.json").write_text("{")

    assert [row["run_id"] for row in json.loads(house.click("runs", "--json").stdout)] == [finished.run_id]
    assert house.click("attach", "20260103").exit_code == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": 3}', '[{"where": 1}]', "\\x00"])
def test_a_broken_file_of_a_run_hides_neither_the_run_nor_any_other(
    house: House, finished: RunDir, stopped: RunDir, content: str
) -> None:
    for path in (stopped.result, stopped.prepared, stopped.faults, stopped.progress):
        path.write_text(content)

    assert [row["run_id"] for row in json.loads(house.click("runs", "--json").stdout)] == [
        stopped.run_id,
        finished.run_id,
    ]
    assert house.click("attach", stopped.run_id).exit_code == 130


def test_attach_returns_what_the_run_returned(house: House, finished: RunDir, stopped: RunDir) -> None:
    good, ended_early = house.click("attach", finished.run_id), house.click("attach", "last")

    assert (good.exit_code, ended_early.exit_code) == (0, 130)
    assert "loss           5.0000 → 2.0000" in good.stdout
    assert f"run directory  {finished.path}" in good.stdout


def test_lines_that_cannot_be_read_are_counted(house: House, finished: RunDir) -> None:
    finished.metrics.write_text('{"kind":"step"\n\n\x00\n')

    assert "left out       3 lines of its files that cannot be read" in house.click("attach", finished.run_id).stdout
    assert json.loads(house.click("attach", finished.run_id, "--json").stdout)["rejected_lines"] == 3


def test_attach_finds_a_run_by_the_start_of_its_id_or_its_path(house: House, finished: RunDir) -> None:
    for name in ("20260101", str(finished.path), "last"):
        assert json.loads(house.click("attach", name, "--json").stdout)["run_id"] == finished.run_id


def test_an_id_that_fits_several_runs_is_refused(house: House, finished: RunDir, stopped: RunDir) -> None:
    answer = house.click("stop", "2026")

    assert answer.exit_code == 2
    assert "matches several runs" in answer.stderr
    assert finished.run_id in answer.stderr
    assert stopped.run_id in answer.stderr


def test_stop_reports_the_end_and_what_is_alive(house: House) -> None:
    run = house.started("waits", "honours-stop")

    answer = house.click("stop", run.run_id, "--json")

    assert answer.exit_code == 0
    said = json.loads(answer.stdout)
    assert (said["phase"], said["alive"]) == ("stopped", [])


def test_stopping_a_run_that_has_ended_changes_nothing(house: House, finished: RunDir) -> None:
    answer = house.click("stop", finished.run_id)

    assert answer.exit_code == 0
    assert "has ended already" in answer.stderr
    assert ended(finished).phase == "finished"


def test_a_finished_run_is_not_resumed(house: House, finished: RunDir) -> None:
    answer = house.click("resume", finished.run_id)

    assert (answer.exit_code, "has finished" in answer.stderr) == (2, True)


def test_a_running_run_is_not_resumed(house: House) -> None:
    run = house.started("waits", "honours-stop")

    answer = house.click("resume", run.run_id)

    assert (answer.exit_code, "is still running" in answer.stderr) == (2, True)


def test_a_stopped_run_is_resumed_detached_and_its_old_request_is_forgotten(house: House, stopped: RunDir) -> None:
    answer = house.click("resume", stopped.run_id, "--detach", "--json")

    assert json.loads(answer.stdout) == {"run_id": stopped.run_id, "path": str(stopped.path)}
    assert not stopped.request.exists()
    assert house.click("stop", stopped.run_id).exit_code == 0


@pytest.fixture
def saved(house: House) -> RunDir:
    """A run of one rank that was stopped at its checkpoint of step 7."""
    run = house.fake_run("waits", "honours-stop", settings={"train.gradient_accumulation_steps": 1, "train.seed": 1})
    run.request.write_text('{"action": "stop", "time": 0}')
    write_checkpoint(run, 7)
    spawn_supervisor(run)
    ended(run)
    return run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--set", "num_gpus=2"), "1 × 1 × 1 = 1 → 2 × 1 × 2 = 4: step N would stand for other rows"),
        (("--set", "train.learning_rate=1"), "the checkpoint restores optimizer, schedule and precision as they were"),
        (("--set", "tran.seed=1"), "unknown key"),
        (("--set", "train.seed"), "is not key=value"),
        (("--gpus", "x"), "is no list of cards"),
    ],
)
def test_a_resume_with_settings_that_do_not_go_is_refused_with_the_reason_and_changes_nothing(
    house: House, saved: RunDir, words: tuple[str, ...], reason: str
) -> None:
    before = saved.run_json.read_bytes()

    answer = house.click("resume", saved.run_id, *words)

    assert (answer.exit_code, reason in answer.stderr) == (2, True), answer.stderr
    assert saved.run_json.read_bytes() == before
    assert ended(saved).phase == "stopped"


def test_a_resume_with_other_settings_says_so_ever_after(house: House, saved: RunDir) -> None:
    words = ("--set", "train.per_device_train_batch_size=1", "--set", "schedule=22:00-08:00")

    assert house.click("resume", saved.run_id, *words, "--detach").exit_code == 0
    house.click("stop", saved.run_id, "--now")

    shown = house.click("attach", saved.run_id).stdout
    assert "changed        per_device_train_batch_size 2 → 1, schedule empty → 22:00-08:00 from step 7 on" in shown
    assert json.loads(house.click("attach", saved.run_id, "--json").stdout)["changes"][0]["step"] == 7


def test_a_detached_start_prints_the_id_and_leaves_a_run_behind(house: House) -> None:
    answer = house.click(*REHEARSE, "--detach", "--run-dir", str(house.home / "mine"))

    run = RunDir(house.home / "mine")
    house.runs.append(run)
    assert (answer.exit_code, answer.stdout) == (0, "mine\n")
    assert answer.stderr.startswith("REHEARSAL: ")
    assert json.loads(run.run_json.read_bytes())["spec"]["model"]["name_or_path"] == "builtin:tiny"
    assert (run.path.stat().st_mode & 0o777, (run.config / "accelerate.yaml").exists()) == (0o700, True)
    assert house.click("stop", str(run.path), "--now").exit_code == 0


def test_a_run_that_lives_elsewhere_is_listed_and_found_by_its_name(house: House, finished: RunDir) -> None:
    elsewhere = house.home / "disk" / "mine"
    assert house.click(*REHEARSE, "--detach", "--run-dir", str(elsewhere)).exit_code == 0
    house.runs.append(RunDir(elsewhere))
    rows = json.loads(house.click("runs", "--json").stdout)

    stop = json.loads(house.click("stop", "mine", "--now", "--json").stdout)

    assert [(row["run_id"], row["path"]) for row in rows] == [
        ("mine", str(elsewhere)),
        (finished.run_id, str(finished.path)),
    ]
    assert (stop["run_id"], stop["phase"], stop["alive"]) == ("mine", "stopped", [])


def test_a_folder_elsewhere_that_was_used_again_is_one_run(house: House, finished: RunDir) -> None:
    elsewhere = finished.path.rename(house.home / "mine")
    for stamp in ("20260101-120000-mine", "20260102-120000-mine"):
        (finished.path.parent / stamp).symlink_to(elsewhere)

    assert [row["path"] for row in json.loads(house.click("runs", "--json").stdout)] == [str(elsewhere)]


def test_a_run_whose_disk_is_gone_is_not_listed(house: House, finished: RunDir) -> None:
    (finished.path.parent / "20260103-120000-mine").symlink_to(house.home / "gone")

    assert [row["run_id"] for row in json.loads(house.click("runs", "--json").stdout)] == [finished.run_id]


def test_a_failed_run_followed_as_json_prints_json_alone(house: House) -> None:
    run = house.fake_run("fails")

    answer = house.panel("resume", run.run_id, "--json")

    assert answer.returncode == 1
    assert json.loads(answer.stdout)["phase"] == "failed"


@pytest.mark.parametrize(
    "words", [("plan", *REHEARSE), ("presets",), ("show", "manual"), ("runs",), ("attach", "last")]
)
def test_without_a_terminal_there_is_no_escape_sequence(house: House, finished: RunDir, words: tuple[str, ...]) -> None:
    answer = house.panel(*words, FORCE_COLOR="")

    assert "\x1b" not in answer.stdout + answer.stderr


def test_no_color_is_honoured_on_a_terminal(house: House, finished: RunDir) -> None:
    coloured, plain = (on_a_terminal(house, ("attach", "last"), **env) for env in ({}, {"NO_COLOR": "1"}))

    assert "\x1b[38;" in coloured
    assert "\x1b[38;" not in plain


def on_a_terminal(house: House, words: tuple[str, ...], **env: str) -> str:
    """What a command writes to a terminal, stdout and stderr together."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    everything = {**clean, **house.env, "TERM": "xterm-256color", **env}
    with subprocess.Popen(
        [sys.executable, "-m", "t5panel", *words], stdout=theirs, stderr=theirs, env=everything
    ) as it:
        os.close(theirs)
        it.wait(timeout=30)
    chunks = b"".join(iter(lambda: read_or_end(ours), b""))
    os.close(ours)
    return chunks.decode()


def read_or_end(descriptor: int) -> bytes:
    """The next bytes of a terminal; empty when its other side is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_a_user_who_breaks_off_before_the_start_gets_130(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("t5panel.session.prospect", break_off)

    assert house.click("plan", *REHEARSE).exit_code == 130
