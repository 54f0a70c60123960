"""The service without Ray: what it answers, and what it refuses."""

from __future__ import annotations

import base64
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from scenario import STUCK, wait_for
from stage_runner import IMAGE, pictures, png

from components.inference.predictor import Prepared
from components.monitoring.profile import profile_of
from components.serving.http.app import build_app
from components.serving.http.keyring import Key, Keyring
from components.serving.http.routes import _filled
from components.serving.params import ServeParams
from components.tasks import base

HASH = "ab" * 32
REF = {"name": "stub", "version": "3", "data_hash": HASH, "bundle": "ef" * 6}
JSON = {"content-type": "application/json"}
SECRET = "a-secret-that-must-not-come-back"


def post(asked, text, **options):
    return asked.post("/v1/predict", json={"text": text}, **options)


def test_many_items_are_answered_in_order_and_name_the_model(client):
    answer = client().post("/v1/predict", json={"inputs": [{"text": "很好"}, {"text": "坏了"}]})
    assert answer.status_code == 200
    assert [prediction["label"] for prediction in answer.json()["predictions"]] == ["好评", "差评"]
    assert answer.json()["predictions"][0] == {
        "label": "好评",
        "probability": 0.9,
        "probabilities": {"差评": pytest.approx(0.1), "好评": 0.9},
        "abstained": False,
    }
    assert answer.json()["model"] == REF


def test_one_item_may_be_the_body_itself(client):
    answer = client().post("/v1/predict", json={"text": "good"})
    assert (answer.status_code, len(answer.json()["predictions"]), answer.json()["model"]) == (
        200,
        1,
        REF,
    )


@pytest.mark.parametrize(
    "body",
    [
        f'{{"text": "{SECRET}"',  # malformed
        f'{{"text": ["{SECRET}"]}}',
        f'{{"inputs": "{SECRET}"}}',
        f'{{"inputs": [{{"text": 5, "{SECRET}": 1}}]}}',
        f'{{"inputs": [{{"text": "a"}}], "{SECRET}": 1}}',
        f'{{"{SECRET}": 1}}',
        f'["{SECRET}"]',
        f'"{SECRET}"',
        "null",
        "",
        '{"inputs": []}',
        '{"text": NaN}',
        '{"text": "\\ud800"}',
        '{"text": "\\udc00 \\ud83d"}',
        "[" * 100_000,
    ],
)
def test_bad_bodies_are_refused_and_not_echoed(body, client):
    answer = client().post("/v1/predict", content=body, headers=JSON)
    assert answer.status_code == 422
    assert SECRET not in answer.text
    assert answer.json()["detail"]


def test_bytes_that_are_no_utf8_are_refused(client):
    assert (
        client().post("/v1/predict", content=b'{"text": "\xff\xfe"}', headers=JSON).status_code
        == 422
    )


def test_a_body_that_is_not_declared_as_json_is_refused(client):
    answer = client().post(
        "/v1/predict", content=json.dumps({"text": SECRET}), headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 422
    assert "application/json" in answer.json()["detail"]
    assert SECRET not in answer.text


def test_a_real_emoji_from_two_surrogates_is_fine(client):
    assert (
        client()
        .post("/v1/predict", content='{"text": "good \\ud83d\\ude00"}', headers=JSON)
        .status_code
        == 200
    )


def test_too_many_items_are_refused_and_the_limit_is_named(client):
    answer = client(params=ServeParams(max_items=2)).post(
        "/v1/predict", json={"inputs": [{"text": "a"}] * 3}
    )
    assert answer.status_code == 422
    assert "at most 2" in answer.json()["detail"][0]["msg"]


def test_a_body_over_a_mebibyte_is_too_large_whether_declared_or_streamed(client):
    body = json.dumps({"text": "x" * (2 << 20)}).encode()
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    for content in (body, pieces):
        answer = client().post("/v1/predict", content=content, headers=JSON)
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (413, "nosniff")
        assert "1048576" in answer.json()["detail"]
    assert (
        client()
        .post("/v1/predict", content=b"x", headers=JSON | {"content-length": "99999999999"})
        .status_code
        == 413
    )
    assert (
        client()
        .post("/v1/predict", content=json.dumps({"text": "x" * 20_000}), headers=JSON)
        .status_code
        == 200
    )


def test_a_rejected_item_is_named_by_its_index_and_not_quoted(client):
    answer = client().post(
        "/v1/predict",
        json={"inputs": [{"text": "a"}, {"text": "\t \t"}, {"text": "b"}, {"text": "  "}]},
    )
    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [
            {"loc": ["body", "inputs", 1], "msg": "empty"},
            {"loc": ["body", "inputs", 3], "msg": "empty"},
        ]
    }


def test_a_bad_query_does_not_fail_other_requests_of_its_batch(client, stuck):
    with client(stuck) as asked, ThreadPoolExecutor(5) as pool:
        first = pool.submit(post, asked, STUCK)
        wait_for(asked, "gristmill_queue_items", 1)
        others = [pool.submit(post, asked, text) for text in ("good", "boom", " ", "fine")]
        wait_for(asked, "gristmill_queue_items", 5)
        stuck.go.set()
        assert [each.result().status_code for each in (first, *others)] == [200, 200, 500, 422, 200]
    assert 3 in stuck.batches  # they were one batch, and it was taken apart


def test_a_broken_model_tells_nothing(client):
    answer = client().post("/v1/predict", json={"text": "boom"})
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal error"})


def test_an_answer_that_takes_too_long_is_given_up(client, stub):
    class Slow(stub):
        def score(self, rows):
            time.sleep(0.5)
            return super().score(rows)

    with client(Slow(), ServeParams(request_timeout_s=0.1)) as asked:
        assert asked.post("/v1/predict", json={"text": "a"}).status_code == 504


def test_the_model_describes_itself(client, model):
    facts = client().get("/v1/model").json()
    assert {name: facts[name] for name in REF} == REF
    assert facts["examples"] == model.examples
    assert facts["query"]["properties"]["text"]["type"] == "string" and "text" in facts["fields"]
    assert facts["classes"] == ["差评", "好评"]
    assert facts["limits"] == {"items": 64, "body_bytes": 1 << 20, "characters": 20_000}


@pytest.mark.parametrize(
    ("titles", "asked"), [(["", ""], ["text"]), (["", "A title"], ["text", "title"])]
)
def test_the_page_asks_for_a_title_only_if_the_data_have_titles(titles, asked):
    facet = base.schema("text_classification")
    clean = facet.options["clean"]()
    profile = profile_of(
        {"text": ["good food", "bad food"], "title": titles}, facet.fields(clean), {}
    )
    schema = base.evaluator("text_classification").Query.model_json_schema()
    assert _filled(schema, profile) == asked
    # A bundle of an earlier version says nothing of its inputs.
    assert _filled(schema, {}) == ["text", "title"]


def test_health_docs_and_schema_are_open_and_the_rest_wants_the_key(client):
    asked = client(keys=Keyring([Key.of("ann", "s3cret")]))
    assert [
        asked.get(path).status_code
        for path in ("/", "/docs", "/healthz", "/openapi.json", "/nothing")
    ] == [200, 200, 200, 200, 404]
    for headers in (
        {},
        {"authorization": "Bearer s3cre"},
        {"authorization": "Bearer s3cret "[:-2]},
        {"authorization": "Basic s3cret"},
    ):
        assert asked.get("/v1/model", headers=headers).status_code == 401
        assert asked.get("/metrics", headers=headers).status_code == 401
        assert asked.post("/v1/predict", content="{", headers=headers | JSON).status_code == 401
    good = {"authorization": "Bearer s3cret"}
    assert asked.get("/v1/model", headers=good).status_code == 200
    assert asked.post("/v1/predict", json={"text": "a"}, headers=good).status_code == 200


def test_the_schema_names_both_forms_of_a_request(client):
    schema = client().get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/predict",
        "/v1/explain",
        "/v1/model",
        "/healthz",
        "/readyz",
    }
    forms = schema["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]["oneOf"]
    assert schema["paths"]["/v1/predict"]["post"]["responses"]["422"]["content"][
        "application/json"
    ]["schema"]["$ref"].endswith("/Problem")
    assert [form["$ref"].rsplit("/", 1)[1] for form in forms] == ["Inputs", "Query"]


def test_requests_are_counted_with_bounded_labels(client):
    asked = client()
    asked.post("/v1/predict", json={"inputs": [{"text": "a"}] * 3})
    asked.post("/v1/predict", content="{", headers=JSON)
    asked.get("/one/of/endless/paths")
    text = asked.get("/metrics").text
    assert 'gristmill_requests_total{path="/v1/predict",replica="0",status="200"} 1.0' in text
    assert 'gristmill_errors_total{path="/v1/predict",replica="0"} 1.0' in text
    assert 'gristmill_requests_total{path="other",replica="0",status="404"} 1.0' in text
    assert 'gristmill_request_seconds_count{path="/v1/predict",replica="0"} 2.0' in text
    assert 'gristmill_predictions_total{replica="0"} 3.0' in text
    assert f'data_hash="{HASH}"' in text


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_run_their_own_code_only_and_load_nothing(path, client):
    answer = client().get(path)
    policy = answer.headers["content-security-policy"]
    assert (
        "default-src 'none'" in policy
        and "script-src 'sha256-" in policy
        and "unsafe" not in policy
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(
        r"""(?:src|href)=["']?(?:https?:)?//|\son\w+=|\sstyle=|@import|url\(""", answer.text
    )


def test_answers_carry_careful_headers(client):
    headers = client().get("/healthz").headers
    assert (headers["x-content-type-options"], headers["content-security-policy"]) == (
        "nosniff",
        "default-src 'none'; frame-ancestors 'none'",
    )


def test_a_client_may_not_send_more_pixels_than_the_service_takes(model, stub):
    """The pixels are read from the header: a bomb of a few bytes is never decoded."""

    class Sees(stub):
        card = replace(stub.card, task=IMAGE)

        def prepare(self, queries):
            return [Prepared({"text": "好"}, 1) for _ in queries]

    small = base64.b64encode(pictures(1)[0]["image"]).decode()
    large = base64.b64encode(png(np.zeros((30, 30), np.uint8))).decode()
    pictured = model.model_copy(update={"examples": [{"image": small}]})
    app = build_app(Sees(), pictured, ServeParams(limits={"pixels": 100}))
    with TestClient(app, base_url="http://localhost") as asked:
        assert asked.post("/v1/predict", json={"image": small}).status_code == 200
        refused = asked.post("/v1/predict", json={"inputs": [{"image": small}, {"image": large}]})
    assert refused.status_code == 422
    assert "30 x 30 has more than 100 pixels" in refused.text
    assert large[:20] not in refused.text
