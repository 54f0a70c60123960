"""Splits of tables: rows with equal inputs, rows in time, folds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.core.errors import InputError
from components.core.job import Job
from components.core.tables import read_manifest, read_table, write_table
from components.orchestration.pipeline_params import section_model
from components.stages.clean import stage
from components.stages.clean.frozen_split import freeze
from components.stages.evaluate.leakage import leaked_rows
from components.tasks import base

TASK = "tabular_regression"
INPUTS: Mapping[str, Any] = {"size": {"kind": "number"}, "city": {"kind": "category"}}
DAY = 86_400.0
Row = dict[str, Any]
PARTS = ("train", "validation", "test")


def flats(count: int) -> list[Row]:
    """Return rows of which each has inputs of its own, a day after the one before."""
    return [
        {"size": 20.0 + number, "city": "north", "target": 7.0 * number, "time": DAY * number}
        for number in range(count)
    ]


def few_inputs(count: int) -> list[Row]:
    """Return rows with four different inputs, whose targets differ."""
    rows = flats(count)
    for number, row in enumerate(rows):
        row["size"] = float(number % 2)
        row["city"] = ("north", "south")[number // 2 % 2]
    return rows


def run(root: Path, rows: Sequence[Row], **params: Any) -> Job:
    """Run clean on rows of a table."""
    names = {
        "id": pa.string(),
        "origin": pa.string(),
        "size": pa.float64(),
        "city": pa.string(),
        "target": pa.float64(),
        "split": pa.string(),
        "group": pa.string(),
        "time": pa.float64(),
    }
    full = []
    for number, row in enumerate(rows):
        full.append({"id": f"r{number:04d}", "origin": f"made.csv:{number + 2}", **row})
    schema = pa.schema(list(names.items()))
    table = pa.Table.from_pylist(full, schema=schema)
    write_table(root / "raw", {"rows": table}, base.inputs_entry(INPUTS))
    section = section_model("clean", TASK).model_validate(params)
    job = Job(
        "clean",
        TASK,
        7,
        root,
        section,
        {"clean": section},
        {"raw": root / "raw", "clean": root / "clean"},
        {"clean": root / "clean", "audit": root / "audit", "report": root / "clean.json"},
        root / ".state",
        {},
    )
    stage.run(job)
    return job


def targets(root: Path, part: str) -> list[float]:
    """Return the targets of a split in order."""
    return sorted(read_table(root / "clean", part)["target"].to_pylist())


def account(root: Path) -> dict[str, Any]:
    """Return the entries of the accounting by name."""
    return {entry["what"]: entry for entry in read_manifest(root / "clean")["account"]}


def split_of(root: Path) -> dict[float, str]:
    """Return the split of each row by its target, which no other row has."""
    splits = {}
    for part in PARTS:
        for target in targets(root, part):
            splits[target] = part
    return splits


def test_rows_of_few_inputs_are_cases_of_their_own(tmp_path: Path) -> None:
    job = run(tmp_path, few_inputs(200))
    sizes = {part: len(targets(tmp_path, part)) for part in PARTS}
    assert sizes == {"train": 160, "validation": 20, "test": 20}
    assert account(tmp_path)["shared_inputs"]["rows"] == 40
    assert "200 rows have 4 different inputs" in account(tmp_path)["shared_inputs"]["message"]
    assert leaked_rows(job) == 0


def test_a_leak_of_a_case_is_counted(tmp_path: Path) -> None:
    job = run(tmp_path, few_inputs(200))
    manifest = read_manifest(tmp_path / "clean")
    parts = {part: read_table(tmp_path / "clean", part) for part in PARTS}
    parts["test"] = pa.concat_tables([parts["test"], parts["train"].slice(0, 3)])
    write_table(tmp_path / "clean", parts, {base.ROWS_ARE_CASES: manifest[base.ROWS_ARE_CASES]})
    assert leaked_rows(job) == 3


def test_splits_of_the_source_lose_no_row_of_few_inputs(tmp_path: Path) -> None:
    rows = few_inputs(200)
    for number, row in enumerate(rows):
        row["split"] = "test" if number >= 160 else "train"
    job = run(tmp_path, rows)
    books = read_manifest(tmp_path / "clean")["books"]
    assert books["rows_out"] == 200
    assert targets(tmp_path, "test") == [row["target"] for row in rows[160:]]
    assert len(targets(tmp_path, "train")) > 130
    assert leaked_rows(job) == 0


def test_a_group_column_keeps_rows_of_few_inputs_together(tmp_path: Path) -> None:
    rows = few_inputs(200)
    for number, row in enumerate(rows):
        row["group"] = f"street {number // 10}"
    run(tmp_path, rows)
    splits = split_of(tmp_path)
    for start in range(0, 200, 10):
        assert len({splits[row["target"]] for row in rows[start : start + 10]}) == 1


def test_a_group_named_none_shares_no_name_with_rows_without_a_group(tmp_path: Path) -> None:
    rows = [{"size": 1.0, "city": "north", "target": 5.0} for _ in range(200)]
    rows += [{"size": 2.0, "city": "south", "target": 6.0} for _ in range(200)]
    for number, row in enumerate(rows):
        row["group"] = "None" if number % 40 == 0 else None
    run(tmp_path, rows)
    groups = [
        name for part in PARTS for name in read_table(tmp_path / "clean", part)["group"].to_pylist()
    ]
    # Ten rows are one group; each of the others is one of its own.
    assert len(set(groups)) == 391


def test_copies_of_a_table_stay_in_one_split(tmp_path: Path) -> None:
    job = run(tmp_path, flats(100) * 2)
    assert base.ROWS_ARE_CASES not in read_manifest(tmp_path / "clean")
    assert "shared_inputs" not in account(tmp_path)
    held_out = set(targets(tmp_path, "test")) | set(targets(tmp_path, "validation"))
    assert not held_out & set(targets(tmp_path, "train"))
    assert leaked_rows(job) == 0


def test_an_old_row_with_the_inputs_of_a_later_one_stays_in_the_past(tmp_path: Path) -> None:
    rows = flats(100)
    for row in rows:
        row["size"] %= 60
    job = run(tmp_path, rows, split_by="time")
    assert targets(tmp_path, "test") == [row["target"] for row in rows[90:]]
    assert targets(tmp_path, "train") == [row["target"] for row in rows[:80]]
    assert account(tmp_path)["shared_inputs"]["rows"] == 20
    assert leaked_rows(job) == 0


def test_only_a_split_by_time_writes_times(tmp_path: Path) -> None:
    run(tmp_path / "hash", flats(60))
    assert "time" not in read_table(tmp_path / "hash" / "clean").column_names
    rows = [*flats(60), {"size": 7.0, "city": "south", "target": None, "time": DAY}]
    run(tmp_path / "time", rows, split_by="time", unlabelled="keep")
    train = read_table(tmp_path / "time" / "clean", "train")
    assert train["time"].to_pylist() == [target / 7 * DAY for target in train["target"].to_pylist()]
    assert read_table(tmp_path / "time" / "clean", "unlabelled")["time"].to_pylist() == [None]


def test_groups_of_the_source_are_told_from_equal_rows(tmp_path: Path) -> None:
    run(tmp_path / "equal", [*flats(60), *flats(20)])
    assert base.HAS_GROUPS not in read_manifest(tmp_path / "equal" / "clean")
    rows = flats(60)
    rows[3]["group"] = "one street"
    run(tmp_path / "named", rows)
    assert read_manifest(tmp_path / "named" / "clean")[base.HAS_GROUPS]


def test_embargoed_rows_have_a_count_of_their_own(tmp_path: Path) -> None:
    run(tmp_path, flats(100), split_by="time", embargo_days=3)
    books = read_manifest(tmp_path / "clean")["books"]
    assert books == {
        "rows_in": 100,
        "rows_out": 96,
        "quarantined": 0,
        "filtered": 0,
        "deduplicated": 0,
        "embargoed": 4,
    }
    entry = account(tmp_path)["embargo"]
    assert entry["rows"] == 4
    assert "just before validation or test: clean.embargo_days" in entry["message"]


def test_rows_that_leak_into_splits_of_the_source_are_no_embargo(tmp_path: Path) -> None:
    rows = flats(100)
    for number, row in enumerate(rows):
        row["split"] = "test" if number >= 80 else "train"
    rows[0]["group"] = rows[99]["group"] = "one street"
    run(tmp_path, rows, split_by="time", embargo_days=3)
    entries = account(tmp_path)
    assert "embargo" not in entries
    assert entries["leaking"]["rows"] == 1
    assert "ingest.columns.group" in entries["leaking"]["message"]
    assert "near_duplicates" not in entries["leaking"]["message"]
    assert read_manifest(tmp_path / "clean")["books"]["deduplicated"] == 1


def frozen(root: Path, rows: Sequence[Row], **params: Any) -> Path:
    """Return the split of a first run, as a retrain freezes it."""
    job = run(root, rows, **params)
    return freeze(root / "clean", TASK, job.params, root)


@pytest.mark.parametrize("embargo", [0.0, 3.0])
def test_a_frozen_split_by_time_gives_the_same_rows_the_same_bytes(
    tmp_path: Path, embargo: float
) -> None:
    params = {"split_by": "time", "embargo_days": embargo}
    split = frozen(tmp_path / "first", flats(100), **params)
    run(tmp_path / "again", flats(100), **params, frozen_split=str(split))
    first = read_manifest(tmp_path / "first" / "clean")
    again = read_manifest(tmp_path / "again" / "clean")
    assert again["shards"] == first["shards"]
    assert again["books"] == first["books"]
    assert "after_test" not in account(tmp_path / "again")


def test_rows_after_a_frozen_test_are_learned_from_and_told(tmp_path: Path) -> None:
    params = {"split_by": "time", "embargo_days": 3.0}
    split = frozen(tmp_path / "first", flats(100), **params)
    run(tmp_path / "grown", flats(200), **params, frozen_split=str(split))
    splits = split_of(tmp_path / "grown")
    days = {part: [] for part in PARTS}
    for target, part in splits.items():
        days[part].append(round(target / 7))
    assert sorted(days["test"]) == list(range(90, 100))
    assert sorted(days["validation"]) == list(range(180, 200))
    # Three days before test, after it, and before validation are left out.
    assert sorted(days["train"]) == [*range(88), *range(102, 178)]
    entries = account(tmp_path / "grown")
    assert entries["embargo"]["rows"] == 6
    assert "near the time of the frozen test rows" in entries["embargo"]["message"]
    assert entries["after_test"]["rows"] == 76 + 20
    assert "later than the test rows" in entries["after_test"]["message"]
    assert "clean.frozen_split" in entries["after_test"]["message"]


def test_a_late_row_from_the_time_of_a_frozen_test_is_left_out(tmp_path: Path) -> None:
    split = frozen(tmp_path / "first", flats(100), split_by="time")
    late = {"size": 999.0, "city": "south", "target": 1.0, "time": DAY * 95.5}
    same_group = {"size": 998.0, "city": "south", "target": 2.0, "time": DAY * 300}
    rows = [*flats(100), late, same_group]
    rows[95]["group"] = same_group["group"] = "one street"
    run(tmp_path / "grown", rows, split_by="time", frozen_split=str(split))
    splits = split_of(tmp_path / "grown")
    assert not {1.0, 2.0} & set(splits)
    entries = account(tmp_path / "grown")
    assert entries["embargo"]["rows"] == 1
    assert entries["leaking"]["rows"] == 1
    assert "after_test" not in entries
    assert len(targets(tmp_path / "grown", "test")) == 10


def test_a_source_without_a_frozen_test_row_is_refused(tmp_path: Path) -> None:
    split = frozen(tmp_path / "first", flats(100))
    others = [{**row, "size": row["size"] + 0.5} for row in flats(100)]
    with pytest.raises(InputError, match="none of its 10 test rows is in the source"):
        run(tmp_path / "other", others, frozen_split=str(split))


@pytest.mark.parametrize("make", [flats, few_inputs])
def test_folds_test_each_row_once_in_any_order(tmp_path: Path, make: Any) -> None:
    rows = make(103)
    for number, row in enumerate(rows):
        row["group"] = f"street {number // 2}" if number < 60 else None
    rows += make(20)[:3]
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    tested: list[float] = []
    for number in range(1, 6):
        fold = {"count": 5, "number": number}
        run(tmp_path / f"a{number}", rows, fold=fold)
        run(tmp_path / f"b{number}", shuffled, fold=fold)
        for part in PARTS:
            first = targets(tmp_path / f"a{number}", part)
            assert first == targets(tmp_path / f"b{number}", part)
            assert part != "validation" or 8 <= len(first) <= 14
        test = targets(tmp_path / f"a{number}", "test")
        assert 18 <= len(test) <= 24
        tested += test
        where = read_table(tmp_path / f"a{number}" / "clean")
        groups = zip(where["group"].to_pylist(), where["split"].to_pylist(), strict=True)
        assert max(Counter(group for group, _ in set(groups)).values()) == 1
    assert sorted(tested) == sorted(row["target"] for row in rows)


def test_folds_of_a_source_with_splits_are_refused(tmp_path: Path) -> None:
    rows = flats(100)
    for number, row in enumerate(rows):
        row["split"] = "test" if number >= 80 else "train"
    with pytest.raises(InputError, match="the source says itself what is test") as caught:
        run(tmp_path, rows, fold={"count": 5, "number": 1})
    assert "clean.fold: null" in caught.value.remedy


def test_folds_of_few_groups_are_refused(tmp_path: Path) -> None:
    rows = flats(100)
    for number, row in enumerate(rows):
        row["group"] = f"street {number % 4}"
    with pytest.raises(InputError, match=r"only 4 independent group.*each of 5 folds") as caught:
        run(tmp_path, rows, fold={"count": 5, "number": 1})
    assert "clean.fold.count: 4" in caught.value.remedy
    assert "near_duplicates" not in caught.value.remedy


@pytest.mark.parametrize(
    ("params", "remedy"),
    [
        ({"split_by": "time"}, "split_by: hash"),
        ({"frozen_split": "split-0.parquet"}, "frozen_split: null"),
        ({"fold": {"count": 5, "number": 6}}, "from 1 to count"),
        ({"fold": {"count": 5}}, "number"),
        ({"fold": {"count": 2, "number": 1}, "validation_share": 0.2}, "less than 0.4 for train"),
    ],
)
def test_folds_that_cannot_be_are_refused_with_a_remedy(
    params: Mapping[str, Any], remedy: str
) -> None:
    model = section_model("clean", TASK)
    with pytest.raises(ValueError, match=remedy):
        model.model_validate({"fold": {"count": 5, "number": 1}, **params})
    # A fold makes test_share of no account.
    model.model_validate({"fold": {"count": 5, "number": 1}, "test_share": 0.49})


def test_tables_have_no_param_of_near_duplicates() -> None:
    for task in base.tasks():
        has_param = "near_duplicates" in section_model("clean", task).model_fields
        assert has_param == base.schema(task).split.near_duplicates


def test_a_share_of_feedback_is_tested_beside_a_frozen_split_by_time(tmp_path: Path) -> None:
    split = frozen(tmp_path / "first", flats(100), split_by="time")
    accepted = []
    for number in range(100):
        row = {"id": f"{base.FEEDBACK}{number}", "size": 500.0 + number, "city": "south"}
        accepted.append({**row, "target": 1000.5 + number, "time": None})
    run(tmp_path / "grown", [*flats(100), *accepted], split_by="time", frozen_split=str(split))
    test = read_table(tmp_path / "grown" / "clean", "test")["id"].to_pylist()
    assert test[:10] == [f"r{number:04d}" for number in range(90, 100)]
    assert all(name.startswith(base.FEEDBACK) for name in test[10:])
    assert 3 < len(test[10:]) < 20
    # Feedback has no time: it counts as the oldest, and moves no other row out of train.
    assert "after_test" not in account(tmp_path / "grown")
    assert "embargo" not in account(tmp_path / "grown")
