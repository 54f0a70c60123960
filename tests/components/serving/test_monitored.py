"""A watched service over HTTP: answers are logged, labels taken or refused, the latest look told."""

from __future__ import annotations

import json
import threading

import pyarrow.parquet as pq
import pytest
from label_answers import TEXT
from scenario import metric

from components.monitoring.monitor_folder import LATEST, Monitoring
from components.monitoring.params import MonitorParams
from components.monitoring.request_log import read_log
from components.serving.http import request_ids
from components.serving.http.keyring import Key, Keyring
from components.serving.http.monitoring_routes import ReplicaMonitor


@pytest.fixture
def watch(tmp_path):
    """Makes a replica's watch."""
    made = []

    def make(replica="0", **params):
        made.append(ReplicaMonitor(Monitoring(tmp_path, MonitorParams(**params), TEXT), replica))
        return made[-1]

    yield make
    for each in made:
        each.log.close()


def label(asked, id_, label="差评", **more):
    return asked.post("/v1/feedback", json={"id": id_, "label": label, **more})


def test_an_answer_is_logged_and_its_label_waits_for_review(client, watch):
    one = watch(keep_text=True)
    asked = client(monitored=one)
    id_ = asked.post("/v1/predict", json={"inputs": [{"text": "很好"}, {"text": "不行"}]}).json()[
        "id"
    ]
    given = label(asked, id_, item=1)
    assert (given.status_code, given.json()) == (
        202,
        {"id": id_, "item": 1, "status": "waits for review"},
    )
    (kept,) = one.feedback_store.waiting()
    assert (
        kept.id,
        kept.item,
        kept.truth["label"],
        kept.prediction,
        kept.version,
        json.loads(kept.input)["text"],
    ) == (id_, 1, "差评", "差评", "3", "不行")
    assert [row["item"] for row in read_log(one.log.folder, "3").to_pylist()] == [0, 1]
    assert metric(asked, "gristmill_log_rows") == 2


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"id": "f" * 32, "label": "好评"}, 404, "No answer of this id"),
        ({"id": "../../etc/passwd", "label": "好评"}, 404, "No answer of this id"),
        ({"id": "f" * 32, "label": "<script>"}, 422, "is not one of the model's classes"),
        ({"id": "f" * 32, "label": "好评", "item": -1}, 422, "greater than"),
        ({"id": "f" * 32, "label": "好评", "weight": 9}, 422, "not permitted"),
        ({"id": "f" * 99, "label": "好评"}, 422, "at most 64"),
        ({"id": "f" * 32}, 422, "required"),
        ([1], 422, "detail"),
    ],
)
def test_garbage_is_refused_and_leaves_nothing(client, watch, body, status, told):
    one = watch()
    given = client(monitored=one).post("/v1/feedback", json=body)
    assert given.status_code == status
    assert told in json.dumps(given.json())
    assert not one.feedback_store.entries()


def test_an_item_that_was_not_in_the_request_is_unknown(client, watch):
    asked = client(monitored=watch())
    id_ = asked.post("/v1/predict", json={"text": "很好"}).json()["id"]
    assert label(asked, id_, item=1).status_code == 404
    assert label(asked, id_).status_code == 202


def test_an_answer_has_one_label_and_no_more_wait_than_may(client, watch):
    asked = client(monitored=watch(feedback_rows=2))
    ids = [asked.post("/v1/predict", json={"text": "很好"}).json()["id"] for _ in range(3)]
    assert [label(asked, id_, "好评").status_code for id_ in (ids[0], ids[0], ids[1], ids[2])] == [
        202,
        409,
        202,
        503,
    ]


def test_an_answer_that_was_not_sampled_is_unknown(client, watch):
    asked = client(monitored=watch(sample=0.0))
    assert (
        label(asked, asked.post("/v1/predict", json={"text": "很好"}).json()["id"]).status_code
        == 404
    )


def test_another_replica_takes_the_label(client, watch):
    one, other = watch("one"), watch("other")
    id_ = client(monitored=one).post("/v1/predict", json={"text": "很好"}).json()["id"]
    one.log.flush()
    assert label(client(monitored=other), id_).status_code == 202
    assert label(client(monitored=one), id_).status_code == 409


def test_a_label_that_comes_while_its_answer_is_being_written_is_taken(client, watch, monkeypatch):
    one = watch()
    one.log._closing.set()
    one.log._thread.join()
    asked = client(monitored=one)
    begun, on, flush, write = threading.Event(), threading.Event(), one.log.flush, pq.write_table

    def held(*args, **rest):
        begun.set()
        on.wait(60)
        write(*args, **rest)

    def waited():
        on.set()  # whoever waits for the rows lets their writer go on
        flush()

    monkeypatch.setattr(pq, "write_table", held)
    id_ = asked.post("/v1/predict", json={"text": "很好"}).json()["id"]
    writer = threading.Thread(target=flush)  # as the log's own thread does every two seconds
    writer.start()
    assert begun.wait(60)
    monkeypatch.setattr(one.log, "flush", waited)
    try:
        assert label(asked, id_).status_code == 202
    finally:
        on.set()
        writer.join()


def test_a_part_that_is_written_twice_within_a_tick_is_read_twice(client, watch, monkeypatch):
    one = watch()
    asked, stat = client(monitored=one), type(one.folder).stat
    monkeypatch.setattr(type(one.folder), "stat", lambda path, **rest: Still(stat(path, **rest)))
    for _ in range(2):
        assert (
            label(asked, asked.post("/v1/predict", json={"text": "很好"}).json()["id"]).status_code
            == 202
        )


class Still:
    """Facts of a file on a disk whose clock stands."""

    def __init__(self, told):
        self._told, self.st_mtime_ns = told, 1

    def __getattr__(self, name):
        return getattr(self._told, name)


def test_a_label_for_what_another_replica_has_not_logged_yet_is_asked_to_come_again(
    client, watch, monkeypatch
):
    one, other = (client(monitored=watch(name), replica=name) for name in ("one", "other"))
    monkeypatch.setattr(
        "components.monitoring.request_log.RequestLog.flush", lambda self: None
    )  # nothing is logged
    id_ = one.post("/v1/predict", json={"text": "很好"}).json()["id"]
    early = label(other, id_)
    assert (early.status_code, early.headers["Retry-After"]) == (503, "2")
    assert label(one, id_).status_code == 404, "who gave the answer knows that it is not in the log"
    monkeypatch.setattr(request_ids, "_LATELY_S", 0.0)
    assert label(other, id_).status_code == 404, "it has had its time"


def test_a_key_is_wanted_as_for_predict(client, watch):
    asked = client(monitored=watch(), keys=Keyring([Key.of("me", "secret")]))
    assert (
        label(asked, "f" * 32).status_code,
        asked.get("/v1/monitor").status_code,
        asked.get("/monitor").status_code,
    ) == (401, 401, 200)
    assert asked.get("/v1/monitor", headers={"Authorization": "Bearer secret"}).json() == {
        "model": {"name": "stub", "version": "3", "data_hash": "ab" * 32, "bundle": "ef" * 6}
    }


def test_a_log_that_cannot_be_written_stops_no_answer(client, watch, tmp_path):
    one = watch()
    one.log.folder.parent.mkdir(exist_ok=True)
    one.log.folder.write_text("a file where the folder should be", encoding="utf-8")
    asked = client(monitored=one)
    assert asked.post("/v1/predict", json={"text": "很好"}).status_code == 200
    one.log.flush()
    assert asked.post("/v1/predict", json={"text": "很好"}).status_code == 200
    assert metric(asked, "gristmill_log_dropped") >= 1


def test_the_latest_look_is_on_the_gauges_and_in_json(client, watch, tmp_path):
    findings = [
        {"field": name, "rows": 500, "p": p, "adjusted": p, "drifted": p < 0.01, "change": ""}
        for name, p in (("text.length", 0.4), ("text.script", 1e-9))
    ]
    look = {"when": "now", "level": 0.01, "drift": ["text.script"], "findings": findings}
    (tmp_path / LATEST).write_text(
        json.dumps({"version": 3, "windows": 7, "alarms": 1, "inputs": look}), encoding="utf-8"
    )
    asked = client(monitored=watch())
    assert asked.get("/v1/monitor").json()["inputs"] == look
    text = asked.get("/metrics").text
    assert 'gristmill_drift_inputs{field="text.script",version="3"} 1.0' in text
    assert 'gristmill_drift_inputs_p{field="text.length",version="3"} 0.4' in text
    assert 'gristmill_drift_windows{version="3"} 7.0' in text
    (tmp_path / LATEST).write_text("{cut off", encoding="utf-8")
    assert asked.get("/metrics").status_code == 200


def test_a_service_that_is_not_watched_has_no_such_paths(client):
    asked = client()
    assert [asked.get(path).status_code for path in ("/monitor", "/v1/monitor")] == [404, 404]
    assert LATEST not in asked.get("/metrics").text
