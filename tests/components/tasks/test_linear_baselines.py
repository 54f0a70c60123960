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


def test_pixels_are_scikit_learns() -> None:
    rows, asked = pictures(60), [row["image"] for row in pictures(20, seed=5)]

    def flat(images: list[bytes]) -> np.ndarray:
        return np.stack([decode(image, 1).ravel() / 255 for image in images])

    model = LogisticRegression(max_iter=2000, random_state=7).fit(flat([row["image"] for row in rows]), [row["label"] for row in rows])
    np.testing.assert_allclose(probabilities(answers(IMAGE, "classical", rows, ["lies", "stands"], asked)), model.predict_proba(flat(asked)), atol=1e-6)


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
