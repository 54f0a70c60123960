"""The baselines' numpy scorers answer what scikit-learn answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import hstack
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import Normalizer, normalize
from stage_runner import IMAGE, TEXT, pictures, sentences

from components.fields.image import decode
from components.fields.patches import FilterBank, draw_filters, features
from components.orchestration.pipeline_params import section_model
from components.tasks import base
from components.tasks.shared.baselines.classification import baselines as classification
from components.tasks.shared.baselines.classification.baselines import (
    STRENGTHS,
    fit_linear,
    linear_arrays,
)
from components.tasks.text_classification import baselines

BASELINE = base.baselines(TEXT).baselines["classical"]


def answers(
    task: str, name: str, rows: list[dict[str, Any]], classes: list[str], asked: list[Any]
) -> list[Any]:
    """Fit a baseline with default knobs and ask it."""
    train, clean = (section_model(stage, task).model_validate({}) for stage in ("train", "clean"))
    baseline, evaluator = base.baselines(task).baselines[name], base.evaluator(task)
    arrays, files = baseline.fit(pa.Table.from_pylist(rows), {"classes": classes}, train, clean, 7)
    column = "text" if task == TEXT else "image"
    return list(
        evaluator.answers(
            baseline.scorer(arrays),
            baseline.featurizer(files)({column: asked}),
            {"classes": classes},
        )
    )


def probabilities(found: list[Any]) -> np.ndarray:
    return np.array([list(answer.probabilities.values()) for answer in found])


def reviews(classes: int) -> list[dict[str, Any]]:
    rows = sentences(150)
    return (
        rows
        if classes == 2
        else [{**row, "label": "中评"} if i % 5 == 0 else row for i, row in enumerate(rows)]
    )


def fit_text(
    rows: list[dict[str, Any]],
    names: list[str],
    validation: list[dict[str, Any]] | None = None,
    **params: Any,
) -> tuple[Any, Any]:
    """Arrays and files of the classical baseline with these params."""
    train = section_model("train", TEXT).model_validate({"classical": params})
    tables = [
        pa.Table.from_pylist(rows),
        None if validation is None else pa.Table.from_pylist(validation),
    ]
    return BASELINE.fit(
        tables[0],
        {"classes": names},
        train,
        section_model("clean", TEXT).model_validate({}),
        7,
        tables[1],
    )


def logits(fitted: tuple[Any, Any], asked: dict[str, list[str]]) -> np.ndarray:
    """What it answers (n, c)."""
    arrays, files = fitted
    return np.asarray(
        BASELINE.scorer(arrays)("forward", BASELINE.featurizer(files)(asked))["logits"]
    )


ASKED = [
    "房间很干净 满意",
    "The ROOM was  noisy",
    "x",
    "饕餮",
    "酒店酒店酒店",
    "good!! 很好 very good",
    *(row["text"] for row in sentences(30, seed=9)),
]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("analyzer", ["char", "word"])
def test_tfidf_is_scikit_learns(classes: int, analyzer: str) -> None:
    # given the same features and loss in scikit-learn, on rows of length 1
    rows = reviews(classes)
    names = sorted({row["label"] for row in rows})
    shared: dict[str, Any] = {"min_df": 2, "sublinear_tf": True}
    kinds = [{"analyzer": "char", "ngram_range": (1, 3)}]
    if analyzer == "word":
        kinds = [
            {"analyzer": "char_wb", "ngram_range": (2, 3)},
            {"ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"},
        ]
    union = make_pipeline(
        make_union(*[TfidfVectorizer(**shared, **kind) for kind in kinds]), Normalizer()
    )
    features = union.fit_transform([row["text"] for row in rows])
    scores = []
    for name in names if classes > 2 else names[1:]:
        model = LogisticRegression(
            C=4.0, solver="liblinear", dual=True, tol=1e-6, max_iter=9000
        ).fit(features, [row["label"] == name for row in rows])
        scores.append(model.decision_function(union.transform(ASKED)))

    # when the baseline is fitted without a choice
    found = logits(
        fit_text(rows, names, analyzer=analyzer, ngrams=3, min_documents=2, C=4.0), {"text": ASKED}
    )

    # then the scores are the same, but for where the solvers stop
    expected = (
        np.stack(scores, 1) if classes > 2 else np.stack([np.zeros(len(ASKED)), scores[0]], 1)
    )
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_validation_chooses_the_strength_the_length_and_the_combination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given enough rows, so that validation alone chooses, and rows whose labels are partly wrong
    monkeypatch.setattr(baselines, "_FOLDED_ROWS", 0)
    rng = np.random.default_rng(5)
    names = ["好评", "差评"]
    rows = [
        {**row, "label": names[int(rng.integers(2))]} if rng.random() < 0.3 else row
        for row in sentences(240)
    ]
    train, validation = rows[:160], rows[160:]
    truth = np.array([names.index(row["label"]) for row in validation])
    asked = {"text": [row["text"] for row in validation]}

    def right(**params: Any) -> float:
        found = logits(fit_text(train, names, validation, **params), asked).argmax(1)
        return float(accuracy_score(truth, found) + f1_score(truth, found, average="macro")) / 2

    # when one kind is fitted with each strength
    fixed = {strength: right(models=["svm"], ngrams=3, C=strength) for strength in STRENGTHS["svm"]}

    # then the choice is the best of them, which the bundle records, and more choice is no worse
    chosen = right(models=["svm"], ngrams=3)
    record = json.loads(
        fit_text(train, names, validation, models=["svm"], ngrams=3)[1]["tfidf.json"]
    )["models"]
    assert fixed[record["svm"]] == max(fixed.values())
    assert len(set(fixed.values())) > 1
    assert chosen == pytest.approx(max(fixed.values()))
    assert right(ngrams=3) >= chosen


def test_probabilities_are_sharpened_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_FOLDED_ROWS", 0)
    rows = reviews(3)
    names = sorted({row["label"] for row in rows})
    train, validation = rows[:100], rows[100:]
    fitted = fit_text(train, names, validation)
    scores = logits(fitted, {"text": [row["text"] for row in validation]})
    truth = [names.index(row["label"]) for row in validation]
    loss = [
        log_loss(truth, softmax(scores * factor, axis=1), labels=[0, 1, 2])
        for factor in (0.5, 1.0, 2.0)
    ]
    assert loss[1] == min(loss)


def test_a_batch_answers_as_its_rows_do() -> None:
    fitted = fit_text(reviews(3), ["中评", "好评", "差评"])
    alone = [logits(fitted, {"text": [text]})[0] for text in ASKED]
    np.testing.assert_array_equal(logits(fitted, {"text": ASKED}), alone)


def test_hundreds_of_classes_have_fewer_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_MOST_WEIGHTS", 900)
    monkeypatch.setattr(baselines, "_WIDE_WEIGHTS", 500)
    rows = reviews(3)
    arrays, files = fit_text(rows, ["中评", "好评", "差评"], rows[:30], ngrams=3)
    assert arrays["coefficients"].shape == (3, 300)
    assert arrays["coefficients"].dtype == np.float16
    found = logits((arrays, files), {"text": [row["text"] for row in rows]}).argmax(1)
    assert (
        np.mean(
            [
                ["中评", "好评", "差评"][place] == row["label"]
                for place, row in zip(found, rows, strict=True)
            ]
        )
        > 0.7
    )


def test_weights_of_classes_can_be_balanced() -> None:
    rows = [
        row
        for number, row in enumerate(sentences(200))
        if row["label"] == "好评" or number % 8 == 0
    ]
    names = sorted({row["label"] for row in rows})
    shares = []
    for weights in ("none", "balanced"):
        fitted = fit_text(rows, names, C=0.05, models=["logistic"], class_weights=weights)
        shares.append(
            (
                logits(fitted, {"text": [row["text"] for row in rows]}).argmax(1)
                == names.index("差评")
            ).mean()
        )
    assert shares[1] > shares[0]


def test_a_title_is_a_view_of_its_own() -> None:
    # given rows of which some have a title
    rows = [
        {**row, "title": other["text"][:9] if number % 3 else ""}
        for number, (row, other) in enumerate(
            zip(sentences(150), sentences(150, seed=4), strict=True)
        )
    ]
    asked = {
        "text": [row["text"] for row in sentences(20, seed=9)],
        "title": [
            row["text"][:12].strip() if i % 2 else "" for i, row in enumerate(sentences(20, seed=3))
        ],
    }
    names = sorted({row["label"] for row in rows})

    # when the same features are made by scikit-learn: each view of length 1, the text's weighted, rows of length 1 again
    views = {
        name: TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True).fit(
            [row[name] for row in rows]
        )
        for name in ("text", "title")
    }

    def features(columns: dict[str, list[str]]) -> Any:
        return normalize(
            hstack(
                [
                    views["text"].transform(columns["text"]) * 0.5,
                    views["title"].transform(columns["title"]),
                ]
            ).tocsr()
        )

    model = LogisticRegression(C=4.0, solver="liblinear", dual=True, tol=1e-6, max_iter=9000)
    model.fit(
        features({name: [row[name] for row in rows] for name in views}),
        [row["label"] for row in rows],
    )

    # then answers agree, and the title has a say
    fitted = fit_text(rows, names, analyzer="char", ngrams=3, min_documents=2, C=4.0)
    found = logits(fitted, asked)[:, 1]
    np.testing.assert_allclose(found, model.decision_function(features(asked)), atol=0.05)
    assert np.abs(found - logits(fitted, {"text": asked["text"]})[:, 1]).max() > 0.05


@pytest.mark.parametrize("titled", [False, True])
def test_a_bundle_that_spells_its_n_grams_out_still_answers(titled: bool) -> None:
    # given the arrays and files of a bundle as they were before keys, without titles and with them
    rows = reviews(2)
    texts = [row["text"] for row in rows]
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=4.0).fit(
        vectorizer.fit_transform(texts), [int(row["label"] == "差评") for row in rows]
    )
    grams = vectorizer.get_feature_names_out().tolist()
    arrays = linear_arrays(model, 2) | {"idf": vectorizer.idf_.astype(np.float32)}
    facts: dict[str, Any] = {"vocabulary": grams, "ngrams": 3, "max_characters": 2000}
    if titled:
        facts = {
            "vocabularies": {"text": grams, "title": ["好"]},
            "ngrams": 3,
            "max_characters": 2000,
        }
        arrays["idf"] = np.append(arrays["idf"], 1.0)
        arrays["coefficients"] = np.hstack([arrays["coefficients"], np.zeros((2, 1), np.float32)])
        arrays |= {
            "view": np.repeat(np.arange(2, dtype=np.uint8), [len(grams), 1]),
            "weight": np.array([0.5, 1.0]),
        }

    # then it answers as scikit-learn does
    asked = {"text": texts[:9], "title": [""] * 9}
    found = logits((arrays, {"tfidf.json": json.dumps(facts).encode()}), asked)
    np.testing.assert_allclose(
        found[:, 1] - found[:, 0],
        model.decision_function(vectorizer.transform(texts[:9])),
        atol=1e-4,
    )


def bars_as_arrays(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.stack([decode(row["image"], 1) for row in rows]).astype(np.float32)


def test_pictures_are_scored_as_by_scikit_learn() -> None:
    """The standardization is folded into the weights, and numpy scores what scikit-learn would."""
    rows = pictures(60)
    asked = pictures(20, seed=5)
    train, clean = (section_model(stage, IMAGE).model_validate({}) for stage in ("train", "clean"))
    names = ["lies", "stands"]
    baseline = base.baselines(IMAGE).baselines["classical"]
    arrays, _ = baseline.fit(pa.Table.from_pylist(rows), {"classes": names}, train, clean, 7)
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
    baseline.fit(
        rows, {"classes": names}, train, clean, 7, pa.Table.from_pylist(pictures(40, seed=3))
    )
    assert len(tried) > 1
    assert tried == list(module._STRENGTHS[: len(tried)])
    tried.clear()
    fixed = section_model("train", IMAGE).model_validate({"classical": {"C": 2.0, "rows": 30}})
    baseline.fit(
        rows, {"classes": names}, fixed, clean, 7, pa.Table.from_pylist(pictures(40, seed=3))
    )
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
    batch = baseline.featurizer({"pixels.json": b'{"channels": 1, "size": 8}'})(
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


@pytest.mark.parametrize(
    "classes",
    [
        ["a class without a row", "好评", "差评"],
        ["好评", "差评", "随便"],
        ["中评", "好评", "差评", "无"],
    ],
)
def test_a_class_without_a_train_row_is_never_answered(classes: list[str]) -> None:
    rows = reviews(len(classes) - 1)
    found = answers(TEXT, "classical", rows, classes, [row["text"] for row in rows])
    absent = next(name for name in classes if name not in {row["label"] for row in rows})
    assert max(answer.probabilities[absent] for answer in found) == 0
    assert sum(
        answer.label == row["label"] for answer, row in zip(found, rows, strict=True)
    ) > 0.75 * len(rows)


@pytest.mark.parametrize(("costly", "very", "fits"), [(10**9, 10**9, 75), (1, 10**9, 4), (1, 1, 1)])
def test_a_large_problem_has_fewer_fits(
    costly: int, very: int, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "_COSTLY", costly)
    monkeypatch.setattr(baselines, "_VERY_COSTLY", very)
    fitted: list[str] = []

    def count(problem: Any, kind: Any, strength: float) -> Any:
        fitted.append(kind)
        return fit_linear(problem, kind, strength)

    monkeypatch.setattr(baselines, "fit_linear", count)
    monkeypatch.setattr(classification, "fit_linear", count)
    rows = reviews(3)[:60]
    fit_text(rows, ["中评", "好评", "差评"], rows[:30])
    assert len(fitted) == fits


def test_folds_hold_each_row_once_and_each_class_alike() -> None:
    target = np.array([0] * 12 + [1] * 8 + [2] * 2)
    folds = classification.stratified_folds(target, 4, 7)
    assert sorted(np.concatenate(folds).tolist()) == list(range(22))
    assert all(
        2 <= (target[rows] == 1).sum() <= 3 and (target[rows] == 0).sum() == 3 for rows in folds
    )


def test_no_row_is_judged_by_a_model_that_learned_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # given labels by chance, which a model that saw them answers rightly
    rng = np.random.default_rng(3)
    rows = [{**row, "label": ["好评", "差评"][int(rng.integers(2))]} for row in sentences(120)]
    found: dict[str, float] = {}

    def spy(problem: Any, kind: Any, strength: float, model: Any) -> Any:
        scores = classification.judged_scores(problem, kind, strength, model)
        assert len(scores) == len(problem.judged) == 120
        found["folds"] = float((scores.argmax(1) == problem.judged)[:90].mean())
        found["seen"] = float((model.scores(problem.features).argmax(1) == problem.target).mean())
        return scores

    monkeypatch.setattr(baselines, "judged_scores", spy)
    fit_text(rows[:90], ["好评", "差评"], rows[90:])
    assert found["seen"] > 0.9
    assert found["folds"] < 0.75


def test_a_fit_that_takes_the_choices_of_another_is_the_same() -> None:
    train, clean = (section_model(stage, TEXT).model_validate({}) for stage in ("train", "clean"))
    rows, validation = (pa.Table.from_pylist(sentences(90, seed=seed)) for seed in (1, 2))
    names = sorted(set(rows["label"].to_pylist()))
    arrays, files = BASELINE.fit(rows, {"classes": names}, train, clean, 7, validation)
    again, same = BASELINE.fit(rows, {"classes": names}, train, clean, 7, validation, files)
    assert same == files
    assert set(again) == set(arrays)
    asked = {"text": validation["text"].to_pylist()}
    found = []
    for each in (arrays, again):
        scores = BASELINE.scorer(each)("forward", BASELINE.featurizer(files)(asked))["logits"]
        found.append(scores.argmax(1).tolist())
    assert found[0] == found[1]


def test_of_many_rows_a_seeded_part_is_learned() -> None:
    rows = sentences(150)
    table = pa.Table.from_pylist(rows)
    targets = {"classes": sorted({row["label"] for row in rows})}
    clean = section_model("clean", TEXT).model_validate({})
    fits = []
    for most in (len(rows), 40, 40):
        train = section_model("train", TEXT).model_validate({"classical": {"rows": most}})
        fits.append(BASELINE.fit(table, targets, train, clean, 7))
    (whole, _), (part, files), (again, same_files) = fits
    assert files == same_files
    assert all((part[name] == again[name]).all() for name in part)
    assert sum(array.size for array in part.values()) < sum(array.size for array in whole.values())


def test_rare_classes_are_learned_from_first() -> None:
    labels = ["common"] * 3000 + ["rare"] * 8
    rows = pa.table({"text": [str(number) for number in range(3008)], "label": labels})
    for seed in range(5):
        drawn = baselines._drawn(rows, 200, seed)
        assert drawn.num_rows == 200
        assert drawn["label"].to_pylist().count("rare") == 8
        numbers = [int(text) for text in drawn["text"].to_pylist()]
        assert numbers == sorted(numbers)
