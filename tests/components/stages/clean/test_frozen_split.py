"""A split that is kept while the data grow."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.stages.clean.frozen_split import freeze
from components.tasks.base import FEEDBACK
from tests.components.stage_runner import TEXT, StageRunner, sentences

ROWS = sentences(240)


def cleaned(
    root: Path, rows: list[dict[str, Any]], split: Path | None = None, **params: Any
) -> StageRunner:
    own = params | ({"frozen_split": str(split)} if split else {})
    return StageRunner.make(root, rows, clean=own).clean()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[StageRunner, Path]:
    runner = cleaned(tmp_path_factory.mktemp("first"), ROWS)
    return runner, freeze(runner.root / "clean", TEXT, runner.sections["clean"], runner.root)  # type: ignore[arg-type]


def files(runner: StageRunner, part: str = "") -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((runner.root / "clean").glob(f"{part}*.parquet"))
    }


def keyed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ids that do not tell the place in the source."""
    return [{**row, "id": hashlib.sha256(row["text"].encode()).hexdigest()[:8]} for row in rows]


def test_the_same_rows_give_the_same_bytes(first: tuple[StageRunner, Path], tmp_path: Path) -> None:
    runner, split = first
    again = cleaned(tmp_path, ROWS, split)
    assert files(again) == files(runner) and again.manifest() == runner.manifest()


def test_growth_leaves_test_as_it_was_byte_for_byte(
    first: tuple[StageRunner, Path], tmp_path: Path
) -> None:
    runner, split = first
    more = sentences(500, seed=1)
    grown = cleaned(tmp_path, [*ROWS, *more], split)
    assert files(grown, "test") == files(runner, "test")
    old = {row["id"] for row in runner.rows("clean", "validation")}
    new = {row["id"] for row in grown.rows("clean", "validation")}
    assert old < new and 20 < len(new - old) < 90  # a tenth of what is new
    made_anew = cleaned(tmp_path / "anew", [*ROWS, *more])
    assert files(made_anew, "test") != files(runner, "test")


def test_it_is_found_again_wherever_the_source_puts_its_rows(tmp_path: Path) -> None:
    runner = cleaned(tmp_path / "a", keyed(ROWS))
    split = freeze(runner.root / "clean", TEXT, runner.sections["clean"], runner.root)  # type: ignore[arg-type]
    turned = cleaned(tmp_path / "b", [*keyed(sentences(100, seed=2)), *keyed(ROWS)[::-1]], split)
    assert files(turned, "test") == files(runner, "test")


def test_what_equals_or_resembles_a_test_row_is_never_learnt(
    first: tuple[StageRunner, Path], tmp_path: Path
) -> None:
    runner, split = first
    held = runner.rows("clean", "test")
    longest = max(held, key=lambda row: len(row["text"]))
    other = {"差评": "好评", "好评": "差评"}[held[0]["label"]]
    poison = [
        {"text": held[0]["text"], "label": other},
        {"text": longest["text"] + "!", "label": longest["label"]},
        {"text": longest["text"][:-1], "label": longest["label"]},
    ]
    grown = cleaned(tmp_path, [*ROWS, *poison], split)
    assert files(grown, "test") == files(runner, "test")
    assert {row["id"] for part in ("train", "validation") for row in grown.rows("clean", part)} == {
        row["id"] for part in ("train", "validation") for row in runner.rows("clean", part)
    }
    assert (
        grown.manifest()["books"]["deduplicated"] == runner.manifest()["books"]["deduplicated"] + 3
    )


def fed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As `gristmill feedback accept` writes them."""
    return [{**row, "id": f"{FEEDBACK}{number:032x}-0"} for number, row in enumerate(rows)]


def test_a_share_of_the_feedback_is_tested_behind_what_is_kept_and_stays_there(
    first: tuple[StageRunner, Path], tmp_path: Path
) -> None:
    runner, split = first
    more = fed(sentences(400, seed=1))
    once = cleaned(tmp_path / "once", [*ROWS, *more], split)
    kept, tested = runner.rows("clean", "test"), once.rows("clean", "test")
    assert tested[: len(kept)] == kept
    said = [row["id"] for row in tested[len(kept) :]]
    assert 15 < len(said) < 70 and all(each.startswith(FEEDBACK) for each in said)  # a tenth
    # when the source grows, and more feedback comes
    again = cleaned(
        tmp_path / "again",
        [*ROWS, *sentences(100, seed=2), *more, *fed(sentences(700, seed=4))[400:]],
        split,
    )
    later = [row["id"] for row in again.rows("clean", "test")[len(kept) :]]
    assert set(said) < set(later) and all(each.startswith(FEEDBACK) for each in later)


def test_feedback_that_resembles_what_was_learnt_is_not_tested(
    first: tuple[StageRunner, Path], tmp_path: Path
) -> None:
    runner, split = first
    longest = sorted(runner.rows("clean", "train"), key=lambda row: -len(row["text"]))[:40]
    close = fed([{"text": row["text"][:-1] + "!", "label": row["label"]} for row in longest])
    grown = cleaned(tmp_path, [*ROWS, *close], split)

    assert files(grown, "test") == files(runner, "test")


def test_a_split_that_is_away_or_was_edited_is_refused(
    first: tuple[StageRunner, Path], tmp_path: Path
) -> None:
    _, split = first
    with pytest.raises(InputError, match="does not exist"):
        cleaned(tmp_path / "a", ROWS, split.with_name("split-0.parquet"))
    edited = tmp_path / split.name
    edited.write_bytes(split.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="cut or edited"):
        cleaned(tmp_path / "b", ROWS, edited)
