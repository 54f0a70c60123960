"""A task with a number as target goes through serving, monitoring and review without a class."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from number_task import NUMBER, NumberEvaluator, Prices, number_task, price

from components.cli import feedback as commands
from components.core.console import console
from components.core.errors import BundleError
from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore
from components.monitoring.monitor_folder import FEEDBACK, LATEST, REQUESTS, Monitoring
from components.monitoring.params import MonitorParams
from components.monitoring.profile import predictions_of
from components.monitoring.profile_schema import profiler_of
from components.orchestration.drift import drift_alerts, drift_check
from components.orchestration.service.service import _answer_lines
from components.serving.http.app import build_app
from components.serving.http.messages import ModelInfo
from components.serving.http.monitoring_routes import ReplicaMonitor

# A fixture.
__all__ = ["number_task"]
MODEL = ModelInfo(name="prices", version="1", data_hash="ab" * 32)
PARAMS = MonitorParams(window=50, labels=20, keep_text=True, rows_per_s=10_000)


def validation_profile(evaluator: Any, seed: int = 1) -> dict[str, Any]:
    """Return the profile of answers with errors of one unit, as a card has it."""
    rng = np.random.default_rng(seed)
    truths = rng.normal(5, 2, 400)
    answers = [price(float(value)) for value in truths + rng.normal(0, 1, 400)]
    predictions = predictions_of(evaluator, answers, truths.tolist())
    return dict(json.loads(json.dumps({"predictions": predictions})))


@pytest.fixture
def watch(number_task: NumberEvaluator, tmp_path: Path) -> Iterator[ReplicaMonitor]:
    assert number_task.feedback.noun == "value"
    monitor = ReplicaMonitor(Monitoring(tmp_path, PARAMS, NUMBER))
    yield monitor
    monitor.log.close()


@pytest.fixture
def client(watch: ReplicaMonitor, number_task: NumberEvaluator) -> TestClient:
    app = build_app(Prices(validation_profile(number_task)), MODEL, monitored=watch)
    return TestClient(app, base_url="http://localhost")


def ask(client: TestClient, value: float, size: float = 0.0) -> str:
    """Return the id of the answer to a text and a number."""
    answer = client.post("/v1/predict", json={"text": str(value), "size": size}).json()
    assert answer["predictions"][0]["value"] == value + size
    return str(answer["id"])


def send(client: TestClient, id_: str, value: Any) -> Any:
    return client.post("/v1/feedback", json={"id": id_, "value": value})


def test_the_model_is_described_by_its_targets(client: TestClient) -> None:
    told = client.get("/v1/model").json()
    assert (told["smallest"], told["largest"], told["explains"]) == (0.0, 9.0, False)
    assert list(told)[5:9] == ["title", "task", "smallest", "largest"]
    schema = client.get("/openapi.json").json()["components"]["schemas"]["Feedback"]
    assert list(schema["properties"]) == ["id", "item", "value"]
    assert schema["additionalProperties"] is False


def test_a_number_is_taken_as_the_truth(client: TestClient, watch: ReplicaMonitor) -> None:
    id_ = ask(client, 3, size=0.25)
    assert send(client, id_, "much").status_code == 422
    refused = send(client, id_, 1e6)
    assert refused.json() == {
        "detail": [{"loc": ["body", "value"], "msg": "is far beyond the values of training"}]
    }
    assert send(client, id_, 3.5).status_code == 202
    again = send(client, id_, 3.5)
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "This answer has a value already",
    )
    (entry,) = watch.feedback_store.waiting()
    assert (entry.truth, entry.prediction, entry.probability) == ({"value": 3.5}, "3.25", None)
    assert json.loads(str(entry.input)) == {"text": "3", "size": 0.25}
    (path,) = (watch.folder / FEEDBACK).iterdir()
    row = json.loads(path.read_text(encoding="utf-8"))
    assert list(row)[:4] == ["id", "item", "value", "when"]
    assert FeedbackEntry.from_row(row) == entry


def test_the_page_shows_the_number_by_the_script_of_the_task(client: TestClient) -> None:
    for path in ("/", "/monitor"):
        page = client.get(path)
        assert "answerElements" in page.text and "probabilit" not in page.text
        assert "'sha256-" in page.headers["Content-Security-Policy"]


def test_lines_of_a_terminal_have_no_bars(number_task: NumberEvaluator) -> None:
    assert _answer_lines(number_task.summary(price(3.5))) == ["3.5 (2.5 to 4.5)"]
    assert _answer_lines([("a", 0.5)]) == [f"  50.0%  {'█' * 15:30}  a"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"errors": {"kind": "numbers", "rows": 0, "edges": [1.0], "below": [1]}}, "errors.rows"),
        ({"fields": {"prediction.label": {}}}, "prediction.label"),
        ({"fields": {"value": {"kind": "names", "rows": 1, "counts": {}}}}, "not numbers"),
        ({"fields": {"size": {"kind": "names", "rows": 1, "counts": {}}}}, "no feature"),
    ],
)
def test_a_profile_from_outside_is_validated_by_the_task(
    number_task: NumberEvaluator, change: dict[str, Any], reason: str
) -> None:
    good = validation_profile(number_task)
    profiler_of(NUMBER, good)
    with pytest.raises(BundleError, match=reason):
        profiler_of(NUMBER, {"predictions": good["predictions"] | change})


def _id(number: int) -> str:
    return f"{number:x}".ljust(32, "f")


class Project:
    """A pipeline of numbers whose version 1 has answered."""

    def __init__(self, folder: Path, profile: dict[str, Any]) -> None:
        self.root = folder
        self.profile = profile
        self.lines: list[str] = []
        self.params: Any = SimpleNamespace(
            name="prices",
            task=NUMBER,
            monitor=PARAMS,
            sections={"ingest": SimpleNamespace(columns={"price": "cost"})},
        )
        self.folder = drift_check.monitoring(folder, self.params).folder
        self.store = FeedbackStore(self.folder / FEEDBACK, 1000)

    def check(self) -> dict[str, Any]:
        return drift_check.check_drift(self.root, self.params, self.lines.append)

    def add_truths(self, errors: Sequence[float], start: int = 0) -> None:
        """Store truths that differ from their answers by some errors."""
        for number, error in enumerate(errors, start):
            asked = json.dumps({"text": f"room {number}", "size": 12.5})
            truth = {"value": 5.0 + float(error)}
            entry = FeedbackEntry(_id(number), 0, truth, time.time(), "1", "5.0", None, asked)
            self.store.add(entry)


@pytest.fixture
def project(
    number_task: NumberEvaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    made = Project(tmp_path, validation_profile(number_task))
    monkeypatch.setattr(drift_check, "_champion", lambda *_: (1, made.profile))
    monkeypatch.setattr(drift_check, "_WRITE_DELAY_S", 0.0)
    monkeypatch.setattr(drift_alerts, "_log", lambda *_: None)
    monkeypatch.setattr(commands, "_open", lambda _: (made.params, made.store))
    monkeypatch.setattr(commands, "root", lambda: tmp_path)
    monkeypatch.setattr(commands, "choose_pipeline", lambda *_: "prices")
    monkeypatch.setattr(commands, "pipeline_names", lambda _: ["prices"])
    return made


def test_larger_errors_are_drift_and_smaller_ones_are_not(project: Project) -> None:
    rng = np.random.default_rng(2)
    project.add_truths(rng.normal(0, 0.2, 20))
    state = project.check()
    assert (state["error"]["drift"], state["waiting"]["error"]) == ([], [0, 20])
    project.add_truths(rng.normal(0, 4, 20), start=100)
    state = project.check()
    assert state["error"]["drift"] == ["error"]
    assert state["error"]["findings"][0]["change"].startswith("median error 0.7")
    assert state["values_until"] > 0
    assert "DRIFT of prices version 1: error (median error" in project.lines[-1]


def test_other_answers_are_drift_of_a_number(project: Project) -> None:
    watch = ReplicaMonitor(Monitoring(project.folder, PARAMS, NUMBER))
    answers = watch.recorder(Prices({}).card, "1")
    queries = [SimpleNamespace(text=f"room {number}", size=None) for number in range(50)]
    answers.log_sample("a" * 32, queries, [price(9.0 + number / 50) for number in range(50)])
    watch.log.close()
    assert list((project.folder / REQUESTS).glob("*.parquet"))
    state = project.check()
    assert state["inputs"]["drift"] == ["value"]
    text = watch.metrics().decode()
    assert 'gristmill_drift_inputs{field="value",version="1"} 1.0' in text
    assert "gristmill_drift_error" in text and "accuracy" not in text
    assert json.loads((project.folder / LATEST).read_text(encoding="utf-8")) == state


def test_a_person_reviews_numbers(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.add_truths([0.0, 1.5])
    with console.capture() as captured:
        commands.list_()
    listed = captured.get()
    assert "value" in listed and "6.5" in listed and "room 1 / 12.5" in listed
    assert "2 wait, 1 of them with another value than was answered" in listed
    commands.accept("li", ["1"])
    (path,) = (project.root / "data" / "feedback" / "prices").glob("accepted-*.jsonl")
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "id": f"feedback-{_id(1)}-0",
        "text": "room 1",
        "size": 12.5,
        "cost": "6.5",
    }
    commands.reject("li", all_=True)
    commands.list_()
    assert capsys.readouterr().out.endswith("no value waits for review\n")
