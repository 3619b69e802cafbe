"""`t5panel export`: files for other programs, or every reason why there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from t5panel.errors import ExitCode
from tests.house.household import House

RECORDING = Path(__file__).parents[1] / "data" / "recorded-run"


def recorded(house: House) -> str:
    """The id of a finished run in this home."""
    name = "20260101-120000-manual"
    shutil.copytree(RECORDING, house.home / "state" / "t5panel" / "runs" / name)
    return name


def test_a_run_is_written_as_tables_and_as_a_picture(house: House, tmp_path: Path) -> None:
    run, picture = recorded(house), tmp_path / "run.svg"

    answer = house.panel(
        "export", run, "--csv", str(tmp_path / "csv"), "--svg", str(picture), "--size", "80x24", "--json"
    )

    assert answer.returncode == ExitCode.DONE, answer.stderr
    names = [Path(path).name for path in msgspec.json.decode(answer.stdout)["written"]]
    assert names == ["steps.csv", "evaluations.csv", "samples.csv", "run.csv", "run.svg"]
    text = picture.read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert "step" in text
    assert "80/80" in text


def test_what_cannot_be_written_is_told(house: House, tmp_path: Path) -> None:
    run = recorded(house)
    (tmp_path / "file").touch()

    nothing = house.click("export", run)
    size = house.click("export", run, "--svg", str(tmp_path / "a.svg"), "--size", "big")
    place = house.click("export", run, "--csv", str(tmp_path / "file"))

    assert [answer.exit_code for answer in (nothing, size, place)] == [ExitCode.USAGE] * 3
    assert "nothing was asked for" in nothing.output
    assert "'big' is no size" in size.output
    assert "File exists" in place.output
    assert not (tmp_path / "a.svg").exists()
