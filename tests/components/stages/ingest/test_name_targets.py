"""Labels in file names, and folders that say what kind of files they hold."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from components.core.errors import InputError
from components.stages.ingest.name_targets import targets_in_names
from tests.components.stages.ingest.conftest import Ingest

FOLDER = {"kind": "files", "path": "d"}


def picture(path: Path, shade: int) -> None:
    """Write a small picture of one shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    Image.new("L", (8, 8), shade).save(stream, "PNG")
    path.write_bytes(stream.getvalue())


def texts(folder: Path, names: list[str]) -> None:
    """Write a text of two lines into each file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"a text\nof {name}\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"], {"cat", "dog"}),
        (["wild rose (1).png", "wild rose (2).png", "a_1.png", "a_2.png"], {"wild rose", "a"}),
        (["好评1.txt", "好评2.txt", "差评1.txt", "差评2.txt"], {"好评", "差评"}),
        (["IMG_1.jpg", "IMG_2.jpg", "DSC1.jpg", "DSC2.jpg"], set()),
        (["train1.jpg", "train2.jpg", "test1.jpg", "test2.jpg"], set()),
        (["1.jpg", "2.jpg", "3.jpg", "4.jpg"], set()),
        (["a1.txt", "b1.txt", "c1.txt", "d1.txt"], set()),
        (["a1.txt", "a2.txt", "b.txt", "c.txt"], set()),
    ],
)
def test_names_are_labels_where_words_come_again(names: list[str], labels: set[str]) -> None:
    assert set(targets_in_names([Path(name) for name in names]).values()) == labels


def test_pictures_of_dogs_and_cats(tmp_path: Path, ingest: Ingest) -> None:
    for number in range(6):
        picture(tmp_path / f"d/train/{('cat', 'dog')[number % 2]}.{number}.png", number)
        picture(tmp_path / f"d/test1/{number}.png", 100 + number)
    result = ingest("pictures", source=FOLDER)
    assert result.classes == {"cat": 3, "dog": 3}
    unlabelled = [row["origin"] for row in result.rows if row["label"] is None]
    assert unlabelled == [f"test1/{number}.png" for number in range(6)]
    assert "cat.0.png is 'cat'" in result.notes


def test_a_text_file_a_row_where_names_are_numbered(tmp_path: Path, ingest: Ingest) -> None:
    texts(tmp_path / "d", ["pos_1.txt", "pos_2.txt", "neg_1.txt", "neg_2.txt"])
    result = ingest(source=FOLDER)
    assert result.classes == {"pos": 2, "neg": 2}
    assert result.rows[0]["origin"] == "neg_1.txt"
    assert result.rows[0]["text"] == "a text\nof neg_1.txt\n"


def test_masks_beside_pictures_are_left_out(tmp_path: Path, ingest: Ingest) -> None:
    for number in range(6):
        for kind in ("images", "masks"):
            picture(tmp_path / "d" / ("a", "b")[number % 2] / kind / f"{number}.png", number)
    result = ingest("pictures", source=FOLDER)
    assert result.classes == {"a": 3, "b": 3}
    assert "not read, because they are masks beside the pictures: a/masks, b/masks" in result.notes


def test_names_that_say_nothing_are_refused(tmp_path: Path, ingest: Ingest) -> None:
    for number in range(6):
        picture(tmp_path / f"d/IMG_{number}.png", number)
    with pytest.raises(InputError, match="in_no_class_folder"):
        ingest("pictures", source=FOLDER)


def test_large_numbered_texts_hold_a_row_a_line(tmp_path: Path, ingest: Ingest) -> None:
    texts(tmp_path / "d", [])
    for name in ("pos_1", "pos_2", "neg_1", "neg_2"):
        lines = "".join(f"{name} text {line} {'x' * 300}\n" for line in range(300))
        (tmp_path / f"d/{name}.txt").write_text(lines, encoding="utf-8")
    assert ingest(source=FOLDER).classes == {"pos": 600, "neg": 600}


def test_texts_named_by_numbers_are_no_classes(tmp_path: Path, ingest: Ingest) -> None:
    texts(tmp_path / "d", [f"{number}.txt" for number in range(12)])
    with pytest.raises(InputError, match="nothing says their labels"):
        ingest(source=FOLDER)
