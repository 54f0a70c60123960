"""Answers that are marked as not sure: over HTTP, on /metrics, on both pages."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from browser import CHROMIUM, tab
from fastapi import FastAPI
from label_answers import TEXT
from stage_runner import StageRunner, sentences

from components.core.bundles import Card
from components.core.tables import read_table
from components.inference.predictor import Predictor
from components.monitoring.monitor_folder import Monitoring
from components.monitoring.params import MonitorParams
from components.serving.http.app import build_app
from components.serving.http.monitoring_routes import ReplicaMonitor
from components.serving.params import ServeParams
from components.tasks import base

# A folder, for a person who wants to look.
SHOWN = os.environ.get("GRISTMILL_SCREENSHOTS")
PARAMS = ServeParams(abstain=0.05)
TEXTS = [row["text"] for row in sentences(60, seed=9)]


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A linear model that answers the surer half of its questions."""
    runner = StageRunner.make(tmp_path_factory.mktemp("runner"), sentences(200)).clean()
    classes = runner.manifest()["classes"]
    baseline = base.baselines(runner.task).baselines["classical"]
    sections = (runner.sections["train"], runner.sections["clean"])
    parts = [read_table(runner.root / "clean", name) for name in ("train", "validation")]
    arrays, files = baseline.fit(parts[0], {"classes": classes}, *sections, 7, parts[1])
    card = Card(runner.task, "numpy", "classical", {}, {"classes": classes}, 7, "", "", ["train"])
    predictor = Predictor(card, baseline.featurizer(files), baseline.scorer(arrays))
    texts = parts[1]["text"].to_pylist()
    answers = predictor.predict([predictor.evaluator.Query(text=text) for text in texts])
    predictor.least_confidence = sorted(answer.probability for answer in answers)[len(answers) // 2]
    return predictor


@pytest.fixture
def url(doubtful: Predictor, model: Any, tmp_path: Path) -> Iterator[str]:
    """The service of that model, watched, on a port."""
    watch = ReplicaMonitor(Monitoring(tmp_path, MonitorParams(), TEXT), "0")
    app: FastAPI = build_app(doubtful, model, PARAMS, monitored=watch)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    watch.log.close()


def test_a_model_answers_only_some_questions(client: Any, doubtful: Predictor) -> None:
    asked = client(doubtful, PARAMS)
    body = {"inputs": [{"text": text} for text in TEXTS]}
    predictions = asked.post("/v1/predict", json=body).json()["predictions"]
    unsure = sum(prediction["abstained"] for prediction in predictions)
    assert 0 < unsure < len(TEXTS)
    assert all(prediction["label"] for prediction in predictions)
    counted = asked.get("/metrics").text
    assert f'sure="not_sure"}} {unsure}.0' in counted
    assert f'sure="sure"}} {len(TEXTS) - unsure}.0' in counted


def test_both_counts_are_there_before_the_first_answer(client: Any) -> None:
    text = client().get("/metrics").text
    assert 'gristmill_answers_total{replica="0",sure="sure"} 0.0' in text
    assert 'gristmill_answers_total{replica="0",sure="not_sure"} 0.0' in text


def test_the_share_is_told_only_where_a_model_abstains(client: Any, tmp_path: Path) -> None:
    watch = ReplicaMonitor(Monitoring(tmp_path, MonitorParams(), TEXT), "0")
    never = client(monitored=watch)
    never.post("/v1/predict", json={"text": "good"})
    assert never.get("/v1/monitor").json().get("answers") is None
    asked = client(None, PARAMS, monitored=watch)
    asked.post("/v1/predict", json={"inputs": [{"text": "good"}, {"text": "bad"}]})
    assert asked.get("/v1/monitor").json()["answers"] == {"sure": 2, "not_sure": 0}
    watch.log.close()


WORDS = {
    "zh": ("zh-CN", "不确定：低于", "不确定：本副本的"),
    "en": ("en-US", "Not sure: below", "Not sure: 1 of 2 answers"),
}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("name", WORDS)
def test_the_pages_say_that_an_answer_is_not_sure(
    name: str,
    url: str,
    doubtful: Predictor,
    tmp_path: Path,
) -> None:
    language, notice, share = WORDS[name]
    answers = doubtful.predict([doubtful.evaluator.Query(text=text) for text in TEXTS])
    order = sorted(range(len(TEXTS)), key=lambda place: answers[place].probability)
    questions = ((TEXTS[order[0]], True), (TEXTS[order[-1]], False))
    with tab(tmp_path / "chromium") as page:
        page.open(f"{url}/", 390, language)
        page.wait("document.getElementById('go')?.disabled === false")
        for text, unsure in questions:
            page.see(f"document.querySelector('textarea').value = {json.dumps(text)}")
            page.see("document.getElementById('go').click()")
            hidden = json.dumps(not unsure)
            page.wait(
                "!document.getElementById('result').hidden"
                f" && document.getElementById('unsure').hidden === {hidden}"
                " && !document.getElementById('result').classList.contains('stale')"
            )
            assert page.see("document.getElementById('result').className") == "unsure" * unsure
            if SHOWN:
                page.shoot(Path(SHOWN) / f"sure-{name}-{unsure}.png")
        assert page.see("document.getElementById('unsure').textContent").startswith(notice)
        assert page.see("document.documentElement.scrollWidth") <= 390
        page.open(f"{url}/monitor", 1200, language)
        page.wait(f"document.getElementById('about')?.textContent.includes({json.dumps(share)})")
        if SHOWN:
            page.shoot(Path(SHOWN) / f"monitor-{name}.png")
        assert not page.complaints
