"""Source `mixed`: several sources, with targets mapped, in proportions, splits kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError, ParamsError
from components.core.params import validate
from components.stages.ingest.params import IngestParams
from components.stages.ingest.survey import survey
from tests.components.stages.ingest.conftest import Result

Ingest = Callable[..., Result]


@pytest.fixture(autouse=True)
def sources(tmp_path: Path) -> None:
    """Stars with splits of their own in a folder, and a table of moods in another encoding."""
    stars = tmp_path / "mix" / "stars"
    stars.mkdir(parents=True)
    for split, count in (("train", 1000), ("test", 50)):
        rows = [f"{split} stars {number},{1 + number % 5}" for number in range(count)]
        (stars / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    moods = [f"心情 {number}\t{['好', '坏'][number % 2]}" for number in range(400)]
    text = "\n".join(["评论\t情感", *moods]) + "\n"
    (tmp_path / "mix" / "moods.tsv").write_text(text, encoding="gb18030")


def mix(stars: dict[str, Any] | None = None, moods: dict[str, Any] | None = None) -> Any:
    """A mix of the two."""
    return {
        "kind": "mixed",
        "path": "mix",
        "parts": {
            "stars": {
                "source": {"kind": "files", "path": "mix/stars"},
                "targets": {1: "bad", 2: "bad", 3: None, 4: "good", 5: "good"},
                **(stars or {}),
            },
            "moods": {
                "source": {"kind": "files", "path": "mix/moods.tsv"},
                "columns": {"text": "评论", "label": "情感"},
                "targets": {"好": "good", "坏": "bad"},
                **(moods or {}),
            },
        },
    }


def parts(result: Result) -> Counter[tuple[str, str | None]]:
    """Rows by part and split."""
    return Counter((row["origin"].partition("/")[0], row["split"]) for row in result.rows)


def test_targets_are_mapped_and_splits_are_kept(tmp_path: Path, ingest: Ingest) -> None:
    result = ingest(source=mix())
    assert parts(result) == {("stars", "train"): 1000, ("stars", "test"): 50, ("moods", None): 400}
    assert result.classes == {"bad": 420 + 200, "good": 420 + 200}
    assert sum(row["label"] is None for row in result.rows) == 210
    assert "read as gb18030: moods/moods.tsv" in result.notes
    assert {row["origin"].rpartition(":")[0] for row in result.rows} == {
        "moods/moods.tsv",
        "stars/test.csv",
        "stars/train.csv",
    }
    seen = survey(IngestParams.model_validate({"source": mix()}), tmp_path, {})
    assert seen.rows == 1450 and "stars/train.csv" in seen.files


def test_values_are_compared_in_their_plain_form(tmp_path: Path, ingest: Ingest) -> None:
    rows = [f"row {number},{['5.0', '1', 'ＢＡＤ'][number % 3]}" for number in range(30)]
    stars = tmp_path / "mix" / "stars" / "train.csv"
    stars.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    result = ingest(source=mix({"targets": {5: "good", "１": "bad", "BAD": "bad"}}))
    train = [row["label"] for row in result.rows if row["origin"].startswith("stars/train")]
    assert Counter(train) == {"good": 10, "bad": 20}


def test_names_of_all_parts_follow_those_of_a_part(ingest: Ingest) -> None:
    result = ingest(source=mix(), labels={"good": "Positive", "bad": "Negative"})
    assert set(result.classes) == {"Positive", "Negative"}


def test_weights_are_proportions_of_what_there_is(ingest: Ingest) -> None:
    result = ingest(source=mix({"weight": 0.3}, {"weight": 0.6}))
    # All 400 moods, and half as many stars; the test rows all stay.
    assert parts(result) == {("stars", "train"): 200, ("stars", "test"): 50, ("moods", None): 400}
    assert "stars: 200 of 1,000 rows are drawn" in result.notes


def test_a_number_of_rows_is_drawn_by_the_seed(ingest: Ingest) -> None:
    one = ingest(source=mix({"rows": 100}), out="one")
    assert parts(one) == {("stars", "train"): 100, ("stars", "test"): 50, ("moods", None): 400}
    again = ingest(source=mix({"rows": 100}), out="again")
    assert again.rows == one.rows
    more = ingest(source=mix({"rows": 101}, {"rows": 3}), out="more")
    drawn = {row["id"] for row in one.rows if row["origin"].startswith("stars")}
    assert drawn < {row["id"] for row in more.rows}
    other = ingest(source={**mix({"rows": 100}), "seed": 1}, out="other")
    assert drawn != {row["id"] for row in other.rows if row["origin"].startswith("stars")}


def test_too_few_rows_are_refused(ingest: Ingest) -> None:
    with pytest.raises(InputError, match=r"1,000 rows to draw from, fewer than 1,001") as error:
        ingest(source=mix({"rows": 1001}))
    assert error.value.where == "ingest.source.parts.stars"


def test_equal_ids_of_parts_stay_apart(tmp_path: Path, ingest: Ingest) -> None:
    for name in ("a", "b"):
        text = "id,text,label\n" + "".join(f"{row},{name} {row},{row % 2}\n" for row in range(9))
        (tmp_path / "mix" / f"{name}.csv").write_text(text)
    source = {
        "kind": "mixed",
        "path": "mix",
        "parts": {
            name: {"source": {"kind": "files", "path": f"mix/{name}.csv"}, "rows": 4}
            for name in ("a", "b")
        },
    }
    rows = ingest(source=source).rows
    assert len({row["id"] for row in rows}) == 8


def test_a_mistake_in_a_part_is_named(tmp_path: Path, ingest: Ingest) -> None:
    with pytest.raises(InputError, match=r"moods/moods.tsv: has no column 'text'"):
        ingest(source=mix(None, {"columns": {"label": "情感"}}))
    with pytest.raises(InputError, match=r"no file or folder 'mix/none.csv'"):
        ingest(source=mix({"source": {"kind": "files", "path": "mix/none.csv"}}))
    with pytest.raises(ParamsError, match=r"parts.moods.columns.time: has a column of times"):
        ingest(source=mix(None, {"columns": {"text": "评论", "label": "情感", "time": "评论"}}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (mix({"rows": 1, "weight": 1}), "takes one of rows and weight"),
        (mix({"source": {"kind": "files", "path": "other"}}), "must lie in 'mix'"),
        (mix({"source": {"kind": "files", "path": "mix/../other"}}), "must lie in 'mix'"),
        (mix({"source": {"kind": "sklearn", "path": "mix", "dataset": "digits"}}), "is not one of"),
        ({**mix(), "parts": {"a/b": mix()["parts"]["stars"]}}, "letters, digits"),
        ({**mix(), "parts": {"a": mix()["parts"]["stars"]}}, "parts"),
    ],
)
def test_params_that_are_refused(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        validate(IngestParams, {"source": source}, "params.yaml")
