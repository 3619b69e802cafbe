"""`t5panel compare` on the runs of one user."""

from __future__ import annotations

import json

from tests.house.household import House


def test_runs_are_compared_by_name_each_once(house: House) -> None:
    first, second = house.fake_run("exit"), house.fake_run("exit", "train", "train")

    done = house.click(
        "compare", first.run_id, "last", str(first.path), "--samples", "5000000", "--price", "0.3", "--json"
    )

    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert [run["run_id"] for run in found["runs"]] == [first.run_id, second.run_id]
    assert found["settings"] == [{"key": "num_gpus", "values": [1, 2]}]
    assert (found["samples"], found["price"]) == (5_000_000, 0.3)


def test_text_and_markdown_tell_the_same(house: House) -> None:
    run = house.fake_run("exit", settings={"train.seed": 7})
    other = house.fake_run("exit")

    text = house.click("compare", run.run_id, other.run_id).stdout
    table = house.click("compare", run.run_id, other.run_id, "--markdown").stdout

    assert ["train.seed", "7", "42"] in [line.split() for line in text.splitlines()]
    assert "| train.seed | 7 | 42 |" in table.splitlines()


def test_every_unknown_run_is_named_at_once(house: House) -> None:
    house.fake_run("exit")

    done = house.click("compare", "nothing", "fake-0", "nobody")

    assert done.exit_code == 2
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "no such run" in line] == [
        "nothing: no such run",
        "nobody: no such run",
    ]


def test_json_and_markdown_together_are_refused(house: House) -> None:
    house.fake_run("exit")

    assert house.click("compare", "last", "--json", "--markdown").exit_code == 2
