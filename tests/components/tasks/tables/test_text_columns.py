"""Texts of a table become a few numbers, by axes that train rows gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from safetensors.numpy import load, save
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from table_samples import ENCODING, TARGETS, fitted

from components.fields.base import Reject
from components.tasks.shared.encode.tables.table_columns import (
    ColumnsMetadata,
    InputInfo,
    TableColumns,
)
from components.tasks.shared.encode.tables.text_columns import fit_texts
from components.tasks.shared.schema.tables.kinds import TextInput, parse_inputs

GOOD = ["clean room", "quiet room", "friendly staff", "great breakfast", "lovely view"]
BAD = ["dirty room", "loud street", "rude staff", "cold breakfast", "broken shower"]
INPUTS: dict[str, Any] = {"review": {"kind": "text", "components": 8}, "nights": "number"}
FILE = "texts.safetensors"


def reviews(count: int, seed: int = 0) -> pa.Table:
    """Return rows whose price is that of the words of their reviews; some have no review."""
    rng = np.random.default_rng(seed)
    good = rng.integers(0, 4, count)
    texts: list[str | None] = []
    for number in good.tolist():
        words = [*rng.choice(GOOD, number), *rng.choice(BAD, 3 - number)]
        texts.append(", ".join(rng.permutation(words)) if rng.random() > 0.1 else None)
    return pa.table(
        {
            "id": [str(number) for number in range(count)],
            "review": texts,
            "nights": rng.integers(1, 9, count).astype(float),
            "price": good.astype(float),
        }
    )


@pytest.fixture(scope="module")
def columns() -> TableColumns:
    return TableColumns.fit(reviews(400), parse_inputs(INPUTS))


def read_back(columns: TableColumns, files: dict[str, bytes] | None = None) -> TableColumns:
    """Return columns from their metadata and files."""
    metadata = ColumnsMetadata.model_validate(columns.metadata())
    return TableColumns.of(metadata, columns.files() if files is None else files)


def test_a_text_becomes_its_length_and_its_place_on_axes(columns: TableColumns) -> None:
    table = reviews(50, seed=1)
    numbers, _ = columns.matrix(table)
    assert columns.numbers[:2] == ["review.characters", "review.axis_1"]
    assert columns.numbers[-2:] == ["review.axis_8", "nights"]
    texts = table["review"].to_pylist()
    lengths = [np.nan if text is None else len(text) for text in texts]
    np.testing.assert_array_equal(numbers[:, 0], lengths)
    missing = np.isnan(numbers[:, 0])
    assert 0 < missing.sum() < 20
    assert (numbers[missing, 1:9] == 0).all()
    assert (np.abs(numbers[~missing, 1:9]).max(axis=1) > 0.1).all()


def test_the_axes_are_those_of_scikit_learn() -> None:
    texts = [text for text in reviews(300)["review"].to_pylist() if text]
    _, encoder = fit_texts(texts, TextInput(ngrams=3, components=3))
    words = {"ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"}
    within = {"ngram_range": (2, 3), "analyzer": "char_wb"}
    counts = [CountVectorizer(min_df=2, **kind).fit_transform(texts) for kind in (within, words)]
    matrix = TfidfTransformer(sublinear_tf=True).fit_transform(hstack(counts))
    expected = TruncatedSVD(3, algorithm="arpack", random_state=0).fit_transform(matrix)
    places = np.stack(list(encoder.numbers(texts)), axis=1)[:, 1:]
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-3)


def test_weights_and_axes_come_from_the_texts_of_train_alone(columns: TableColumns) -> None:
    before = columns.files()[FILE]
    columns.matrix({"review": ["zzz unheard of"], "nights": [1.0]})
    assert columns.files()[FILE] == before
    numbers, _ = columns.matrix({"review": ["ζζζ ηηη"], "nights": [1.0]})
    assert (numbers[0, 1:9] == 0).all()


def test_each_fit_has_the_same_bytes_and_another_table_has_others(columns: TableColumns) -> None:
    again = TableColumns.fit(reviews(400), parse_inputs(INPUTS))
    assert again.metadata() == columns.metadata()
    assert again.files() == columns.files()
    other = TableColumns.fit(reviews(400, seed=5), parse_inputs(INPUTS))
    assert other.files() != columns.files()


def test_rows_give_the_same_one_by_one_and_after_reading(columns: TableColumns) -> None:
    table = reviews(30, seed=2)
    whole, _ = columns.matrix(table)
    lists = {name: table[name].to_pylist() for name in INPUTS}
    loaded = read_back(columns)
    for row in range(30):
        one = {name: values[row : row + 1] for name, values in lists.items()}
        numbers, _ = loaded.matrix(loaded.normalize(one))
        np.testing.assert_array_equal(numbers[0], whole[row])


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, columns: TableColumns) -> None:
    table = reviews(50, seed=3)
    whole, _ = columns.matrix(table)
    monkeypatch.setattr("components.tasks.shared.encode.tables.text_columns._CHUNK", 7)
    np.testing.assert_array_equal(columns.matrix(table)[0], whole)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["房间很干净，服务也好", "房间很脏，服务也差", "早餐很好"], ["char"]),
        (["the room was clean", "the room was dirty"], ["char_wb", "word"]),
        (["the room was clean, very clean", "房间很干净，服务也好，早餐不错"], ["char", "word"]),
    ],
)
def test_the_script_chooses_the_n_grams(texts: list[str], expected: list[str]) -> None:
    column, _ = fit_texts(texts, TextInput())
    assert [block.analyzer for block in column.blocks] == expected


@pytest.mark.parametrize(
    "texts", [[], [None, None], ["", None], ["a"], ["once upon a time"], ["same text"] * 30]
)
def test_few_or_equal_texts_have_few_axes(texts: list[str | None]) -> None:
    column, encoder = fit_texts(texts, TextInput(components=8))
    assert column.components <= 1
    numbers = np.stack(list(encoder.numbers([*texts, "another one"])), axis=1)
    assert numbers.shape == (len(texts) + 1, 1 + column.components)
    assert np.isfinite(numbers[-1]).all()


def test_the_width_bounds_the_n_grams() -> None:
    texts = [text for text in reviews(300)["review"].to_pylist() if text]
    all_grams, _ = fit_texts(texts, TextInput())
    few, encoder = fit_texts(texts, TextInput(width=256))
    assert few.grams == 256 < all_grams.grams
    assert encoder.fitted.keys.shape == (256,)


def test_a_form_asks_for_a_text(columns: TableColumns) -> None:
    assert columns.fields()[0] == InputInfo("review", "text")


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("  <b>Very</b>\n clean &amp; quiet ", "Very clean & quiet"),
        ("x" * 20_000, "x" * 20_000),
        ("", None),
        ("n/a", None),
        ("...", None),
        (None, None),
        (float("nan"), None),
        (5, "5"),
        (True, "true"),
    ],
)
def test_texts_are_cleaned_and_may_be_missing(
    columns: TableColumns, value: Any, normal: str | None
) -> None:
    rows = {"review": [value], "nights": [2]}
    assert columns.normalize(rows)["review"] == [normal]
    assert np.isfinite(columns.matrix({"review": [normal], "nights": [2.0]})[0][0, 1:]).all()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("review", "x" * 20_001, "review_too_long"),
        ("review", ["a"], "review_not_text"),
        ("nights", "1" * 2_001, "nights_too_long"),
    ],
)
def test_values_beyond_the_limits_of_their_kind_are_refused(
    columns: TableColumns, column: str, value: Any, reason: str
) -> None:
    rows: dict[str, Any] = {"review": ["fine"], "nights": [2], column: [value]}
    with pytest.raises(Reject) as refused:
        columns.normalize(rows)
    assert refused.value.reason == reason


@pytest.mark.parametrize("what", ["keys", "idf", "axes", "order", "infinite", "no file", "bytes"])
def test_broken_arrays_are_refused(columns: TableColumns, what: str) -> None:
    files = dict(columns.files())
    arrays = load(files[FILE])
    if what == "order":
        arrays["0.keys"] = arrays["0.keys"][::-1].copy()
    elif what == "infinite":
        arrays["0.axes"][0, 0] = np.inf
    elif what in ("keys", "idf", "axes"):
        arrays["0." + what] = arrays["0." + what][1:].copy()
    files[FILE] = b"\0" * 20 if what == "bytes" else save(arrays)
    if what == "no file":
        del files[FILE]
    with pytest.raises(ValueError, match=r"0\.|texts\.safetensors"):
        read_back(columns, files)


def test_metadata_bound_what_an_array_may_be(columns: TableColumns) -> None:
    metadata = columns.metadata()
    metadata["columns"][0]["fitted"]["components"] = 257
    with pytest.raises(ValidationError):
        ColumnsMetadata.model_validate(metadata)


def test_networks_read_scaled_numbers_and_one_sign_that_a_text_is_missing() -> None:
    encoder = fitted(reviews(400), INPUTS)
    table = encoder.encode(reviews(400))
    features = np.array(table["features"].to_pylist())
    # Length, eight axes, nights, and the sign.
    assert features.shape == (400, 11)
    missing = reviews(400)["review"].is_null().to_numpy()
    np.testing.assert_array_equal(features[:, 10], missing.astype(float))
    np.testing.assert_allclose(features[:, 9].std(), 1, atol=0.05)
    loaded = ENCODING.load({**encoder.files()})
    assert loaded.files() == encoder.files()
    assert dict(loaded.targets) == dict(TARGETS)
