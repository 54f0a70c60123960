"""Data that is odd and good: it goes through ingest and clean, and what cannot be used is set aside with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.commands.project import Done, Project, reviews

FOLDER = "in/目录 with space"
LARGE = "很 " * 350_000  # 1.4 MB
# As a stage of `gristmill run`, which writes to MLflow at its end.
DEFERRED = {"GRISTMILL_RUN": "test"}
BAD = [
    ("没有标签的一行", ""),
    ("只有空白的标签", "   "),
    ("标签是空值", "NaN"),
    ("nan", "好评"),
    ("", "差评"),
    (LARGE, "好评"),
]


def through_clean(command: Callable[..., Done], params: str) -> None:
    for stage in ("ingest", "clean"):
        done = command("stage", stage, params)
        assert done.code == 0, done.out + done.error


@pytest.fixture(scope="module")
def with_ray(project: Project) -> Iterator[Project]:
    """The project with a Ray that stays."""
    up = project.gristmill("up")
    assert up.code == 0, up.error
    yield project
    down = project.gristmill("down")
    assert "Ray is stopped" in down.out and not project.processes()


@pytest.fixture(scope="module")
def chinese(with_ray: Project) -> Project:
    """A pipeline `chinese` by `gristmill new`: Chinese columns, labels and path, and rows that cannot be used."""
    rows = [(f"酒店{text}", label) for text, label in reviews(labels=("好评", "差评"))]
    path = with_ray.write(f"{FOLDER}/评论 数据.csv", rows + BAD, ("评论", "标签"))
    done = with_ray.gristmill("new", "chinese", "--task", "text_classification", "--data", path)
    assert done.code == 0, done.error
    assert "classes: 2 in 63 rows" in done.out, "blank labels and NaN are no classes"
    assert f"the data stay at {path}" in done.out
    through_clean(partial(with_ray.gristmill, **DEFERRED), "pipelines/chinese/params.yaml")
    return with_ray


@pytest.fixture(scope="module")
def whole(project: Project) -> Project:
    """A pipeline `whole`: labels as pandas writes integers beside a missing one, and text in GB18030."""
    rows = [(f"酒店{text}", label) for text, label in reviews(labels=("1.0", "0.0"))]
    path = project.write(
        "in/whole.csv", [*rows, ("这一行没有分数", "")], ("评论", "stars"), encoding="gb18030"
    )
    params = project.pipeline("whole", path, columns={"text": "评论", "label": "stars"})
    through_clean(project.call, params)
    return project


def clean_rows(project: Project, name: str) -> list[str]:
    return [row["label"] for row in project.table(f"data/{name}/clean")]


def quarantine(project: Project, folder: str) -> list[tuple[str, str]]:
    return sorted((row["reason"], row["origin"]) for row in project.table(f"{folder}/quarantine"))


def test_chinese_labels_and_columns_and_a_path_with_spaces(chinese: Project) -> None:
    labels = clean_rows(chinese, "chinese")
    assert (labels.count("好评"), labels.count("差评")) == (30, 30)
    assert {row["text"][:2] for row in chinese.table("data/chinese/clean")} == {"酒店"}


def test_a_row_without_label_is_set_aside_by_clean(chinese: Project) -> None:
    assert quarantine(chinese, "data/chinese/clean") == [
        ("no_label", f"评论 数据.csv:{line}") for line in (62, 63, 64)
    ]


def test_nan_and_a_megabyte_are_set_aside_by_ingest(chinese: Project) -> None:
    assert quarantine(chinese, "data/chinese/raw") == [
        ("no_text", "评论 数据.csv:65"),
        ("no_text", "评论 数据.csv:66"),
        ("too_large", "评论 数据.csv:67"),
    ]
    excerpts = [row["excerpt"] for row in chinese.table("data/chinese/raw/quarantine")]
    assert max(map(len, excerpts)) <= 200


def test_the_books_balance(chinese: Project) -> None:
    report = json.loads((chinese.root / "data/chinese/reports/ingest.json").read_text())
    assert report == {"rows": 63, "quarantined": 3, "classes": 2, "files": 1}
    report = json.loads((chinese.root / "data/chinese/reports/clean.json").read_text())
    assert (
        report["rows_in"],
        report["rows_out"],
        report["quarantined"],
        report["deduplicated"],
        report["filtered"],
    ) == (63, 60, 3, 0, 0)


def test_integer_labels_are_names(whole: Project) -> None:
    labels = clean_rows(whole, "whole")
    assert (labels.count("1"), labels.count("0"), len(labels)) == (30, 30, 60)
    assert quarantine(whole, "data/whole/clean") == [("no_label", "whole.csv:62")]


def test_the_encoding_is_found_and_stated(whole: Project) -> None:
    manifest = json.loads((whole.root / "data/whole/raw/manifest.json").read_text())
    assert [(file["name"], file["encoding"]) for file in manifest["files"]] == [
        ("whole.csv", "gb18030")
    ]
    assert {row["text"][:2] for row in whole.table("data/whole/clean")} == {"酒店"}


def test_editing_only_the_ingest_section_of_the_root_is_enough(project: Project) -> None:
    # given the default pipeline, pointed at a file as the README shows it
    project.edit("params.yaml", {"ingest": {"columns": {"text": "review", "label": "verdict"}}})
    text = (project.root / "params.yaml").read_text()
    start, end = text.index("  source:"), text.index("  columns:")
    (project.root / "params.yaml").write_text(
        text[:start] + "  source: {kind: files, path: docs/examples/reviews.csv}\n" + text[end:]
    )
    # when it is brought up to date as far as clean
    done = project.dvc("repro", "clean", **DEFERRED)
    # then its rows are there
    assert done.code == 0, done.out + done.error
    labels = [row["label"] for row in project.table("data/clean")]
    assert set(labels) == {"positive", "negative"} and len(labels) > 300
