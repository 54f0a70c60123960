"""Names of splits are never classes, and what has no label is a row without a label."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.core.errors import InputError
from components.stages.ingest.split_names import split_of, without_split
from tests.components.stages.ingest.conftest import Ingest


def files(path: str, **more: Any) -> dict[str, Any]:
    """Return a `files` source."""
    return {"kind": "files", "path": path, **more}


def write(root: Path, contents: dict[str, str]) -> None:
    """Write files by their names."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def draw(root: Path, *names: str) -> None:
    """Write small pictures that differ."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("TRAIN", "train"),
        ("cnews.val", "validation"),
        ("TrainSet", "train"),
        ("testset", "test"),
        ("X_test", "test"),
        ("seg_train", "train"),
        ("train-00000-of-00002", "train"),
        ("训练集", "train"),
        ("dev", "validation"),
        ("test1", "test"),
        ("contest", None),
        ("restaurant", None),
        ("train_test", None),
        ("", None),
    ],
)
def test_a_name_says_a_split_as_a_word_of_its_own(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_what_a_name_says_beside_its_split() -> None:
    assert [without_split(name) for name in ("pos.train", "train_set", "cnews.val")] == [
        "pos",
        "",
        "cnews",
    ]


def test_text_files_named_after_splits_are_tables_without_header(
    tmp_path: Path, ingest: Ingest
) -> None:
    labels = ("体育", "财经", "科技")
    for name, count in (("train", 36), ("val", 6), ("test", 6)):
        lines = [f"{labels[row % 3]}\t{name} 第{row}期，报道与评论" for row in range(count)]
        write(tmp_path, {f"news/cnews.{name}.txt": "\n".join(lines) + "\n"})
    result = ingest(source=files("news", column_names=["label", "text"]))
    assert set(result.classes) == set(labels)
    assert result.splits == {"train": 36, "validation": 6, "test": 6}
    assert (
        "without a header (ingest.source.header): cnews.test.txt, cnews.train.txt, "
        "cnews.val.txt; its columns: label, text" in result.notes
    )
    with pytest.raises(
        InputError, match=r"looks like a row, not like a header\n.*ingest.source.column_names"
    ):
        ingest(source=files("news"), out="unnamed")


def test_a_list_of_names_beside_text_tables_is_no_table(tmp_path: Path, ingest: Ingest) -> None:
    rows = "词汇阅读\t3\n人民大学\t4\n词汇\t3\n"
    write(
        tmp_path,
        {
            "thu/train.txt": rows,
            "thu/dev.txt": rows,
            "thu/test.txt": rows,
            "thu/class.txt": "finance\nrealty\n",
        },
    )
    result = ingest(source=files("thu", column_names=["text", "label"]))
    assert result.classes == {"3": 6, "4": 3}
    assert "not read, because its lines are not rows of a table: class.txt" in result.notes


def test_plain_text_files_named_after_splits_are_refused(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path, {"d/train.txt": "a b\nc\n", "d/test.txt": "e\n"})
    with pytest.raises(
        InputError,
        match=r"named after splits, and their lines have no label: test.txt, train.txt\n"
        r".*a tab between them",
    ):
        ingest(source=files("d"))


@pytest.mark.parametrize(
    "form", ["{label}.{split}.txt", "{split}/{label}.txt", "{split}_{label}.txt"]
)
def test_a_text_file_per_class_and_split(tmp_path: Path, ingest: Ingest, form: str) -> None:
    names = list(product(("pos", "neg"), ("train", "test")))
    write(
        tmp_path / "d",
        {form.format(label=label, split=split): f"{label} {split}\n" for label, split in names},
    )
    result = ingest(source=files("d"))
    assert sorted((row["label"], row["split"], row["text"]) for row in result.rows) == sorted(
        (label, split, f"{label} {split}") for label, split in names
    )


def test_test_pictures_without_classes_have_no_label(tmp_path: Path, ingest: Ingest) -> None:
    draw(
        tmp_path / "d",
        *(f"train/{label}/{number}.png" for label, number in product(("cats", "dogs"), range(4))),
        *(f"test/{number}.png" for number in range(3)),
    )
    result = ingest(task="pictures", source=files("d"))
    assert result.classes == {"cats": 4, "dogs": 4}
    # Only train has labels, so that the other splits are made of it; what has none stays in its
    # own.
    assert result.splits == {None: 8, "test": 3}
    assert {row["origin"] for row in result.rows if row["label"] is None} == {
        f"test/{number}.png" for number in range(3)
    }
    assert "3 rows have no label" in result.notes and "the files of test" in result.notes


def test_mails_in_folders_of_split_and_class(tmp_path: Path, ingest: Ingest) -> None:
    for split in ("train", "test"):
        write(
            tmp_path / "imdb",
            {
                f"{split}/{label}/{number}_9.txt": f"{split} {label} {number}"
                for label, number in product(("pos", "neg"), range(2))
            },
        )
    write(
        tmp_path / "imdb",
        {
            "train/unsup/0_0.txt": "nobody said",
            "train/urls_pos.txt": "http://",
            "README": "x",
            "imdb.vocab": "the\n",
        },
    )
    result = ingest(source=files("imdb"))
    assert result.classes == {"pos": 4, "neg": 4}
    assert result.splits == {"train": 5, "test": 4}
    assert [row["origin"] for row in result.rows if row["label"] is None] == ["train/unsup/0_0.txt"]
    assert result.quarantine == [("train/urls_pos.txt", "in_no_class_folder")]


@pytest.mark.parametrize(
    ("form", "classes"),
    [
        ("dataset/{split}/{label}/{number}.png", ("cat", "dog")),
        ("{label}/{split}/{number}.png", ("cat", "dog")),
        ("seg_{split}/seg_{split}/{label}/{number}.png", ("sea", "forest")),
        ("{split}ing_set/{label}/{number}.png", ("中文 类", "b c")),
    ],
)
def test_splits_stand_at_any_level(
    tmp_path: Path, ingest: Ingest, form: str, classes: tuple[str, str]
) -> None:
    names = [
        form.format(split=split, label=label, number=number)
        for split, label, number in product(("train", "test"), classes, range(2))
    ]
    draw(tmp_path / "d", *names)
    result = ingest(task="pictures", source=files("d"))
    assert result.classes == dict.fromkeys(classes, 4)
    assert result.splits == {"train": 4, "test": 4}


def test_a_class_may_be_called_train(tmp_path: Path, ingest: Ingest) -> None:
    draw(
        tmp_path / "d",
        *(f"{label}/{number}.png" for label, number in product(("bus", "car", "train"), range(2))),
    )
    result = ingest(task="pictures", source=files("d"))
    assert result.classes == {"bus": 2, "car": 2, "train": 2} and result.splits == {None: 6}


def test_a_test_table_without_labels(tmp_path: Path, ingest: Ingest) -> None:
    write(
        tmp_path / "d",
        {
            "train.csv": "id,text,label\n1,a,x\n2,b,y\n",
            "test.csv": "id,text\n3,c\n4,d\n",
            "sample_submission.csv": "id,label\n3,x\n4,x\n",
        },
    )
    result = ingest(source=files("d"))
    assert [(row["text"], row["label"], row["split"]) for row in result.rows] == [
        ("c", None, "test"),
        ("d", None, "test"),
        ("a", "x", None),
        ("b", "y", None),
    ]
    assert "2 rows have no label" in result.notes and "sample_submission.csv" in result.notes


def test_validation_is_test_where_test_has_no_labels(tmp_path: Path, ingest: Ingest) -> None:
    write(
        tmp_path / "d",
        {
            "train.tsv": "text\tlabel\na\t0\nb\t1\n",
            "dev.tsv": "text\tlabel\nc\t0\nd\t1\n",
            "test.tsv": "index\ttext\n0\te\n",
        },
    )
    result = ingest(source=files("d"))
    assert [(row["text"], row["split"]) for row in result.rows] == [
        ("c", "test"),
        ("d", "test"),
        ("e", "test"),
        ("a", "train"),
        ("b", "train"),
    ]
    assert "the validation rows are taken for test" in result.notes


def test_a_train_table_without_labels_is_refused(tmp_path: Path, ingest: Ingest) -> None:
    write(tmp_path / "d", {"train.csv": "text,lable\na,x\n", "test.csv": "text\nc\n"})
    with pytest.raises(
        InputError, match=r"train.csv: has no column 'label' \(did you mean 'lable'"
    ):
        ingest(source=files("d"))


def test_what_lies_beside_class_folders_is_no_class(tmp_path: Path, ingest: Ingest) -> None:
    draw(tmp_path / "d", "a/0.png", "中文/1.png")
    write(
        tmp_path / "d",
        {
            "README.txt": "x",
            "LICENSE": "x",
            "a/Thumbs.db": "x",
            "a/.DS_Store": "x",
            "__MACOSX/a/._0.png": "x",
        },
    )
    (tmp_path / "elsewhere").mkdir()
    draw(tmp_path / "elsewhere", "2.png")
    (tmp_path / "d" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "around").symlink_to(tmp_path / "d")
    result = ingest(task="pictures", source=files("d"))
    assert result.classes == {"a": 1, "linked": 1, "中文": 1} and result.quarantine == []
