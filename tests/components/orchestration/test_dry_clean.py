"""What clean would refuse is refused by new, and previews show what the data hold."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from new_checkout import WORDS, make_checkout

from components.core.errors import InputError
from components.orchestration.creation import clean_preview
from components.orchestration.creation.create_pipeline import create
from components.orchestration.creation.pipeline_draft import NewOptions

TEXT = "text_classification"
TEMPLATE = "we thank you for your letter and will answer it within a few days, number"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of the files that new reads."""
    return make_checkout(tmp_path)


def table(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """A CSV file whose first row is its header."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def sentences(count: int) -> list[str]:
    """Texts that are not alike."""
    drawn = random.Random(3)
    return [" ".join(drawn.choices(WORDS, k=12)) for _ in range(count)]


def template_rows() -> list[list[str]]:
    """Two classes of different texts and one of variants of one text."""
    rows = [[text, ("good", "bad")[number % 2]] for number, text in enumerate(sentences(80))]
    return [*rows, *([f"{TEMPLATE} {number}", "template"] for number in range(30))]


def test_a_class_of_near_duplicates_is_refused_with_the_remedy(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", [["text", "label"], *template_rows()])
    with pytest.raises(InputError, match="class 'template' has only 1 independent") as error:
        create(root, "a", TEXT, data)
    assert "--set clean.near_duplicates=1.0" in error.value.remedy
    assert "--labels" in error.value.remedy
    assert not (root / "pipelines" / "a").exists()
    create(root, "a", TEXT, data, options=NewOptions(settings=["clean.near_duplicates=1.0"]))
    create(root, "b", TEXT, data, options=NewOptions(renames="template="))
    assert (root / "pipelines" / "a").exists()


def test_of_a_part_of_the_rows_it_is_a_remark(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clean_preview, "_ROWS", 105)
    data = table(tmp_path / "a.csv", [["text", "label"], *template_rows()])
    lines = create(root, "a", TEXT, data)
    remarks = [line for line in lines if "near-duplicates of each other" in line]
    assert len(remarks) == 1
    assert "of the first 105 rows, the 25 of 'template'" in remarks[0]


def test_near_duplicates_across_canonical_splits(root: Path, tmp_path: Path) -> None:
    rows = [
        [*row, ("train", "test")[number % 3 == 0]] for number, row in enumerate(template_rows())
    ]
    data = table(tmp_path / "a.csv", [["text", "label", "split"], *rows])
    with pytest.raises(InputError, match="no train row is left of: template"):
        create(root, "a", TEXT, data)


def test_a_class_with_two_train_rows_and_test_rows_of_its_own(root: Path, tmp_path: Path) -> None:
    texts = sentences(90)
    rows = [[text, ("good", "bad")[number % 2], "train"] for number, text in enumerate(texts[:60])]
    rows += [
        [text, ("good", "bad")[number % 2], "test"] for number, text in enumerate(texts[60:86])
    ]
    rows += [[text, "rare", "train"] for text in texts[86:88]]
    rows += [[text, "rare", "test"] for text in texts[88:]]
    data = table(tmp_path / "a.csv", [["text", "label", "split"], *rows])
    lines = create(root, "a", TEXT, data)
    assert any("'rare' has 4 usable rows" in line for line in lines)


def test_wide_characters_leave_room_for_the_label(root: Path, tmp_path: Path) -> None:
    texts = [f"{number}这家酒店的房间很干净服务也很周到" * 6 for number in range(40)]
    rows = [[text, ("好评", "差评")[number % 2]] for number, text in enumerate(texts)]
    data = table(tmp_path / "a.csv", [["text", "label"], *rows])
    options = NewOptions(settings=["clean.near_duplicates=1.0"])
    lines = create(root, "a", TEXT, data, options=options)
    shown = lines[lines.index("the first rows") + 3]
    assert shown.rstrip().endswith("好评")


def test_metadata_beside_an_author_is_not_the_label(root: Path, tmp_path: Path) -> None:
    header = ["Is retweet", "Language", "Author", "Source URL", "Content", "Place"]
    rows = []
    for number, text in enumerate(sentences(60)):
        link = f"https://example.org/{number % 3}"
        place = ("Berlin", "Paris")[number % 2] if number % 10 < 4 else ""
        author = ("ann", "bob")[number % 2]
        flag = str(number % 5 == 0)
        rows.append([flag, ("en", "es")[number % 7 == 0], author, link, text, place])
    data = table(tmp_path / "a.csv", [header, *rows])
    lines = create(root, "a", TEXT, data)
    assert any(line.startswith("note: 'Author' is taken for the label") for line in lines)
    # Where nothing else can be the label, metadata can.
    only = table(tmp_path / "b.csv", [["Language", "Content"], *([row[1], row[4]] for row in rows)])
    assert not any("--label" in line for line in create(root, "b", TEXT, only))


def test_two_likely_labels_are_still_asked_for(root: Path, tmp_path: Path) -> None:
    rows = [
        [text, "xy"[number % 2], "pqr"[number % 3]] for number, text in enumerate(sentences(60))
    ]
    data = table(tmp_path / "a.csv", [["words", "tone", "place"], *rows])
    create(root, "a", TEXT, data)
    data = table(tmp_path / "b.csv", [["words", "tone", "quality"], *rows])
    with pytest.raises(Exception, match="could be 'tone' or 'quality'"):
        create(root, "b", TEXT, data)
