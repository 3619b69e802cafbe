"""The data picker: what is chosen is what the run trains on, and looking at it holds nobody up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from textual.pilot import Pilot
from textual.widgets import Footer

from t5panel.contract.data_look import DataLook
from t5panel.contract.spec import RunSpec
from t5panel.preflight.peek import Peek
from t5panel.tui.app import PanelApp
from t5panel.tui.screens.data_picker import DataPicker
from t5panel.tui.screens.setup import SetupScreen
from t5panel.tui.widgets.form import FieldRow, FormPane
from t5panel.tui.widgets.plan_pane import PlanPane

from .panels import THREE_NAMED_CARDS, panel, planned, screen_text, shown, until

SIZE = (120, 30)


@dataclass
class Looks:
    """Looks at data that are known beforehand."""

    known: DataLook
    asked: list[RunSpec] = field(default_factory=list)

    def __call__(self, spec: RunSpec) -> Peek:
        """Remember what was asked for."""
        self.asked.append(spec)
        return KnownPeek(spec, self.known)


class KnownPeek(Peek):
    """A look without a process."""

    def __init__(self, spec: RunSpec, known: DataLook) -> None:
        super().__init__(spec)
        self._known = known

    def looks(self) -> Iterator[DataLook]:
        """What is known, of the columns that are asked for."""
        data, known = self._spec.data, self._known
        columns = {"prompt": data.prompt_column or known.prompt, "response": data.response_column or known.response}
        yield msgspec.structs.replace(known, **columns)


def lengths(*bands: tuple[int, int, int]) -> tuple[int, ...]:
    """Rising lengths: so many, from, to."""
    return tuple(sorted(low + (high - low) * at // count for count, low, high in bands for at in range(count)))


NEWS = DataLook(
    files=1,
    bytes=2_400_000_000,
    columns={"title": "text", "body": "text", "clicks": "int64"},
    rows=9_300_000,
    prompt="title",
    response="body",
    source=lengths((1200, 20, 90), (600, 90, 200), (200, 200, 520)),
    target=lengths((900, 60, 200), (800, 200, 420), (300, 420, 900)),
    sampled=2048,
    dropped=48,
    example=("Ministers agree on rail plan", "After a night of talks the ministers agreed on a plan for the railways."),
    tokenizer="t5-base",
)


def panel_with_data(folder: Path, look: DataLook = NEWS) -> tuple[PanelApp, Looks]:
    """A panel opened in a folder with a file and a folder of shards."""
    (folder / "news.jsonl").write_text(json.dumps({"title": "a", "body": "b"}) + "\n")
    (folder / "shards").mkdir()
    looks = Looks(look)
    app = panel(THREE_NAMED_CARDS)
    app._services = replace(app._services, peek=looks)
    return app, looks


async def looked(pilot: Pilot[None]) -> None:
    """The picker is open and tells of the first file."""
    await planned(pilot)
    await pilot.press("d")
    await until(pilot, lambda: isinstance(pilot.app.screen, DataPicker))
    await until(pilot, lambda: "sampled rows" in screen_text(pilot))


async def test_a_file_shows_columns_rows_and_how_long_its_texts_are(tmp_path: Path) -> None:
    app, _ = panel_with_data(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await looked(pilot)

        text = screen_text(pilot)

        assert "9,300,000 rows" in text
        assert "title text ← prompt" in text
        assert "source p50 78 p90 199 p99 486 max 518" in text
        assert "0.2 % over max_source_length 512" in text
        assert "12 % over max_target_length 512" in text
        assert "t5-base tokens of 2,000 sampled rows, 48 empty ones left out" in text
        assert "⏎ choose" in shown(pilot, Footer)


async def test_what_is_chosen_is_what_the_run_would_train_on_and_its_lengths_stand_by_their_settings(
    tmp_path: Path,
) -> None:
    app, _ = panel_with_data(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await looked(pilot)

        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))
        await planned(pilot)
        await pilot.press("e", *["down"] * 5)

        plan = pilot.app.screen.query_one(PlanPane).state.plan
        assert plan is not None
        assert plan.spec.data.train == str(tmp_path / "news.jsonl")
        assert "source p99 486, 0.2 % cut" in " ".join(shown(pilot, FormPane).split())


async def test_other_columns_are_chosen_by_key_and_go_into_the_run(tmp_path: Path) -> None:
    app, looks = panel_with_data(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await looked(pilot)

        await pilot.press("p")
        await until(pilot, lambda: len(looks.asked) == 2)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))

        asked = looks.asked[1].data
        assert (asked.prompt_column, asked.response_column) == ("body", "title")
        wish = pilot.app.screen._draft.wish  # type: ignore[attr-defined]
        assert (wish.overrides["data.prompt_column"], wish.overrides["data.response_column"]) == ("body", "title")


async def test_columns_of_any_name_are_taken_one_side_after_the_other(tmp_path: Path) -> None:
    fault = ("data.prompt_column", "no column is called prompt", "name it: --set …")
    strange = DataLook(columns={"clicks": "int64", "a": "text", "b": "text"}, rows=3, faults=(fault,))
    app, looks = panel_with_data(tmp_path, strange)
    async with app.run_test(size=SIZE) as pilot:
        await planned(pilot)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataPicker))
        await until(pilot, lambda: "no column is called prompt" in screen_text(pilot))
        hint = screen_text(pilot)

        await pilot.press("p", "r")
        await until(pilot, lambda: looks.asked[-1].data.response_column is not None)

        assert "p and r take another column" in hint
        assert (looks.asked[-1].data.prompt_column, looks.asked[-1].data.response_column) == ("a", "b")


async def test_folders_are_walked_by_key_and_nothing_is_chosen_by_leaving(tmp_path: Path) -> None:
    app, _ = panel_with_data(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await looked(pilot)

        await pilot.press("down", "enter")
        await until(pilot, lambda: str(tmp_path / "shards") in screen_text(pilot))
        await pilot.press("left")
        await until(pilot, lambda: "news.jsonl" in screen_text(pilot))
        back = screen_text(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, SetupScreen))

        assert "enter opens this folder" in back
        assert "data.train" not in pilot.app.screen._draft.wish.overrides  # type: ignore[attr-defined]


async def test_a_setting_that_can_be_chosen_says_so_and_is_chosen_from_its_field(tmp_path: Path) -> None:
    app, _ = panel_with_data(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await planned(pilot)
        rows = {row.field.key: row for row in pilot.app.screen.query(FieldRow)}

        rows["num_gpus"].editor.focus()
        await pilot.pause()
        plain = shown(pilot, Footer)
        rows["data.train"].editor.focus()
        await pilot.pause()
        chosen = shown(pilot, Footer)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, DataPicker))

        assert "^o choose" not in plain
        assert "^o choose" in chosen
