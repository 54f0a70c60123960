"""Presets: what they write into params.yaml, and what `good` puts back."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from new_checkout import make_checkout

from components.core.errors import EnvironmentFault, ParamsError
from components.core.params import parse_yaml, read_yaml
from components.orchestration.creation.create_pipeline import create
from components.orchestration.creation.params_writer import flow
from components.orchestration.creation.pipeline_draft import NewOptions
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import SECTIONS, load
from components.orchestration.presets import preset_names, use_preset, with_preset
from components.orchestration.yaml_edits import at_path, replace_section, set_values
from components.tasks import base
from tests.structure.import_graph import ROOT

PIPELINES = sorted(ROOT.glob("pipelines/*/params.yaml"))
SHIPPED = [ROOT / "params.yaml", *PIPELINES]
each_shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The params of the default pipeline, as a person edited them."""
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("  trials: 8  ", "  trials: 9  # mine\n  # and this  ")
    path.write_text(text.replace("seed: 7", "seed: 11  # 我的"), encoding="utf-8")
    return path


def test_every_task_has_the_three_presets() -> None:
    for task in base.tasks():
        assert preset_names(task) == ["good", "fast", "best"]


@each_shipped
@pytest.mark.parametrize("name", ["fast", "best"])
def test_a_preset_gives_valid_params_and_good_gives_the_earlier_ones(
    path: Path, name: str, tmp_path: Path
) -> None:
    # given the params of a shipped pipeline
    text = path.read_text(encoding="utf-8")
    before = load(path)
    # when a preset is taken, then its params are valid, and only what it states has changed
    change = with_preset(text, name, path.name)
    file = tmp_path / "params.yaml"
    file.write_text(change.text, encoding="utf-8")
    after = load(file)
    assert after.preset.name == name and after.preset.replaced
    tree = parse_yaml(change.text.encode(), "x")
    for dotted, value in after.preset.replaced.items():
        assert at_path(tree, dotted) == value.now != value.before
        assert sum(f"{dotted}: " in line for line in change.lines) == 1
    # when good is taken, then the params are those of before
    file.write_text(with_preset(change.text, "good", path.name).text, encoding="utf-8")
    again = load(file)
    assert again.digest(SECTIONS) == before.digest(SECTIONS) != after.digest(SECTIONS)
    assert again.preset == before.preset


@each_shipped
def test_best_has_an_ensemble_that_teaches_the_network_of_train(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(with_preset(path.read_text(encoding="utf-8"), "best", path.name).text)
    params = load(file)
    train: Any = params.sections["train"]
    compress: Any = params.sections["compress"]
    assert compress.recipes["ensemble"] == ["ensemble"]
    first, second = compress.recipes["ensemble_student"]
    student = second["distill"]
    network = getattr(train.nets, train.architecture).model_dump(mode="json")
    assert (first, student["architecture"]) == ("ensemble", train.architecture)
    assert student["nets"] == {train.architecture: network}
    # A pipeline without a preset pays for no ensemble.
    shipped: Any = load(path).sections["compress"]
    assert "ensemble" not in str(shipped.recipes)


def test_the_other_values_and_all_comments_of_a_person_stay(file: Path) -> None:
    before = file.read_text(encoding="utf-8")
    lines = use_preset(file.parent, file, "fast")
    text = file.read_text(encoding="utf-8")
    changed = {"  trials: 0  # mine", "  architecture: counted       # Architecture"}
    added = set(text.splitlines()) - set(before.splitlines())
    for line in changed:
        assert any(other.startswith(line) for other in added)
    assert "seed: 11  # 我的" in text and "  # and this  " in text
    assert "preset fast: tune.trials: 9 -> 0  (no search)" in lines
    # the same preset again replaces nothing more
    use_preset(file.parent, file, "fast")
    assert file.read_text(encoding="utf-8") == text
    # another one takes the place of the first
    use_preset(file.parent, file, "best")
    tree = read_yaml(file)
    assert (tree["train"]["architecture"], tree["tune"]["trials"]) == ("textcnn", 20)
    assert use_preset(file.parent, file, "good")[0] == "tune.trials: 20 -> 9"
    assert file.read_text(encoding="utf-8") == before


def test_a_value_that_was_edited_after_the_preset_stays(file: Path) -> None:
    use_preset(file.parent, file, "fast")
    edited = file.read_text(encoding="utf-8").replace("  trials: 0  ", "  trials: 2  ")
    file.write_text(edited, encoding="utf-8")
    assert "tune.trials stays 2: it was edited" in use_preset(file.parent, file, "good")
    tree = read_yaml(file)
    assert (tree["tune"]["trials"], tree["train"]["architecture"]) == (2, "textcnn")
    assert "preset" not in tree


def test_an_unknown_preset_names_the_valid_ones(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ParamsError, match=r"'fats' is not one of good, fast, best .*'fast'"):
        use_preset(file.parent, file, "fats")
    assert file.read_bytes() == before
    root = make_checkout(tmp_path / "new")
    with pytest.raises(ParamsError, match="not one of good, fast, best"):
        create(root, "mine", None, reviews(tmp_path), options=NewOptions(preset="quick"))
    assert not (root / "pipelines" / "mine").exists()


def test_params_are_not_changed_during_a_run(file: Path) -> None:
    before = file.read_bytes()
    with (
        only_one(file.parent / "data" / ".state" / "run.lock", "a run of this project"),
        pytest.raises(EnvironmentFault, match="under way"),
    ):
        use_preset(file.parent, file, "fast")
    assert file.read_bytes() == before


def test_params_that_would_be_wrong_are_not_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()
    facet = type(base.defaults("text_classification"))
    wrong = {"fast": lambda _: [base.Setting("train.epochs", -1, "wrong")]}
    monkeypatch.setattr(facet, "presets", wrong)
    with pytest.raises(ParamsError, match=r"train\.epochs: -1"):
        use_preset(file.parent, file, "fast")
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["params.yaml", "data"]


def test_a_task_may_declare_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(base.defaults("text_classification")), "presets")
    assert preset_names("text_classification") == ["good"]
    with pytest.raises(ParamsError, match="'best' is not one of good"):
        use_preset(file.parent, file, "best")


def reviews(folder: Path) -> Path:
    path = folder / "reviews.csv"
    shutil.copyfile(ROOT / "docs/examples/reviews.csv", path)
    with path.open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 360
    return path


def test_new_writes_a_preset_but_not_over_what_a_person_sets(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "new")
    data = reviews(tmp_path)
    create(root, "plain", None, data, options=NewOptions(settings=["train.epochs=9"]))
    options = NewOptions(settings=["train.epochs=9"], preset="fast")
    lines = create(root, "quick", None, data, options=options)
    quick = load(root / "pipelines/quick/params.yaml")
    plain = load(root / "pipelines/plain/params.yaml")
    assert quick.sections["train"].epochs == 9  # type: ignore[attr-defined]
    assert "train.epochs" not in quick.preset.replaced
    assert quick.sections["train"].classical.models == ["nb_svm"]  # type: ignore[attr-defined]
    assert any(line.startswith("preset fast: train.classical.models") for line in lines)
    use_preset(root, root / "pipelines/quick/params.yaml", "good")
    again = load(root / "pipelines/quick/params.yaml")
    assert again.digest(SECTIONS) == plain.digest(SECTIONS) != quick.digest(SECTIONS)
    create(root, "good", None, data, options=NewOptions(preset="good"))
    assert "preset" not in read_yaml(root / "pipelines/good/params.yaml")


@pytest.mark.parametrize(
    ("text", "path", "value", "expected"),
    [
        ("a: 1 # one\nb: 2\n", "a", "[1, 2]", "a: [1, 2] # one\nb: 2\n"),
        ("a:\n  b: 'x' # x\n", "a.b", "null", "a:\n  b: null # x\n"),
        ("a: {b: 1, c: 2}\n", "a.c", "{d: 3}", "a: {b: 1, c: {d: 3}}\n"),
        ("a:\n  b:\n    c: 1\n    d: 2 # two\ne: 3\n", "a.b", "{}", "a:\n  b: {} # two\ne: 3\n"),
        ("a:\n  - 1\n  - 2\nb: 3", "a", "[]", "a: []\nb: 3"),
        ("a:\n  b: 1\n", "a.c", "2", "a:\n  c: 2\n  b: 1\n"),
        ("a: {b: 1}\n", "a.c.d", "2", "a: {c: {d: 2}, b: 1}\n"),
        ("a: {}\n", "a.b", "2", "a: {b: 2}\n"),
        ("a: 1\n", "b.c", "2", "b: {c: 2}\na: 1\n"),
        ("名: {键: 值}  # 注\n", "名.键", "2", "名: {键: 2}  # 注\n"),
    ],
)
def test_an_edit_changes_one_value(text: str, path: str, value: str, expected: str) -> None:
    assert set_values(text, {path: value}) == expected


def test_several_edits_are_those_of_each() -> None:
    text = "a:\n  b: 1\n  c: 2 # two\nd: 3\n"
    values = {"d": "30", "a.b": "[1, 2]", "a.c": "null", "a.e": "4", "f.g": "5", "f.h": "6"}
    expected = "f: {h: 6, g: 5}\na:\n  e: 4\n  b: [1, 2]\n  c: null # two\nd: 30\n"
    assert set_values(text, values) == expected


def test_a_section_is_replaced_wherever_a_person_moved_it() -> None:
    section = "preset:\n  # why\n  name: fast\n"
    assert replace_section("a: 1\n", "preset", section) == f"a: 1\n\n{section}"
    assert replace_section(f"a: 1\n\n{section}", "preset", "") == "a: 1\n"
    assert replace_section(f"a: 1\n\n{section}b: 2\n", "preset", "") == "a: 1\nb: 2\n"
    assert replace_section(f"{section}b: 2\n", "preset", section) == f"b: 2\n\n{section}"
    assert flow({"a": [None, True]}) == "{a: [null, true]}"
