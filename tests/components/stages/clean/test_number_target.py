"""clean of a task whose target is a number: no classes, no strata, two measurements of one thing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel, create_model

from components.core.errors import InputError
from components.core.job import Job
from components.core.params import Strict
from components.core.tables import read_manifest, read_table, write_table
from components.fields.base import Field, NoValue, Reject
from components.fields.category import Category
from components.fields.text import Text
from components.stages.clean import stage
from components.stages.clean.frozen_split import freeze
from components.stages.clean.params import CleanParams, NearDuplicates
from components.tasks import base
from components.tasks.base import FixedInputs, Options, Role, SplitRule

Rows = list[dict[str, Any]]


class Number(Category):
    """A finite number."""

    arrow = pa.float64()
    knobs: Mapping[str, str] = {"no_number": "clean.unlabelled"}

    def normalize(self, value: Any) -> Any:
        """Return the number."""
        if value is None or value == "":
            raise NoValue("no_number")
        try:
            number = float(value)
        except ValueError:
            raise Reject("not_a_number", value) from None
        if not math.isfinite(number):
            raise Reject("not_finite", str(value))
        return number

    clean = normalize


class Range(Strict):
    """Mean and spread of the target."""

    mean: float
    spread: float


class NumberClean(Strict):
    """Params of `clean` about numbers."""

    min_rows: int = 20


class NumberTargets:
    """Rules for a number as target."""

    Info: type[BaseModel] = Range
    options: Options = {"clean": NumberClean}
    conflict_reason = "conflicting_numbers"
    merge_reason = "merged_numbers"

    def conflicts(self, options: BaseModel) -> Literal["drop", "majority", "keep"]:
        """Keep measurements that differ."""
        return "keep"

    def merged(self, counts: Mapping[Any, int], options: BaseModel) -> Mapping[Any, Any]:
        """Merge nothing."""
        return {}

    def doubts(self, counts: Mapping[Any, int]) -> Sequence[str]:
        """Doubt a number that most rows have."""
        number, rows = max(counts.items(), key=lambda item: item[1])
        return [f"{rows} rows are {number}"] if rows > sum(counts.values()) / 2 else []

    def check(self, targets: Sequence[Any], options: Any, causes: Sequence[str]) -> None:
        """Refuse few rows."""
        if len(targets) < options.min_rows:
            raise InputError(f"only {len(targets)} rows", where="clean.min_rows", remedy="")

    def check_train(self, train: Collection[Any], targets: Collection[Any]) -> None:
        """Refuse train rows with one number alone."""
        assert len(train) < len(targets)
        if len(set(train)) == 1:
            raise InputError("all train rows are equal", where="ingest.columns.split", remedy="")

    def strata(self, targets: Sequence[Any]) -> Sequence[str]:
        """Return one stratum."""
        return [""] * len(targets)

    def too_few_groups(self, stratum: str, groups: int) -> InputError:
        """Return the error of a few groups."""
        assert not stratum
        return InputError(f"only {groups} groups of rows", where="clean", remedy="")

    def describe(
        self, splits: Mapping[str, Sequence[Any]], merged: Mapping[Any, Any]
    ) -> Mapping[str, Any]:
        """Return the range of train."""
        assert not merged
        train = splits["train"]
        return {"range": {"mean": float(np.mean(train)), "spread": float(np.std(train))}}

    def info(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the range."""
        return manifest["range"]  # type: ignore[no-any-return]

    def count(self, info: Mapping[str, Any]) -> Mapping[str, int]:
        """Return nothing."""
        return {}


@dataclass(frozen=True)
class NumberSchema(FixedInputs):
    """A text and its price."""

    options: ClassVar[Options] = {}
    roles = (Role("text", Text(), "input"), Role("price", Number(), "target"))
    targets = NumberTargets()
    split = SplitRule("stratified")

    def fields(self, options: BaseModel) -> Mapping[str, Field]:
        """Return the fields."""
        return {"text": Text(), "price": Number()}


SECTION = create_model("CleanSection", __base__=(NumberClean, NearDuplicates, CleanParams))


@pytest.fixture(autouse=True)
def number_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stub the only task."""
    monkeypatch.setattr(base, "schema", lambda task: NumberSchema())


def flats(count: int) -> Rows:
    """Rows of different texts and prices, in which no text is like another."""
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 7)) for _ in range(200)]
    rows = []
    for number in range(count):
        text = " ".join(rng.choice(words, 8, replace=False))
        rows.append({"text": text, "price": 100.5 + number})
    return rows


def run(root: Path, rows: Rows, kind: pa.DataType = pa.float64(), **params: Any) -> Job:  # noqa: B008
    """Run clean on raw rows whose target has a type."""
    names = ("id", "origin", "text", "price", "split", "group")
    types = pa.schema([(name, kind if name == "price" else pa.string()) for name in names])
    defaults = {"split": None, "group": None}
    full = []
    for number, row in enumerate(rows):
        line = {"id": f"r{number:04d}", "origin": f"made.csv:{number + 2}"}
        full.append(defaults | line | row)
    write_table(root / "raw", {"rows": pa.Table.from_pylist(full, schema=types)})
    job = Job(
        "clean",
        "stub",
        7,
        root,
        SECTION(**params),
        {},
        {"raw": root / "raw"},
        {
            "clean": root / "clean",
            "audit": root / "audit",
            "report": root / "clean.json",
        },
        root / ".state",
        {},
    )
    stage.run(job)
    return job


def cleaned(root: Path, part: str | None = None) -> Rows:
    """The rows of the clean table, or of a part."""
    return list(read_table(root / "clean", part).to_pylist())


def log(root: Path) -> str:
    """The journal."""
    return "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.jsonl"))


def test_numbers_are_cleaned_and_split_without_strata(tmp_path: Path) -> None:
    rows = flats(100)
    run(tmp_path, rows)
    assert read_table(tmp_path / "clean").schema.field("price").type == pa.float64()
    assert Counter(row["split"] for row in cleaned(tmp_path)) == {
        "train": 80,
        "validation": 10,
        "test": 10,
    }
    assert {row["text"]: row["price"] for row in cleaned(tmp_path)} == {
        row["text"]: row["price"] for row in rows
    }
    manifest = read_manifest(tmp_path / "clean")
    train = [row["price"] for row in cleaned(tmp_path, "train")]
    assert manifest["range"]["mean"] == pytest.approx(np.mean(train))
    assert not {"classes", "merged_classes", "splits"} & set(manifest)
    assert "classes" not in (tmp_path / "clean.json").read_text(encoding="utf-8")


def test_numbers_as_texts_of_the_source_give_the_same_table(tmp_path: Path) -> None:
    rows = flats(60)
    run(tmp_path / "numbers", rows)
    texts = [{**row, "price": str(row["price"])} for row in rows]
    run(tmp_path / "texts", texts, pa.string())
    assert cleaned(tmp_path / "texts") == cleaned(tmp_path / "numbers")


@pytest.mark.parametrize("near_duplicates", [0.8, 1.0])
def test_two_measurements_of_one_thing_stay_in_one_group(
    tmp_path: Path, near_duplicates: float
) -> None:
    rows = flats(60)
    again = [{**row, "price": row["price"] + 0.25} for row in rows[:20]]
    run(tmp_path, rows + again + rows[:5], near_duplicates=near_duplicates)
    by_text: dict[str, Rows] = {}
    for row in cleaned(tmp_path):
        by_text.setdefault(row["text"], []).append(row)
    for row in rows[:20]:
        pair = by_text[row["text"]]
        assert [one["price"] for one in pair] == [row["price"], row["price"] + 0.25]
        assert len({(one["group"], one["split"]) for one in pair}) == 1
    manifest = read_manifest(tmp_path / "clean")
    assert manifest["books"]["deduplicated"] == 5
    assert manifest["near_duplicate_pairs"] == 0


def test_rows_without_a_number_are_quarantined_with_their_values(tmp_path: Path) -> None:
    rows = flats(60)
    rows += [
        {"text": "no price for this one", "price": None},
        {"text": "a price on request", "price": "ask"},
    ]
    run(
        tmp_path,
        [{**row, "price": row["price"] and str(row["price"])} for row in rows],
        pa.string(),
    )
    quarantine = read_table(tmp_path / "clean" / "quarantine").to_pylist()
    assert [(row["price"], row["reason"]) for row in quarantine] == [
        ("", "no_number"),
        ("ask", "not_a_number"),
    ]
    assert "quarantined as no_number (made.csv:62): clean.unlabelled" in log(tmp_path)


def test_rows_without_a_number_are_kept_for_pretraining(tmp_path: Path) -> None:
    rows = [*flats(60), {"text": "no price for this one", "price": None}]
    run(tmp_path, rows, unlabelled="keep")
    kept = read_table(tmp_path / "clean", "unlabelled")
    assert kept.schema.field("price").type == pa.float64()
    assert [(row["text"], row["price"]) for row in kept.to_pylist()] == [
        ("no price for this one", None)
    ]


def test_boilerplate_is_quarantined_with_its_number(tmp_path: Path) -> None:
    rows = flats(60) + [{"text": "the same as ever", "price": 1.5}] * 10
    run(tmp_path, rows)
    quarantine = read_table(tmp_path / "clean" / "quarantine").to_pylist()
    assert {(row["price"], row["reason"]) for row in quarantine} == {("1.5", "boilerplate")}


def test_the_task_doubts_and_refuses(tmp_path: Path) -> None:
    equal = [{**row, "price": 7.0} for row in flats(60)]
    with pytest.raises(InputError, match="all train rows are equal"):
        run(tmp_path / "equal", equal)
    assert "60 rows are 7.0" in log(tmp_path / "equal")
    with pytest.raises(InputError, match="only 12 rows"):
        run(tmp_path / "few", flats(12))
    users = [{**row, "group": f"user{number % 2}"} for number, row in enumerate(flats(60))]
    with pytest.raises(InputError, match="only 2 groups of rows"):
        run(tmp_path / "groups", users)


def test_params_of_the_rules_clean_no_row_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run(tmp_path, flats(60))
    cached = replace(job, cache=tmp_path / "memo" / "code")
    stage.run(cached)
    monkeypatch.setattr("components.stages.clean.unique_rows.clean_piece", None)
    before = cleaned(tmp_path, "train")
    stage.run(replace(cached, params=SECTION(min_rows=30)))
    assert cleaned(tmp_path, "train") == before


def test_a_frozen_split_holds_all_measurements_in_their_order(tmp_path: Path) -> None:
    rows = [{**row, "id": f"a{number}"} for number, row in enumerate(flats(80))]
    rows += [{**row, "id": f"b{row['id']}", "price": row["price"] + 0.5} for row in rows]
    job = run(tmp_path / "first", rows)
    split = freeze(tmp_path / "first" / "clean", "stub", job.params, tmp_path)
    test = cleaned(tmp_path / "first", "test")
    third = [{**row, "id": f"c{row['id']}", "price": row["price"] + 9} for row in rows[:80]]
    run(tmp_path / "grown", [*third, *rows[::-1]], frozen_split=str(split))
    assert cleaned(tmp_path / "grown", "test") == test
    assert len(test) > 10
    held = {row["text"] for row in test} | {
        row["text"] for row in cleaned(tmp_path / "grown", "validation")
    }
    train = cleaned(tmp_path / "grown", "train")
    assert not held & {row["text"] for row in train}
    assert set(Counter(row["text"] for row in train).values()) == {3}
