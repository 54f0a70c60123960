"""The baselines' numpy scorers answer what scikit-learn answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from mill import IMAGE, TEXT, pictures, sentences
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import normalize

from components.fields.image import decode
from components.fields.patches import FilterBank, draw_filters, features
from components.tasks import base
from pipelines.params import section_model


def answers(task: str, name: str, rows: list[dict[str, Any]], classes: list[str], asked: list[Any]) -> list[Any]:
    """Fit a baseline with default knobs and ask it."""
    train, clean = (section_model(stage, task).model_validate({}) for stage in ("train", "clean"))
    baseline, judge = base.baselines(task).baselines[name], base.judge(task)
    arrays, files = baseline.fit(pa.Table.from_pylist(rows), classes, train, clean, 7)
    column = "text" if task == TEXT else "image"
    return list(judge.answers(baseline.scorer(arrays), baseline.featuriser(files)({column: asked}), classes))


def probabilities(found: list[Any]) -> np.ndarray:
    return np.array([list(answer.probabilities.values()) for answer in found])


def reviews(classes: int) -> list[dict[str, Any]]:
    rows = sentences(150)
    return rows if classes == 2 else [{**row, "label": "中评"} if i % 5 == 0 else row for i, row in enumerate(rows)]


@pytest.mark.parametrize("classes", [2, 3])
def test_tfidf_is_scikit_learns(classes: int) -> None:
    rows = reviews(classes)
    names = sorted({row["label"] for row in rows})
    asked = ["房间很干净 满意", "The ROOM was  noisy", "x", "饕餮", "酒店酒店酒店", "good!! 很好 very good", *(row["text"] for row in sentences(30, seed=9))]
    pipeline = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True, dtype=np.float32), LogisticRegression(C=4.0, max_iter=1000, random_state=7))
    pipeline.fit([row["text"] for row in rows], [row["label"] for row in rows])
    np.testing.assert_allclose(probabilities(answers(TEXT, "classical", rows, names, asked)), pipeline.predict_proba(asked), atol=1e-6)


def test_a_title_is_a_view_of_its_own() -> None:
    # given rows of which some have a title
    rows = [{**row, "title": other["text"][:9] if number % 3 else ""} for number, (row, other) in enumerate(zip(sentences(150), sentences(150, seed=4), strict=True))]
    asked = {"text": [row["text"] for row in sentences(20, seed=9)], "title": [row["text"][:12].strip() if i % 2 else "" for i, row in enumerate(sentences(20, seed=3))]}
    names = sorted({row["label"] for row in rows})

    # when the same features are made by scikit-learn: each view of length 1, the text's weighted, rows of length 1 again
    views = {name: TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True).fit([row[name] for row in rows]) for name in ("text", "title")}

    def features(columns: dict[str, list[str]]) -> Any:
        return normalize(hstack([views["text"].transform(columns["text"]) * 0.5, views["title"].transform(columns["title"])]).tocsr())

    model = LogisticRegression(C=4.0, max_iter=1000, random_state=7).fit(features({name: [row[name] for row in rows] for name in views}), [row["label"] for row in rows])

    # then answers agree, and the title has a say
    train, clean = (section_model(stage, TEXT).model_validate({}) for stage in ("train", "clean"))
    baseline, judge = base.baselines(TEXT).baselines["classical"], base.judge(TEXT)
    arrays, files = baseline.fit(pa.Table.from_pylist(rows), names, train, clean, 7)
    ask, scorer = baseline.featuriser(files), baseline.scorer(arrays)
    found = probabilities(list(judge.answers(scorer, ask(asked), names)))
    np.testing.assert_allclose(found, model.predict_proba(features(asked)), atol=1e-5)
    assert np.abs(found - probabilities(list(judge.answers(scorer, ask({"text": asked["text"]}), names)))).max() > 0.01


def test_a_bundle_from_before_titles_still_answers() -> None:
    rows = reviews(2)
    train, clean = (section_model(stage, TEXT).model_validate({}) for stage in ("train", "clean"))
    baseline = base.baselines(TEXT).baselines["classical"]
    arrays, files = baseline.fit(pa.Table.from_pylist(rows), ["好评", "差评"], train, clean, 7)
    facts = json.loads(files["tfidf.json"])
    old = {"tfidf.json": json.dumps({**facts, "vocabulary": facts.pop("vocabularies")["text"]}).encode()}
    asked = {"text": [row["text"] for row in rows[:9]], "title": [""] * 9}
    told = [baseline.scorer(arrays)("forward", baseline.featuriser(kept)(asked))["logits"] for kept in (files, old)]
    np.testing.assert_array_equal(*told)


def bars_as_arrays(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.stack([decode(row["image"], 1) for row in rows]).astype(np.float32)


def test_pictures_are_scored_as_by_scikit_learn() -> None:
    """The standardization is folded into the weights, and numpy scores what scikit-learn would."""
    rows = pictures(60)
    asked = pictures(20, seed=5)
    train, clean = (section_model(stage, IMAGE).model_validate({}) for stage in ("train", "clean"))
    names = ["lies", "stands"]
    baseline = base.baselines(IMAGE).baselines["classical"]
    arrays, _ = baseline.fit(pa.Table.from_pylist(rows), names, train, clean, 7)
    bank = FilterBank.of(arrays)
    table = features(bars_as_arrays(rows), bank)
    center = table.mean(axis=0)
    scale = table.std(axis=0) + 0.01 * table.std()
    model = LogisticRegression(C=0.003, max_iter=200, tol=1e-3, random_state=7)
    model.fit((table - center) / scale, [row["label"] for row in rows])
    expected = model.predict_proba((features(bars_as_arrays(asked), bank) - center) / scale)
    found = probabilities(answers(IMAGE, "classical", rows, names, [row["image"] for row in asked]))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("side", [8, 13, 28, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_has_features_that_do_not_depend_on_the_others(side: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, min(side, 32), min(side, 32), channels)).astype(np.float32)
    bank = draw_filters(pixels, rng)
    together = features(pixels, bank)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(features(pixels[1:2], bank)[0], together[1], rtol=1e-4, atol=1e-5)


def test_flat_pictures_have_features() -> None:
    flat = np.full((2, 8, 8, 1), 9.0, np.float32)
    assert np.isfinite(features(flat, draw_filters(flat, np.random.default_rng(0)))).all()


def test_the_penalty_of_pictures_is_chosen_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose labels are half wrong need a stronger penalty than clean ones."""
    import components.tasks.image_classification.baselines as module

    tried: list[float] = []
    plain = LogisticRegression

    def noted(**params: Any) -> LogisticRegression:
        tried.append(params["C"])
        return plain(**params)

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", noted)
    train, clean = (section_model(stage, IMAGE).model_validate({}) for stage in ("train", "clean"))
    rows = pa.Table.from_pylist(pictures(80))
    baseline = base.baselines(IMAGE).baselines["classical"]
    names = ["lies", "stands"]
    baseline.fit(rows, names, train, clean, 7, pa.Table.from_pylist(pictures(40, seed=3)))
    assert len(tried) > 1
    assert tried == list(module._STRENGTHS[: len(tried)])
    tried.clear()
    fixed = section_model("train", IMAGE).model_validate({"classical": {"C": 2.0, "rows": 30}})
    baseline.fit(rows, names, fixed, clean, 7, pa.Table.from_pylist(pictures(40, seed=3)))
    assert tried == [2.0]


def test_bundles_of_plain_pixels_still_answer() -> None:
    """Up to a5620e8 the classical baseline of pictures was linear in pixels; such champions stay in service."""
    rows = pictures(60)
    flat = bars_as_arrays(rows).reshape(60, -1) / 255
    model = LogisticRegression(max_iter=2000).fit(flat, [row["label"] for row in rows])
    arrays = {
        "coefficients": np.vstack([np.zeros_like(model.coef_), model.coef_]).astype(np.float32),
        "intercept": np.array([0.0, model.intercept_[0]], np.float32),
    }
    baseline = base.baselines(IMAGE).baselines["classical"]
    batch = baseline.featuriser({"pixels.json": b'{"channels": 1, "size": 8}'})(
        {"image": [row["image"] for row in rows]}
    )
    logits = baseline.scorer(arrays)("forward", batch)["logits"]
    np.testing.assert_allclose(logits[:, 1], model.decision_function(flat), atol=1e-4)


def test_the_trivial_one_answers_the_frequencies() -> None:
    rows = reviews(3)
    names = sorted({row["label"] for row in rows})
    found = answers(TEXT, "trivial", rows, names, ["anything", "很好"])
    counts = np.array([sum(row["label"] == name for row in rows) + 1 for name in names])
    np.testing.assert_allclose(probabilities(found), [counts / counts.sum()] * 2, atol=1e-6)


@pytest.mark.parametrize("classes", [["a class without a row", "好评", "差评"], ["好评", "差评", "随便"], ["中评", "好评", "差评", "无"]])
def test_a_class_without_a_train_row_is_never_answered(classes: list[str]) -> None:
    rows = reviews(len(classes) - 1)
    found = answers(TEXT, "classical", rows, classes, [row["text"] for row in rows])
    absent = next(name for name in classes if name not in {row["label"] for row in rows})
    assert max(answer.probabilities[absent] for answer in found) == 0
    assert sum(answer.label == row["label"] for answer, row in zip(found, rows, strict=True)) > 0.75 * len(rows)
