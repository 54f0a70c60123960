"""A pipeline of one's own: what is measured, decided, written and refused."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from new_checkout import make_checkout
from PIL import Image
from ruamel.yaml import YAML

from components.core.errors import GristmillError
from components.core.params import read_yaml
from components.orchestration.creation import pipeline_folder
from components.orchestration.creation.create_pipeline import create
from components.orchestration.creation.creation_options import target_map
from components.orchestration.creation.pipeline_draft import NewOptions
from components.orchestration.creation.wizard import Wizard
from components.orchestration.creation.yaml_scalars import scalar
from components.orchestration.pipeline_params import load
from tests.structure.import_graph import ROOT

TEXT, PICTURES = "text_classification", "image_classification"
WORDS = ["the", "room", "was", "clean", "and", "quiet", "with", "a", "view", "of", "harbor"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of the files that new reads."""
    return make_checkout(tmp_path)


def table(
    path: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    encoding: str = "utf-8",
) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows([header, *rows] if header else rows)
    return path


def sentence(number: int) -> str:
    """A text that no other number has."""
    words = random.Random(number).choices(WORDS, k=len(WORDS))
    return " ".join([*words, f"guest{number}"])


def reviews(number: int = 60, labels: Sequence[Any] = (1, 2, 3)) -> list[list[Any]]:
    """Rows of text and label."""
    return [[sentence(row), labels[row % len(labels)]] for row in range(number)]


def picture(size: tuple[int, int] = (28, 28), mode: str = "RGB", shade: int = 0) -> bytes:
    """A gray picture, not of one shade."""
    image = Image.new("L", size, shade)
    image.putpixel((3, shade % size[1]), 255)
    stream = io.BytesIO()
    image.convert(mode).save(stream, "PNG")
    return stream.getvalue()


def folders(root: Path, sizes: Sequence[tuple[int, int]] = ((28, 28),), mode: str = "RGB") -> Path:
    """Pictures of two classes, twelve each."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(12):
            shade = number * 9 + (name == "dog") * 120
            content = picture(sizes[number % len(sizes)], mode, shade)
            (root / name / f"{number}.png").write_bytes(content)
    return root


def made(root: Path, name: str) -> tuple[dict[str, Any], str]:
    """The tree and the text of a pipeline's params.yaml."""
    path = root / "pipelines" / name / "params.yaml"
    return read_yaml(path), path.read_text(encoding="utf-8")


def test_writes_params_of_its_own_and_an_equal_dvc_yaml(root: Path, tmp_path: Path) -> None:
    rows = [[*row, f"user{number}"] for number, row in enumerate(reviews())]
    data = table(tmp_path / "elsewhere" / "my reviews.csv", ["review", "stars", "user"], rows)
    lines = create(root, "mine", TEXT, data)
    tree, _ = made(root, "mine")
    assert tree["pipeline"] == {
        "root": "../..",
        "params": "pipelines/mine/params.yaml",
        "data": "data/mine",
    }
    assert tree["task"] == TEXT
    assert tree["ingest"]["source"]["path"] == data.as_posix()
    assert tree["ingest"]["source"]["format"] == "csv"
    assert tree["ingest"]["columns"] == {"text": "review", "label": "stars"}
    folder = root / "pipelines" / "mine"
    assert (folder / "dvc.yaml").read_bytes() == (root / "dvc.yaml").read_bytes()
    load(folder / "params.yaml", shown="pipelines/mine/params.yaml")
    preview = "\n".join(lines)
    parts = ("review", "text", "stars", "label", "classes: 3 in 60 rows", "gristmill run mine")
    for part in parts:
        assert part in preview
    assert sorted(path.name for path in (root / "pipelines").iterdir()) == ["digits", "mine"]


def test_the_written_params_are_parsed_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    original = YAML.load

    def recorded(self: YAML, text: Any) -> Any:
        parsed.append(text)
        return original(self, text)

    monkeypatch.setattr(YAML, "load", recorded)
    create(root, "once", TEXT, table(tmp_path / "a.csv", ["text", "label"], reviews()))
    assert parsed.count((root / "pipelines/once/params.yaml").read_text(encoding="utf-8")) == 1


def test_the_params_hold_every_key_and_no_comment_of_another_pipeline(
    root: Path,
    tmp_path: Path,
) -> None:
    create(root, "mine", TEXT, table(tmp_path / "a.csv", ["text", "label"], reviews()))
    tree, text = made(root, "mine")
    shipped = read_yaml(ROOT / "params.yaml")
    for section in ("clean", "tokenize", "train", "tune", "serve", "monitor"):
        assert set(shipped[section]) <= set(tree[section])
    theirs = set()
    for name in ("params.yaml", "pipelines/digits/params.yaml"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        theirs |= {line.partition("#")[2].strip() for line in lines if "#" in line}
    own = {line.partition("# ")[2].strip() for line in text.splitlines() if "# " in line}
    assert own
    assert own & theirs == set()


def test_two_calls_write_the_same(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    for name in ("one", "two"):
        create(root, name, TEXT, data)
    (_, one), (_, two) = made(root, "one"), made(root, "two")
    for word in ("pipelines/{}", "data/{}", "Pipeline {}"):
        one = one.replace(word.format("one"), word.format("two"))
    assert one == two


def test_pictures_are_not_shrunk_to_those_of_another_pipeline(root: Path) -> None:
    lines = create(root, "pets", PICTURES, folders(root / "pets"))
    tree, text = made(root, "pets")
    assert (tree["clean"]["size"], tree["clean"]["channels"]) == (28, 1)
    assert "size: 28  # all pictures are 28 x 28" in text
    assert tree["ingest"]["source"]["path"] == "pets"
    assert tree["ingest"]["columns"] == {}
    preview = "\n".join(lines)
    assert "all 28 x 28" in preview
    assert "cat (12), dog (12)" in preview


def test_color_is_judged_by_pixels_and_losses_are_named(root: Path) -> None:
    data = folders(root / "pets", sizes=[(40, 30), (200, 100)])
    (data / "cat" / "0.png").write_bytes(_red())
    lines = create(root, "pets", PICTURES, data, options=NewOptions(settings=["clean.size=16"]))
    tree, text = made(root, "pets")
    assert tree["clean"]["channels"] == 3
    assert "size: 16  # set on the command line" in text
    notes = [line for line in lines if line.startswith("note: ")]
    assert any("24 of 24 pictures are shrunk to 16 x 16: clean.size" in note for note in notes)


def _red() -> bytes:
    image = Image.new("RGB", (40, 30), (200, 20, 20))
    image.putpixel((1, 1), (255, 255, 255))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_long_texts_that_would_be_cut_are_counted(root: Path, tmp_path: Path) -> None:
    rows = reviews(60, (0, 1))
    for row in rows[:6]:
        row[0] += " and more" * 300
    data = table(tmp_path / "a.csv", ["text", "label"], rows)
    options = NewOptions(settings=["clean.max_characters=1000"])
    lines = create(root, "a", TEXT, data, options=options)
    assert "note: 6 of 60 texts are cut at clean.max_characters (1,000)" in lines


def test_chinese_names_inside_the_repository_and_an_old_encoding(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        [row, f"这家酒店的房间很大，服务也好，第{row}次来", "好" if row % 2 else "差"]
        for row in range(40)
    ]
    table(root / "我的 数据" / "评论.csv", ["编号", "评论", "标签"], rows, "gb18030")
    monkeypatch.chdir(root / "我的 数据")
    lines = create(root, "hotel-1", TEXT, Path("评论.csv"))
    tree, _ = made(root, "hotel-1")
    source = tree["ingest"]["source"]
    assert source["path"] == "我的 数据/评论.csv"
    assert source["encoding"] == "gb18030"
    assert tree["ingest"]["columns"] == {"text": "评论", "label": "标签"}
    assert "hotel-1: csv, gb18030" in lines[0]
    assert any("scripts: han 100%" in line for line in lines)


def test_options_beat_guesses(root: Path, tmp_path: Path) -> None:
    rows = [[f"the title {row}", f"some text {row}", row % 2, row % 3] for row in range(60)]
    data = table(tmp_path / "a.csv", ["heading", "body", "sentiment", "category"], rows)
    with pytest.raises(
        GristmillError, match=r"the label could be 'sentiment' or 'category'\n.*--label"
    ):
        create(root, "a", TEXT, data)
    with pytest.raises(GristmillError, match=r"the text could be 'heading' or 'body'\n.*--text"):
        create(root, "a", TEXT, data, target="category")
    assert not (root / "pipelines" / "a").exists()
    create(root, "a", TEXT, data, text="heading", target="category")
    assert made(root, "a")[0]["ingest"]["columns"] == {"text": "heading", "label": "category"}
    with pytest.raises(GristmillError, match="did you mean 'category'"):
        create(root, "b", TEXT, data, target="categories")


def test_exports_of_tickets_are_understood_or_their_guesses_named(
    root: Path, tmp_path: Path
) -> None:
    """Dates repeat as classes do, and the longest text may be the answer to the one that is meant."""
    data = tmp_path / "tickets.csv"
    lines = ["opened;message;agent answer;queue;urgency"]
    for row in range(120):
        answer = f"We looked at it: {sentence(row)}, and {sentence(row + 7)}"
        queue = ("billing", "login", "delivery", "other")[row % 4]
        urgency = ("high", "low", "normal")[row % 3]
        date = f"2026-01-{row % 28 + 1:02d}"
        lines.append(f"{date};{sentence(row)};{answer};{queue};{urgency}")
    data.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(GristmillError, match="the label could be 'urgency' or 'queue'"):
        create(root, "a", TEXT, data)
    shown = create(root, "a", TEXT, data, target="queue")
    assert shown[0] == "a: csv separated by ';', utf-8"
    assert made(root, "a")[0]["ingest"]["columns"]["text"] == "agent answer"
    note = "'agent answer' has the longest texts and is taken for the text; --text COLUMN names "
    assert any(f"{note}another: 'message'" in line for line in shown)
    settings = ["tune.trials=0"]
    options = NewOptions(settings=settings)
    shown = create(root, "b", TEXT, data, text="message", target="queue", options=options)
    assert not any(line.startswith("skipped: tune.trials") for line in shown)
    assert not any("longest texts" in line for line in shown)


def test_of_a_label_and_its_number_the_words_are_taken(root: Path, tmp_path: Path) -> None:
    names = ("sport", "money", "science")
    rows = [[sentence(row), row % 3, names[row % 3], "en"] for row in range(60)]
    data = table(tmp_path / "a.csv", ["body", "class_no", "class_name", "language"], rows)
    lines = create(root, "a", TEXT, data)
    assert made(root, "a")[0]["ingest"]["columns"]["label"] == "class_name"
    assert any("class_no" in line and "tells the label in 100%" in line for line in lines)
    assert any("language" in line and "the same in all rows" in line for line in lines)


def test_set_overrides_and_is_checked(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    settings = ["train.epochs=3", "tune.space.batch_size={choice: [32, 64]}", "seed=11"]
    create(root, "a", TEXT, data, options=NewOptions(settings=settings))
    tree, _ = made(root, "a")
    assert tree["train"]["epochs"] == 3
    assert tree["tune"]["space"]["batch_size"] == {"choice": [32, 64]}
    assert tree["seed"] == 11
    for wrong, says in (
        ("train.epoch=3", "not a known key"),
        ("trian.epochs=3", "did you mean 'train'"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs", "key=value"),
        ("task=x", "does not begin with a section"),
        ("pipeline.data=x", "does not begin with a section"),
        ("train.epochs.x=3", "train.epochs"),
        ("clean.size=[1", "is not YAML"),
    ):
        with pytest.raises(GristmillError, match=says):
            create(root, "b", TEXT, data, options=NewOptions(settings=[wrong]))
        assert not (root / "pipelines" / "b").exists()


@pytest.mark.parametrize(
    ("architecture", "paths"),
    [
        ("counted", ["architecture", "learning_rate", "nets.counted.n", "nets.textcnn.dropout"]),
        ("textcnn", ["learning_rate", "nets.textcnn.dropout"]),
        ("transformer", ["learning_rate"]),
    ],
)
def test_the_search_space_fits_an_architecture_that_is_set(
    root: Path, tmp_path: Path, architecture: str, paths: list[str]
) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    options = NewOptions(settings=[f"train.architecture={architecture}"])
    create(root, "a", TEXT, data, options=options)
    assert sorted(made(root, "a")[0]["tune"]["space"]) == paths


def test_reasons_speak_of_the_architecture_that_is_set(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    lines = create(root, "a", TEXT, data)
    assert any("compress.prune" in line and "counted" in line for line in lines)
    assert made(root, "a")[0]["compress"]["prune"] is None
    options = NewOptions(settings=["train.architecture=textcnn"])
    lines = create(root, "b", TEXT, data, options=options)
    tree, text = made(root, "b")
    comments = [line.partition("#")[2] for line in text.splitlines()]
    assert not any("counted" in comment for comment in comments)
    assert not any("counted" in line for line in lines)
    assert tree["compress"]["prune"]["share"] == 0.5


def test_labels_are_mapped_and_alike_ones_are_shown(root: Path, tmp_path: Path) -> None:
    rows = reviews(90, labels=("Positive", "positive", "negative", "n/a"))
    data = table(tmp_path / "a.csv", ["text", "label"], rows)
    lines = create(root, "a", TEXT, data)
    assert any("Positive | positive" in line for line in lines)
    assert any("ingest.label_case=fold" in line for line in lines)
    lines = create(root, "b", TEXT, data, options=NewOptions(renames="Positive=positive,n/a="))
    tree, _ = made(root, "b")
    assert tree["ingest"]["labels"] == {"Positive": "positive", "n/a": None}
    assert any("classes: 2 in 90 rows: positive (46), negative (22)" in line for line in lines)
    assert any("rows without a label: 22" in line for line in lines)


def test_set_of_ingest_counts_for_what_is_measured(root: Path, tmp_path: Path) -> None:
    rows = reviews(80, labels=("Positive", "positive", "NEGATIVE", "negative"))
    data = table(tmp_path / "a.csv", ["body", "kind"], rows)
    settings = ["ingest.label_case=fold", "ingest.columns.label=kind"]
    lines = create(root, "a", TEXT, data, options=NewOptions(settings=settings))
    tree, text = made(root, "a")
    assert any("classes: 2 in 80 rows: positive (40), negative (40)" in line for line in lines)
    assert "label_case: fold  # set on the command line" in text
    assert tree["ingest"]["columns"] == {"text": "body", "label": "kind"}


def test_a_number_on_a_scale_is_no_class(root: Path, tmp_path: Path) -> None:
    rows = [[sentence(row), row * 1.5] for row in range(60)]
    data = table(tmp_path / "a.csv", ["text", "price"], rows)
    with pytest.raises(GristmillError, match=r"numbers on a scale, from 0 to 88\.5") as error:
        create(root, "a", TEXT, data, target="price")
    assert "predict the number: --task tabular_regression" in error.value.remedy
    assert not (root / "pipelines" / "a").exists()
    stars = table(tmp_path / "b.csv", ["text", "stars"], reviews(60, (1, 2, 3, 4, 5)))
    create(root, "b", TEXT, stars)


def test_counts_are_counts(root: Path, tmp_path: Path) -> None:
    rows = [[f"{sentence(row)} {row}", f"intent{row % 150}"] for row in range(1800)]
    lines = create(root, "a", TEXT, table(tmp_path / "a.csv", ["text", "label"], rows))
    assert any("classes: 150 in 1,800 rows" in line for line in lines)


def test_refused_rows_are_shown_with_their_lines(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], [*reviews(), ["", "1"], ["x", "2", "3"]])
    lines = create(root, "a", TEXT, data)
    assert any("refused by ingest: 1 no_text, 1 wrong_number_of_fields" in line for line in lines)
    assert any("a.csv:62: no_text" in line for line in lines)
    assert any("a.csv:63: wrong_number_of_fields" in line for line in lines)


def test_small_classes_are_decided_and_said(root: Path, tmp_path: Path) -> None:
    rows = [*reviews(), *[[sentence(100 + row), "rare"] for row in range(5)]]
    create(root, "a", TEXT, table(tmp_path / "a.csv", ["text", "label"], rows))
    tree, text = made(root, "a")
    assert tree["clean"]["min_rows_per_class"] == 5
    assert "min_rows_per_class: 5  # 'rare' has 5 usable rows" in text
    rows += [[sentence(200 + row), f"single{row}"] for row in range(4)]
    create(root, "b", TEXT, table(tmp_path / "b.csv", ["text", "label"], rows))
    tree, _ = made(root, "b")
    assert tree["clean"]["small_classes"] == "merge"
    assert tree["clean"]["min_rows_per_class"] == 3
    lonely = [*reviews(), [sentence(100), "alone"]]
    with pytest.raises(GristmillError, match="'alone' has 1 usable row"):
        create(root, "c", TEXT, table(tmp_path / "c.csv", ["text", "label"], lonely))


def test_what_clean_would_refuse_is_not_promised(root: Path, tmp_path: Path) -> None:
    rows = [["the same text", row % 2] for row in range(40)]
    data = table(tmp_path / "a.csv", ["text", "label"], rows)
    with pytest.raises(GristmillError, match="only one class is left"):
        create(root, "a", TEXT, data)


def test_frequent_short_answers_are_no_boilerplate(root: Path, tmp_path: Path) -> None:
    rows = [*reviews(60, ("long", "other")), *[["thank you so much", "thanks"]] * 15]
    rows += [[f"thanks {sentence(row + 100)}", "thanks"] for row in range(20)]
    create(root, "a", TEXT, table(tmp_path / "a.csv", ["text", "label"], rows))
    assert made(root, "a")[0]["clean"]["boilerplate"] == 0


def test_nothing_in_the_data_reaches_the_terminal_as_a_command(root: Path, tmp_path: Path) -> None:
    rows = reviews(40, ("[x]\x07", "y"))
    for row in rows:
        row[0] = f"[red]stop[/red] \x1b[2J\u202e {row[0]}"
    lines = create(root, "a", TEXT, table(tmp_path / "a.csv", ["text", "label"], rows))
    assert any("[red]stop[/red]" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    _, text = made(root, "a")
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize(
    "name",
    [
        "raw",
        "clean",
        "augmented",
        "tokens",
        "models",
        "reports",
        "audit",
        ".state",
        "default",
        "",
        "Ab",
        "a b",
        "../x",
        "a/b",
        "-x",
        "中文",
        "digits",
    ],
)
def test_refuses_names(root: Path, tmp_path: Path, name: str) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    with pytest.raises(GristmillError, match=r"cannot be a pipeline's name|is there already"):
        create(root, name, TEXT, data)
    assert [path.name for path in (root / "pipelines").iterdir()] == ["digits"]


def test_refuses_an_unknown_task_and_missing_or_empty_data(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "head.csv").write_text("text,label\n")
    with pytest.raises(GristmillError, match="did you mean 'text_classification'"):
        create(root, "a", "text_clasification", tmp_path / "empty.csv")
    for name, says in (
        ("none.csv", "no file or folder"),
        ("empty.csv", "is empty"),
        ("head.csv", "holds no rows"),
    ):
        with pytest.raises(GristmillError, match=says):
            create(root, "a", TEXT, tmp_path / name)


def test_leaves_nothing_behind_when_it_fails_at_the_last_step(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            create(root, "a", TEXT, data)
    assert [path.name for path in (root / "pipelines").iterdir()] == ["digits"]
    assert not list((root / ".gristmill").iterdir())
    create(root, "a", TEXT, data)


def test_what_a_killed_command_left_is_no_pipeline_and_is_removed(
    root: Path,
    tmp_path: Path,
) -> None:
    from components.orchestration.output_paths import pipeline_names

    # No process has the first number; ours has the second.
    left = [root / ".gristmill" / f"a.{pid}.new" for pid in (2**22 + 7, os.getpid())]
    for folder in left:
        folder.mkdir(parents=True)
        shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    assert pipeline_names(root) == ["default", "digits"]
    create(root, "b", TEXT, table(tmp_path / "a.csv", ["text", "label"], reviews()))
    assert [folder.exists() for folder in left] == [False, True]


class Answers(Wizard):
    """A person who answers from a list."""

    def __init__(self, *answers: str | bool) -> None:
        self.answers = list(answers)
        self.shown: list[str] = []

    def choose(self, question: str, choices: Sequence[str]) -> str:
        """Return the next answer."""
        self.shown += [question, *choices]
        answer = self.answers.pop(0)
        assert isinstance(answer, str)
        return answer

    def agrees(self, question: str, default: bool) -> bool:
        """Return the next answer."""
        self.shown.append(f"{question} {default}")
        answer = self.answers.pop(0)
        assert isinstance(answer, bool)
        return answer

    def show(self, lines: Sequence[str]) -> None:
        """Keep the lines."""
        self.shown += lines


def test_the_wizard_asks_where_a_guess_is_a_gamble(root: Path, tmp_path: Path) -> None:
    rows = [[sentence(row), row % 2, ("A", "a", "b")[row % 3]] for row in range(60)]
    data = table(tmp_path / "a.csv", ["body", "sentiment", "category"], rows)
    wizard = Answers("category", True, True)
    lines = create(root, "a", TEXT, data, wizard=wizard)
    tree, text = made(root, "a")
    assert wizard.answers == []
    assert tree["ingest"]["columns"] == {"text": "body", "label": "category"}
    assert "label_case: fold  # asked" in text
    assert any("classes: 2 in 60 rows: a (40), b (20)" in line for line in wizard.shown)
    assert lines[0].startswith("wrote pipelines/a/")


def test_the_wizard_writes_nothing_without_a_yes(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    assert create(root, "a", TEXT, data, wizard=Answers(False)) == ["nothing was written"]
    assert not (root / "pipelines" / "a").exists()


def test_a_table_without_a_header_is_seen_and_written_down(root: Path, tmp_path: Path) -> None:
    rows = [[("好评", "差评")[row % 2], f"第{row}次入住，房间干净，热水也好"] for row in range(60)]
    data = table(tmp_path / "a.csv", [], rows)
    lines = create(root, "a", TEXT, data)
    tree, text = made(root, "a")
    assert any("classes: 2 in 60 rows" in line for line in lines)
    assert "note: the first line is taken for a row: --header if it names the columns" in lines
    assert any("its columns are called column_1, column_2" in line for line in lines)
    assert "header: false  # the first line is a row like the others" in text
    wizard = Answers(False, True)
    create(root, "b", TEXT, data, wizard=wizard)
    assert made(root, "b")[0]["ingest"]["source"]["header"] is True
    options = NewOptions(header=False, columns=["label", "text"])
    create(root, "c", TEXT, data, options=options)
    tree, _ = made(root, "c")
    assert tree["ingest"]["source"]["column_names"] == ["label", "text"]
    assert tree["ingest"]["columns"] == {"text": "text", "label": "label"}


def test_names_of_splits_are_no_classes(root: Path) -> None:
    data = root / "cnews"
    data.mkdir()
    for split, number in (("train", 60), ("val", 15), ("test", 15)):
        rows = [
            f"{('体育', '财经', '科技')[row % 3]}\t{split}的第{row}期报道，话题引发讨论"
            for row in range(number)
        ]
        (data / f"cnews.{split}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = create(root, "a", TEXT, data)
    assert any("classes: 3 in 90 rows" in line for line in lines)
    assert any("splits of the source: test 15, train 60, validation 15" in line for line in lines)


def test_pictures_without_a_class_are_counted_as_such(root: Path) -> None:
    data = folders(root / "pets" / "train").parent
    (data / "test").mkdir()
    for number in range(8):
        (data / "test" / f"{number}.png").write_bytes(picture(shade=5 + number * 3))
    lines = create(root, "a", PICTURES, data)
    assert any("classes: 2 in 32 rows: cat (12), dog (12)" in line for line in lines)
    assert any("rows without a label: 8" in line for line in lines)


def test_emoji_decide(root: Path, tmp_path: Path) -> None:
    rows = []
    for row in range(30):
        rows.append([f"上周收到第{row}单的毛巾了👍", "正面"])
        rows.append([f"上周收到第{row}单的毛巾了😭", "负面"])
    lines = create(root, "a", TEXT, table(tmp_path / "a.csv", ["text", "label"], rows))
    assert not any("different labels" in line for line in lines)
    assert any("正面 (30), 负面 (30)" in line for line in lines)


def test_lists_of_one_label_are_labels(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    rows = [{"data": sentence(row), "label": [("good", "bad")[row % 2]]} for row in range(60)]
    data.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    lines = create(root, "a", TEXT, data)
    assert any("good (30), bad (30)" in line for line in lines)


def test_skipped_steps_can_be_had(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    lines = create(root, "a", TEXT, data)
    assert made(root, "a")[0]["tune"]["trials"] == 0
    assert any("skipped: tune.trials" in line and "--set tune.trials=8" in line for line in lines)
    settings = ["tune.trials=8", "compress.prune={}", "compress.distill={}"]
    create(root, "b", TEXT, data, options=NewOptions(settings=settings))
    tree, _ = made(root, "b")
    assert tree["tune"]["trials"] == 8
    assert tree["compress"]["prune"]["share"] > 0
    assert tree["compress"]["distill"]["architecture"]


def test_the_readme_of_a_pipeline_says_how_to_run_it(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    create(root, "mine", TEXT, data)
    text = (root / "pipelines" / "mine" / "README.md").read_text(encoding="utf-8")
    for part in (
        TEXT,
        data.as_posix(),
        "gristmill run mine",
        "dvc exp run pipelines/mine/dvc.yaml",
    ):
        assert part in text


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1e-3",
        "",
        " a",
        "a: b",
        "x #y",
        "\x85",
        "中文",
        "007",
        "~",
        "a\nb",
        "\U0001f600",
        "[x]",
        "null",
        "-",
        "1_000",
        "0x1f",
        "12:30",
    ],
)
def test_scalars_read_as_they_were_in_every_yaml(value: str) -> None:
    import yaml
    from ruamel.yaml import YAML

    text = f"{{k: {scalar(value)}}}\n"
    assert yaml.safe_load(text) == {"k": value}
    assert YAML(typ="safe", pure=True).load(text) == {"k": value}


@pytest.mark.parametrize("value", [1e-05, 3e20, 0.1, 7, True, None, 1.0, -2.5e-7])
def test_numbers_read_as_they_were_in_every_yaml(value: float | bool | None) -> None:
    import yaml
    from ruamel.yaml import YAML

    for read in (yaml.safe_load, YAML(typ="safe", pure=True).load):
        loaded = read(f"k: {scalar(value)}\n")["k"]
        assert loaded == value
        assert type(loaded) is type(value)


def test_the_map_of_labels() -> None:
    assert target_map("Positive=positive,n/a=") == {"Positive": "positive", "n/a": None}
    assert target_map(r"a\,b=c, d\=e = f=g") == {"a,b": "c", "d=e": "f=g"}
    for wrong in ("a", "=b", "a=b,a=c"):
        with pytest.raises(GristmillError, match="--labels"):
            target_map(wrong)


def test_languages_are_named_only_where_they_are_clear(root: Path, tmp_path: Path) -> None:
    german = "der gast und die lampe ist nicht in zimmer"
    alike = NewOptions(settings=["clean.near_duplicates=1.0"])
    rows = [[f"{german} {row}", row % 2] for row in range(60)]
    data = table(tmp_path / "a.csv", ["text", "label"], rows)
    lines = create(root, "a", TEXT, data, options=alike)
    assert any("languages, by common words: German 100%" in line for line in lines)
    rows = [[f"zelo lepo mesto, hvala lepa sosed {row}", row % 2] for row in range(60)]
    data = table(tmp_path / "b.csv", ["text", "label"], rows)
    lines = create(root, "b", TEXT, data, options=alike)
    assert not any("languages, by common words" in line for line in lines)


def test_a_wide_table_shows_the_columns_that_matter(root: Path, tmp_path: Path) -> None:
    header = [f"c{number}" for number in range(200)]
    rows = []
    for row, review in enumerate(reviews()[:60]):
        rows.append([*(row * number for number in range(200)), *review])
    assert len(rows) == 60
    data = table(tmp_path / "a.csv", [*header, "text", "label"], rows)
    lines = create(root, "a", TEXT, data)
    assert "  and 172 more columns" in lines
    assert sum(line.split()[1:2] == ["text"] for line in lines) == 1


def test_a_name_has_an_end(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews())
    with pytest.raises(GristmillError, match="more than 60 characters"):
        create(root, "x" * 300, TEXT, data)


def test_a_table_without_its_pictures_says_what_to_give(root: Path, tmp_path: Path) -> None:
    rows = [[f"{number}.png", "ab"[number % 2]] for number in range(20)]
    data = table(tmp_path / "labels.csv", ["file", "label"], rows)
    with pytest.raises(GristmillError, match="no column of this table holds pictures") as caught:
        create(root, "p", PICTURES, data)
    assert "the folder that holds the table and the pictures" in caught.value.remedy


def test_two_rows_of_two_classes_cannot_drop_one(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], [["a good day", "x"], ["a bad day", "y"]])
    with pytest.raises(GristmillError, match="have together 2 usable rows") as caught:
        create(root, "p", TEXT, data)
    assert "--labels" not in caught.value.remedy


def test_the_remedy_for_spans_is_that_of_their_reason(root: Path, tmp_path: Path) -> None:
    rows = [{"text": sentence(n), "label": [[0, 3, "ORG"]]} for n in range(20)]
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(GristmillError, match="several_labels") as caught:
        create(root, "p", TEXT, data)
    assert "spans of a text" in caught.value.remedy


def test_labels_that_join_others_are_shown(root: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv", ["text", "label"], reviews(labels=("x", "y", "x|y")))
    lines = "\n".join(create(root, "p", TEXT, data))
    assert "labels that may be several: x|y (20)" in " ".join(lines.split()).replace(
        "x|y (20) ", "x|y (20)"
    )
    assert '--labels "x|y="' in lines


@pytest.mark.parametrize("is_killed", [False, True])
def test_pipelines_may_lie_on_another_disk(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    # given a folder pipelines/ that is a mount of its own
    data = table(tmp_path / "reviews.csv", ["review", "stars"], reviews())
    rename = Path.rename
    killed = False

    def across(source: Path, target: Path) -> Path:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source), None, str(target))
        if killed:
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", across)
    # and a command before that was killed when it had copied
    if is_killed:
        killed = True
        with monkeypatch.context() as patch:
            patch.setattr(pipeline_folder, "remove_tree", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                create(root, "mine", TEXT, data)
        killed = False
        (left,) = (root / "pipelines").glob(".mine.*.part")
        left.rename(left.with_name(".mine.999999999.part"))
        (part,) = (root / ".gristmill").glob("*.new")
        part.rename(part.with_name("mine.999999999.new"))
    # when a pipeline is made
    create(root, "mine", TEXT, data)
    # then it is whole, and nothing lies beside it
    folder = root / "pipelines" / "mine"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "dvc.yaml",
        "params.yaml",
    ]
    assert list((root / "pipelines").glob(".*")) == []
    load(folder / "params.yaml", shown="pipelines/mine/params.yaml")
