"""clean with what earlier runs have cleaned in its memo: the same bytes as from scratch, whatever happened to the rows in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError
from components.core.files import sha256
from components.stages.clean import stage, unique_rows
from components.stages.clean.frozen_split import freeze
from tests.components.stage_runner import IMAGE, TEXT, StageRunner, pictures, sentences
from tests.components.stages.clean.test_clean_stage import canonical, dirty

Rows = list[dict[str, Any]]
OLD = [{**row, "id": f"o{i}"} for i, row in enumerate(dirty())]
NEW = [
    {"text": "新的一行 a new row here", "label": "好评"},
    {"text": OLD[3]["text"] + " ", "label": OLD[3]["label"]},  # counts as equal to an old one
    {"text": OLD[5]["text"], "label": OLD[5]["label"]},  # is one
    {
        "text": OLD[45]["text"],
        "label": {"差评": "好评", "好评": "差评"}[OLD[45]["label"]],
    },  # disputes an old one
    {"text": OLD[60]["text"] + "y", "label": OLD[60]["label"]},  # resembles one
    {"text": "!", "label": "好评"},
]
CHANGES: dict[str, Callable[[Rows], Rows]] = {
    "nothing": lambda rows: rows,
    "rows behind": lambda rows: rows + NEW,
    "rows before": lambda rows: NEW + rows,
    "rows in between": lambda rows: rows[:77] + NEW + rows[77:],
    "rows are gone": lambda rows: rows[:50] + rows[90:],
    "rows are gone and others came": lambda rows: rows[30:] + NEW,
    "another order": lambda rows: rows[::-1],
    "labels changed": lambda rows: [
        {**row, "label": {"差评": "好评", "好评": "差评"}.get(row["label"], row["label"])}
        if i % 9 == 0
        else row
        for i, row in enumerate(rows)
    ],
    "a column came": lambda rows: [
        {**row, "title": f"title {i % 7}"} for i, row in enumerate(rows)
    ],
    "other ids and places": lambda rows: [
        {**row, "id": f"x{i}", "origin": f"other.csv:{i}"} for i, row in enumerate(rows)
    ],
    "all is new": lambda rows: sentences(150, seed=5),
}


def clean(
    root: Path, rows: Rows, memo: Path | None, task: str = TEXT, **params: Any
) -> tuple[dict[str, str], list[str]]:
    """SHA-256 of every output, and what the memo was told to do without."""
    shutil.rmtree(root, ignore_errors=True)
    runner = StageRunner.make(root, rows, task, clean=params)
    job = replace(runner.job("clean", ["raw"], ["clean", "audit", "report"]), cache=memo)
    stage.run(job)
    files = [
        file
        for name in ("clean", "audit", "clean.json")
        for file in ([root / name] if (root / name).is_file() else (root / name).rglob("*"))
        if file.is_file()
    ]
    said = [
        line
        for line in job.journal.path.read_text(encoding="utf-8").splitlines()
        if "memory of earlier runs" in line
    ]
    return {file.relative_to(root).as_posix(): sha256(file) for file in files}, said


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The memo of the old rows."""
    root = tmp_path_factory.mktemp("filled")
    clean(root / "work", OLD, root / "memo" / "code")
    return root / "memo" / "code"


@pytest.fixture
def memo(filled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(filled, tmp_path / "memo" / "code"))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many contents each call of clean_piece was given."""
    calls: list[int] = []

    def work(piece: Any) -> Any:
        calls.append(piece.rows.num_rows)
        return done(piece)

    done = unique_rows.clean_piece
    monkeypatch.setattr(unique_rows, "clean_piece", work)
    return calls


@pytest.mark.parametrize("change", CHANGES)
def test_the_bytes_are_those_from_scratch(memo: Path, tmp_path: Path, change: str) -> None:
    rows = CHANGES[change](OLD)
    for _ in range(2):  # with the memo of the old rows, and with its own
        assert clean(tmp_path / "grown", rows, memo) == clean(tmp_path / "scratch", rows, None)
    assert len(list(memo.iterdir())) == 3  # contents, those that came since, pairs


def test_only_new_contents_are_cleaned(
    memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    clean(tmp_path / "grown", NEW + OLD, memo)
    assert calls == [5]  # of the six one was there already, as it is
    clean(tmp_path / "grown", OLD + NEW, memo)
    assert calls == [5]


@pytest.mark.parametrize(
    "params",
    [
        {"boilerplate": 0},
        {"conflicts": "majority"},
        {"near_duplicates": 0.6},
        {"validation_share": 0.2},
    ],
)
def test_knobs_of_all_rows_together_need_no_row_cleaned_again(
    memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    wanted = clean(tmp_path / "scratch", OLD, None, **params)
    calls = counted(monkeypatch)
    assert clean(tmp_path / "grown", OLD, memo, **params) == wanted
    assert calls == []


@pytest.mark.parametrize(
    "params",
    [
        {"min_characters": 6},
        {"max_characters": 20},
        {"unlabelled": "keep"},
        {"near_duplicates": 1.0},
    ],
)
def test_knobs_of_a_row_clean_all_again(
    memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    wanted = clean(tmp_path / "scratch", OLD + NEW, None, **params)
    calls = counted(monkeypatch)
    assert clean(tmp_path / "grown", OLD + NEW, memo, **params) == wanted
    assert sum(calls) > 200


def test_a_frozen_split_stays_and_the_memo_holds(
    memo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = StageRunner.make(tmp_path / "first", OLD).clean()
    split = str(freeze(runner.root / "clean", TEXT, runner.sections["clean"], tmp_path))  # type: ignore[arg-type]
    wanted = clean(tmp_path / "scratch", NEW + OLD, None, frozen_split=split)
    calls = counted(monkeypatch)
    assert clean(tmp_path / "grown", NEW + OLD, memo, frozen_split=split) == wanted
    assert sum(calls) == 5


def test_the_sources_own_splits_and_groups(tmp_path: Path) -> None:
    rows = [{**row, "group": f"user{i % 60}"} for i, row in enumerate(canonical(True))]
    clean(tmp_path / "grown", rows[:-20], tmp_path / "memo" / "code")
    assert clean(tmp_path / "grown", rows, tmp_path / "memo" / "code") == clean(
        tmp_path / "scratch", rows, None
    )


def test_pictures(tmp_path: Path) -> None:
    rows = pictures(80)
    clean(tmp_path / "grown", rows[8:], tmp_path / "memo" / "code", IMAGE)
    bad = [*rows, {"image": b"no picture", "label": "lies"}]
    assert clean(tmp_path / "grown", bad, tmp_path / "memo" / "code", IMAGE) == clean(
        tmp_path / "scratch", bad, None, IMAGE
    )


def test_a_memo_that_was_edited_changes_nothing_but_the_time(memo: Path, tmp_path: Path) -> None:
    for file in memo.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    wanted, _ = clean(tmp_path / "scratch", OLD, None)
    found, said = clean(tmp_path / "grown", OLD, memo)
    assert found == wanted and len(said) == 1
    assert clean(tmp_path / "grown", OLD, memo) == (wanted, [])  # it is whole again


def test_errors_come_with_the_memo_as_without(memo: Path, tmp_path: Path) -> None:
    for rows in (
        [row for row in OLD if row["label"] == "好评"],
        OLD[-7:],
        [{**row, "id": "one"} for row in OLD],
    ):
        told = []
        for own in (memo, None):
            with pytest.raises(InputError) as caught:
                clean(tmp_path / "grown", rows, own)
            told.append(str(caught.value))
        assert told[0] == told[1]
