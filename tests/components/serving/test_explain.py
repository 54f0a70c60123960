"""What mattered: parts that are the whole text, weights that follow the model, a cost that has a bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.inference.explanations.occlusion import explain, variants
from components.serving.params import ServeParams
from components.tasks.base import Explains, evaluator

RULES = evaluator("text_classification")


def test_the_character_that_decides_weighs_most_and_the_answer_names_its_model(client, model):
    asked = client()
    answer = asked.post("/v1/explain", json={"text": "房间很好,下次再来"}).json()
    assert [part["text"] for part in answer["parts"]] == [
        "房",
        "间",
        "很",
        "好,",
        "下",
        "次",
        "再",
        "来",
    ]
    weights = {part["text"]: part["weight"] for part in answer["parts"]}
    assert weights.pop("好,") == pytest.approx(math.log(0.9 / 0.1) - math.log(0.2 / 0.8))
    assert set(weights.values()) == {0.0}
    assert (answer["prediction"]["label"], answer["model"]) == ("好评", model.ref.model_dump())
    assert asked.get("/v1/model").json()["explains"] is True


def test_a_word_counts_as_one_part_and_what_is_all_there_is_as_all_its_support(client):
    parts = client().post("/v1/explain", json={"text": "good"}).json()["parts"]
    assert parts == [{"text": "good", "weight": pytest.approx(math.log(9))}]


def test_a_long_text_costs_no_more_than_the_bound(client, stub):
    predictor = stub()
    asked = client(predictor, ServeParams.model_validate({"limits": {"explained_parts": 10}}))
    answer = asked.post("/v1/explain", json={"text": "字" * 1999 + "好"})
    assert answer.status_code == 200
    assert "".join(part["text"] for part in answer.json()["parts"]) == "字" * 1999 + "好"
    assert sum(predictor.batches) == len(answer.json()["parts"]) + 1 <= 11
    assert asked.post("/v1/explain", json={"text": "字" * 2001}).status_code == 422


@pytest.mark.parametrize(("text", "status"), [(r" \t", 422), ("boom", 500), (r"\ud800", 422)])
def test_what_cannot_be_answered_cannot_be_explained(text, status, client):
    body = f'{{"text": "{text}"}}'
    assert (
        client()
        .post("/v1/explain", content=body, headers={"content-type": "application/json"})
        .status_code
        == status
    )


def test_it_can_be_switched_off(client):
    asked = client(params=ServeParams.model_validate({"limits": {"explained_parts": 0}}))
    assert asked.post("/v1/explain", json={"text": "a"}).status_code == 404
    assert asked.get("/v1/model").json()["explains"] is False


@given(st.text(min_size=1, max_size=200), st.integers(1, 70))
def test_parts_are_the_whole_text_and_few_enough(text, limit):
    assert isinstance(RULES, Explains)
    query = RULES.Query.model_construct(text=text, title="")
    parts = RULES.parts(query, limit)
    assert "".join(parts) == text and len(parts) <= limit and all(parts)
    assert [len(each.text) for each in variants(RULES, query, parts)] == [
        len(text) - len(part) for part in parts
    ]


def test_support_has_no_end_in_infinity():
    assert isinstance(RULES, Explains)
    sure = RULES.Answer(label="a", probability=1, probabilities={"a": 1.0, "b": 0.0})
    assert explain(RULES, sure, [None, sure]) == [30, 0]
    other = RULES.Answer(label="b", probability=1, probabilities={"a": 0.0, "b": 1.0})
    assert RULES.support(sure, other) == -30


@pytest.mark.parametrize(("path", "limit"), [("/v1/explain", 2000), ("/v1/predict", 20_000)])
def test_a_text_that_is_too_long_is_measured_in_characters(path, limit, client):
    detail = client().post(path, json={"text": "字" * (limit + 1)}).json()["detail"]
    assert detail == [
        {"loc": ["body", "text"], "msg": f"String should have at most {limit} characters"}
    ]


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/v1/predict", {"text": " "}, ["body"]),
        ("/v1/explain", {"text": " "}, ["body"]),
        ("/v1/predict", {"inputs": [{"text": " "}]}, ["body", "inputs", 0]),
        ("/v1/predict", {"inputs": [{"text": "a"}, {"text": " "}]}, ["body", "inputs", 1]),
    ],
)
def test_what_is_wrong_is_told_at_its_own_place(path, body, place, client):
    assert client().post(path, json=body).json()["detail"] == [{"loc": place, "msg": "empty"}]
