"""A stranger's CSV becomes a released model that answers over HTTP, by `gristmill new` and one run."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands.project import SMALL, Done, Project
from tests.docs.test_files_page import uncovered
from tests.ports import free_port

pytestmark = pytest.mark.pipeline
STAGES = (
    "ingest",
    "clean",
    "augment",
    "tokenize",
    "train",
    "tune",
    "compress",
    "evaluate",
    "serve",
)
CLASSES = {"positive", "negative"}
GOOD = "Excellent! Would come back any time. Highly recommended."


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with a pipeline `reviews` that has not run yet."""
    project = Project(tmp_path_factory.mktemp("stranger") / "p")
    done = project.gristmill(
        "new", "reviews", "--task", "text_classification", "--data", "docs/examples/reviews.csv"
    )
    assert done.code == 0, done.error
    assert (
        "classes: 2 in 360 rows" in done.out
        and done.out.splitlines()[-1] == "next: gristmill run reviews"
    )
    # All steps, those too that new skips for so few rows, and each as a Ray task.
    every_step = {"train": {**SMALL["train"], "architecture": "textcnn"}}
    every_step |= {"cluster": {"in_process_rows": 0}}
    project.edit("pipelines/reviews/params.yaml", SMALL | every_step)
    return project


@pytest.fixture(scope="module")
def ran(stranger: Project) -> tuple[Project, Done, Done]:
    """The same after `gristmill run reviews`, how that ended, and how a second run ended that was begun meanwhile."""
    process = stranger.start("run", "reviews")
    lock = stranger.root / "data/.state/run.lock"
    while not (lock.exists() and lock.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    second = stranger.gristmill("run", "reviews")
    first = stranger.finish(process)
    assert first.code == 0, first.out + first.error
    return stranger, first, second


@pytest.fixture
def project(ran: tuple[Project, Done, Done]) -> Project:
    """The project with a champion."""
    return ran[0]


def report(project: Project, name: str) -> Any:
    return json.loads((project.root / "data/reviews/reports" / name).read_text(encoding="utf-8"))


def test_a_second_run_meanwhile_says_who_is_running(ran: tuple[Project, Done, Done]) -> None:
    _, _, second = ran
    assert second.code == 4
    assert re.match(
        r"error: a run of this project is under way already: process \d+ \(gristmill run reviews\), since \d{4}-",
        second.error,
    ), second.error
    assert "-> wait for it or end it" in second.error


def test_a_retrain_right_after_it_finds_nothing_new(project: Project) -> None:
    done = project.gristmill("retrain", "reviews")
    assert (
        done.code == 0 and "nothing new since the run of" in done.out and "(promoted)" in done.out
    ), done.out + done.error


def test_the_run_ends_with_leaderboard_metrics_and_report(ran: tuple[Project, Done, Done]) -> None:
    project, done, _ = ran
    board = report(project, "leaderboard.json")["candidates"]
    winner = next(row for row in board if row["winner"])
    assert {"trained", "tuned", "pruned", "int8", "distilled", "classical"} <= {
        row["name"] for row in board
    }
    for row in board:
        assert (
            0 <= row["test"]["accuracy"] <= 1
            and 0 <= row["validation"]["accuracy"] <= 1
            and row["size_bytes"] > 0
            and row["latency_ms"]["p50"] > 0
        )
    assert report(project, "metrics.json")["accuracy"] == winner["test"]["accuracy"]
    page = (project.root / "data/reviews/reports/report.html").read_text(encoding="utf-8")
    assert all(name in page for name in CLASSES)
    # and the last lines say what there is and where
    assert f"* {winner['name']}" in done.out
    assert (
        "model    reviews version 1: promoted" in done.out
        and "report   data/reviews/reports/report.html" in done.out
    )
    assert "next     gristmill serve reviews" in done.out


def test_nothing_is_left_behind(project: Project) -> None:
    assert not (project.root / "data/.state/cluster.json").exists()
    left = [
        state.relative_to(project.root).as_posix()
        for stage in STAGES
        for state in project.root.glob(f"data/reviews/.state/{stage}/*")
    ]
    assert left == [
        "data/reviews/.state/tune/studies"
    ]  # the small record of the search, which more trials would extend
    assert not project.processes()


def test_dvc_shows_the_metrics(project: Project) -> None:
    done = project.dvc("metrics", "show", "--json")
    shown = json.loads(done.out)[""]["data"]
    assert (
        shown["data/reviews/reports/metrics.json"]["data"]["accuracy"]
        == report(project, "metrics.json")["accuracy"]
    )


def test_a_second_run_does_nothing(project: Project) -> None:
    before, log = written(project), project.root / "data/.state/cluster.log"
    started = log.stat().st_mtime_ns
    done = project.gristmill("run", "reviews")
    assert done.code == 0, done.error
    for stage in STAGES:
        assert f"Stage 'pipelines/reviews/dvc.yaml:{stage}' didn't change, skipping" in done.out
    assert "Running stage" not in done.out
    assert log.stat().st_mtime_ns == started, "Ray was started for nothing"
    assert written(project) == before


def written(project: Project) -> dict[str, str]:
    """All files of the pipeline but what a run remembers of its own files."""
    found = project.hashes("data/reviews")
    return {name: digest for name, digest in found.items() if not name.startswith(".state/")}


def test_predict_answers_and_refuses(project: Project) -> None:
    done = project.gristmill("predict", "--pipeline", "reviews", GOOD)
    assert done.code == 0, done.error
    assert {line.split()[-1] for line in done.out.splitlines()[:2]} == CLASSES
    assert "reviews version 1" in done.out
    done = project.gristmill("predict", "--pipeline", "reviews", "!!!")
    assert done.code == 2
    assert done.error.startswith("error: '!!!' cannot be answered: empty")


def test_a_port_that_is_taken(project: Project) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = project.gristmill("serve", "reviews", "--port", str(port))
    assert done.code == 4
    assert done.error.startswith(
        f"error: --port: cannot listen on 127.0.0.1:{port}: Address already in use"
    )
    assert "-> choose another with --port N" in done.error
    assert not (project.root / "data/.state/cluster.json").exists()


def test_a_public_address_wants_a_key(project: Project) -> None:
    done = project.gristmill("serve", "reviews", "--host", "0.0.0.0", "--port", str(free_port()))
    assert done.code == 4
    assert "0.0.0.0 can be reached from other machines, and no API key is set" in done.error


@pytest.fixture(scope="module")
def service(
    ran: tuple[Project, Done, Done],
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """A client of `gristmill serve reviews`, and its process."""
    project, port = ran[0], free_port()
    process = project.start("serve", "reviews", "--port", str(port))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
        while not up(client):
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)
        yield client, process
    if process.poll() is None:
        process.terminate()
        process.wait(60)


def up(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_one_item_and_several(
    project: Project, service: tuple[httpx.Client, subprocess.Popen[str]]
) -> None:
    client, _ = service
    data_hash = project.hashes("data/reviews/clean")["manifest.json"]
    bundle = project.hashes("data/reviews/models/winner")["bundle.json"][:12]
    for body, count in (({"text": GOOD}, 1), ({"inputs": [{"text": GOOD}, {"text": "很好"}]}, 2)):
        answer = client.post("/v1/predict", json=body)
        assert answer.status_code == 200
        assert answer.json().keys() == {"predictions", "model", "id"}
        assert answer.json()["model"] == {
            "name": "reviews",
            "version": "1",
            "data_hash": data_hash,
            "bundle": bundle,
        }
        assert len(answer.json()["predictions"]) == count
        for prediction in answer.json()["predictions"]:
            assert prediction.keys() == {"label", "probability", "probabilities", "abstained"}
            assert prediction["abstained"] is False
            assert prediction["probabilities"].keys() == CLASSES
            assert (
                prediction["probability"]
                == prediction["probabilities"][prediction["label"]]
                == max(prediction["probabilities"].values())
            )
            assert sum(prediction["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "body",
    [
        '{"text": "sesame',
        '{"text": 17, "sesame": 1}',
        '["sesame"]',
        '{"inputs": [{"txt": "sesame"}]}',
        '{"inputs": "sesame"}',
        '{"text": ""}',
    ],
)
def test_what_is_no_question_is_refused_without_an_echo(
    service: tuple[httpx.Client, subprocess.Popen[str]], body: str
) -> None:
    answer = service[0].post(
        "/v1/predict", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
    assert (
        "sesame" not in answer.text.replace('"loc":["body","sesame"]', "")
        and "17" not in answer.text
    )


def test_a_body_over_a_mebibyte(service: tuple[httpx.Client, subprocess.Popen[str]]) -> None:
    answer = service[0].post("/v1/predict", json={"text": "x" * (1 << 20)})
    assert answer.status_code == 413


def test_the_pages_are_open(service: tuple[httpx.Client, subprocess.Popen[str]]) -> None:
    client, _ = service
    assert "/v1/predict" in client.get("/openapi.json").json()["paths"]
    assert client.get("/").status_code == 200 and client.get("/docs").status_code == 200


def test_a_second_service_says_who_is_there(
    project: Project, service: tuple[httpx.Client, subprocess.Popen[str]]
) -> None:
    done = project.gristmill("serve", "reviews", "--port", str(free_port()))
    assert done.code == 4
    assert (
        f"a service of pipeline reviews is under way already: process {service[1].pid} (gristmill serve reviews"
        in done.error
    )
    assert up(service[0])


def test_sigterm_ends_the_service_and_nothing_stays(
    project: Project, service: tuple[httpx.Client, subprocess.Popen[str]]
) -> None:
    client, process = service
    record = json.loads((project.root / "data/.state/cluster.json").read_text())
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=90)
    assert process.returncode == 0, error
    assert "answers at" in out and out.splitlines()[-1] == "stopping …" and "Traceback" not in error
    assert not up(client)
    assert (
        not Path(record["temp"]).exists()
        and not (project.root / "data/.state/cluster.json").exists()
    )
    assert not project.processes()


def test_the_page_of_mlflow_goes_with_its_command(project: Project) -> None:
    port = free_port()
    process = project.start("mlflow", "up", "--port", str(port))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=5) as client:
        deadline = time.monotonic() + 120
        while not answers(client):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert not answers(client)
    assert not project.processes()


def test_each_file_that_was_written_is_on_the_page_of_files(project: Project) -> None:
    words = ["git", "-c", "core.quotePath=false", "ls-files"]
    listed = subprocess.run(words, cwd=project.root, capture_output=True, text=True, check=True)
    known = set(listed.stdout.splitlines())
    written = []
    for path in project.root.rglob("*"):
        name = path.relative_to(project.root).as_posix()
        is_of_tools = name.startswith(".git/") or "__pycache__" in name
        if path.is_file() and name not in known and not is_of_tools:
            written.append(name)
    assert "data/reviews/models/winner/bundle.json" in written
    assert uncovered(written) == []


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code == 200
    except httpx.TransportError:
        return False


def test_a_fast_preset_leads_from_a_table_to_a_winner(ran: tuple[Project, Done, Done]) -> None:
    project = ran[0]
    data = ("--data", "docs/examples/reviews.csv")
    made = project.gristmill("new", "quick", *data, "--preset", "fast", "-y")
    assert "preset fast: train.classical.models" in made.out, made.error
    done = project.gristmill("run", "quick")
    assert done.code == 0, done.error
    reports = project.root / "data/quick/reports"
    board = json.loads((reports / "leaderboard.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in board["candidates"] if row["winner"]]
    assert "tuned" not in {row["name"] for row in board["candidates"]}
