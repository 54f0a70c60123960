"""The form of characters: width, long runs and simplified Chinese, stable and alike in serving."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from stage_runner import StageRunner, sentences

from components.core import installed_packages
from components.core.errors import EnvironmentFault
from components.core.tables import read_table
from components.fields import text_form
from components.fields.privacy import Privacy
from components.fields.text import Text, Title
from components.fields.text_form import TextForm, form_of
from components.orchestration.export.source_slices import copy_modules
from components.orchestration.pipeline_params import section_model
from components.tasks import base
from components.tasks.text_classification import standalone
from components.tasks.text_classification.schema import TextNormalization

TASK = "text_classification"
ALL = {"width": "keep", "max_repeats": 3, "chinese": "simplified"}
TRADITIONAL = "這家飯店後面的頭髮店太棒了！！！！！"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (TextForm(), "價格:100元,很貴貴貴貴! ok 1"),
        (TextForm(width="keep"), "價格：１００元，很貴貴貴貴！ ok ①"),
        (TextForm(max_repeats=2), "價格:100元,很貴貴! ok 1"),
        (TextForm(chinese="simplified"), "价格:100元,很贵贵贵贵! ok 1"),
        (TextForm(**ALL), "价格：１００元，很贵贵贵！ ok ①"),
    ],
)
def test_each_form(form: TextForm, expected: str) -> None:
    raw = "價格：１００元，很貴貴貴貴！\u3000<b>ok</b> ①"
    for field in (Text(form=form), Title(form=form)):
        assert field.normalize(raw) == expected


def test_digits_are_no_run_and_phrases_decide() -> None:
    assert Text(form=TextForm(max_repeats=2)).normalize("10000元,888888") == "10000元,888888"
    simplified = Text(form=TextForm(chinese="simplified"))
    assert simplified.normalize("計算の設定を変更します") == "計算の設定を変更します"
    assert simplified.normalize("乾隆皇帝的皇后發現頭髮很乾燥") == "乾隆皇帝的皇后发现头发很干燥"


def test_equal_runs_count_as_equal_texts_and_full_width_still_does() -> None:
    field = Text(form=TextForm(**ALL))
    first, second = (field.normalize(text) for text in ("太棒了！！！！", "太棒了！！！！！！"))
    assert first == second
    assert len(set(field.keys([field.normalize(text) for text in ("1元", "１元")]))) == 1


def test_personal_data_of_full_width_are_masked() -> None:
    field = Text(privacy=Privacy("mask"), form=TextForm(**ALL))
    assert field.normalize("請打１３８１２３４５６７８") == "请打<phone>"


@given(
    st.text(
        st.sampled_from("薴後后乾干頭髮发隆のかーー!！aaＡＢ①<&b>/;amplt \u200d\u0301é1１"),
        max_size=40,
    )
)
def test_a_formed_text_does_not_change(raw: str) -> None:
    for form in (TextForm(width="keep"), TextForm(chinese="simplified"), TextForm(**ALL)):
        field = Title(form=form, max_characters=30)
        once = field.normalize(raw)
        assert field.normalize(once) == once


@pytest.mark.parametrize("private", ["ignore", "mask"])
def test_the_service_and_an_export_see_what_training_saw(tmp_path: Path, private: str) -> None:
    params = {**ALL, "private": private}
    added = [{"text": TRADITIONAL + mark, "label": "好评"} for mark in ("", "！", "！！")]
    runner = StageRunner.make(tmp_path, [*sentences(120), *added], clean=params).clean()
    assert runner.manifest()["books"]["deduplicated"] == 2
    texts = [row["text"] for row in runner.rows("clean")]
    trained_text = "这家饭店后面的头发店太棒了！！！"
    assert trained_text in texts
    clean = section_model("clean", TASK).model_validate(params)
    tokenize = section_model("tokenize", TASK).model_validate({})
    table = read_table(runner.root / "clean", "train")
    encoding = base.encoding(TASK)
    encoder = encoding.fit(iter(table.to_batches()), {"classes": ["好评", "差评"]}, tokenize, clean)
    loaded = encoding.load(encoder.files())
    served = loaded.rows({"text": [TRADITIONAL]})["ids"][0]
    assert served.tolist() == loaded.rows({"text": [trained_text]})["ids"][0].tolist()
    assert exported_ids(tmp_path / "export", encoder.files()) == served.tolist()


def exported_ids(folder: Path, files: Mapping[str, bytes]) -> list[int]:
    """Token ids of the traditional text by the code of an exported folder, in another process."""
    package = folder / "preprocessing"
    package.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    modules = copy_modules("components.tasks.text_classification.standalone", package.name)
    for name, code in modules.items():
        (package / name).write_text(code, encoding="utf-8")
    script = (
        "import pathlib, sys; from preprocessing.standalone import open_rows; "
        "print(open_rows(pathlib.Path()).encode(sys.argv[1])['ids'][0].tolist())"
    )
    command = [sys.executable, "-c", script, TRADITIONAL]
    result = subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True)
    return list(json.loads(result.stdout))


def test_the_linear_baseline_sees_what_training_saw(tmp_path: Path) -> None:
    runner = StageRunner.make(tmp_path, sentences(160), clean=ALL).clean()
    baseline = base.baselines(TASK).baselines["classical"]
    train = read_table(runner.root / "clean", "train")
    sections = (runner.sections["train"], runner.sections["clean"])
    _, files = baseline.fit(train, {"classes": ["好评", "差评"]}, *sections, 7)
    featurizer = baseline.featurizer(files)
    raw, formed = "這間酒店的電梯壞了！！！！！！", "这间酒店的电梯坏了！！！"
    served, trained = (featurizer({"text": [text], "title": [""]}) for text in (raw, formed))
    assert served.keys() == trained.keys()
    for name, values in served.items():
        assert np.array_equal(values, trained[name])
    assert served["columns"].size


def test_the_settings_of_a_bundle_are_those_that_are_not_default() -> None:
    model = section_model("clean", TASK)
    assert model.model_validate({}).normalization() == {"max_characters": 2000}
    settings = model.model_validate(ALL).normalization()
    assert settings == {"max_characters": 2000, **ALL}
    assert form_of({**settings, "classes": ["a"]}) == TextForm(**ALL)
    for wrong in (
        {"width": "double"},
        {"max_repeats": 0},
        {"max_repeats": 10**20},
        {"chinese": "traditional"},
    ):
        with pytest.raises(ValidationError):
            TextNormalization(max_characters=9, **wrong)


def test_only_a_simplified_model_needs_opencc(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, simplified = b'{"max_characters": 9}', b'{"chinese": "simplified"}'
    assert "opencc" not in standalone.requirements({"encoder.json": plain})
    assert "opencc" in standalone.requirements({"encoder.json": simplified})
    text_form._simplifier.cache_clear()
    monkeypatch.setattr(installed_packages, "find_spec", lambda name: None)
    assert TextNormalization(max_characters=9).fields()["text"].normalize("後") == "後"
    with pytest.raises(EnvironmentFault, match="needs opencc") as caught:
        TextNormalization(max_characters=9, chinese="simplified").fields()
    assert ".[texts]" in str(caught.value.remedy)


def test_an_exported_script_imports_opencc_only_where_it_is_asked_for() -> None:
    files = copy_modules("components.tasks.text_classification.standalone", "preprocessing")
    lines = "".join(files.values()).splitlines()
    assert [line for line in lines if "import OpenCC" in line] == ["    from opencc import OpenCC"]
