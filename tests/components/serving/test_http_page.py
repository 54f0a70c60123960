"""The page on the HTTP API has the routes, codes and limits of the app, and its examples are answered."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from label_answers import TEXT

from components.monitoring.monitor_folder import Monitoring
from components.monitoring.params import MonitorParams
from components.serving.http.keyring import Key, Keyring
from components.serving.http.monitoring_routes import ReplicaMonitor
from components.serving.http.routes import PROBLEMS
from components.serving.params import ServeParams
from tests.structure.import_graph import ROOT

PAGES = ("docs/en/reference/http-api.md", "docs/zh/reference/http-api.md")
# Answers of every route, decided before the route is known.
HOST_CODES = {400, 403, 421}
# Routes that the description leaves out, because they answer no JSON.
UNDESCRIBED = {"GET /metrics", "GET /openapi.json", "GET /", "GET /docs", "GET /monitor"}


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[ReplicaMonitor]:
    monitor = ReplicaMonitor(Monitoring(tmp_path, MonitorParams(), TEXT), "0")
    yield monitor
    monitor.log.close()


def page_text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def route_rows(page: str) -> dict[str, tuple[bool, set[int]]]:
    """Return each route of a page: whether it wants a key, and its codes."""
    rows = {}
    for line in page_text(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for route in re.findall(r"`((?:GET|POST) /[^\s`]*)`", cells[0]):
            rows[route] = (cells[2] in ("yes", "是"), {int(code) for code in cells[3].split(", ")})
    return rows


@pytest.mark.parametrize("page", PAGES)
def test_the_routes_and_codes_are_those_of_the_description(
    page: str, client: Callable[..., TestClient], monitored: ReplicaMonitor
) -> None:
    keys = Keyring([Key.of("ann", "s3cret")])
    app = client(monitored=monitored, keys=keys)
    paths = app.get("/openapi.json").json()["paths"]
    rows = route_rows(page)
    described = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            described[f"{method.upper()} {path}"] = {*map(int, operation["responses"])}
    assert rows.keys() == described.keys() | UNDESCRIBED
    for route, codes in described.items():
        assert rows[route][1] == codes - HOST_CODES, route
    for route, (needs_key, _) in rows.items():
        method, path = route.split()
        assert (app.request(method, path).status_code == 401) == needs_key, route


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_are_answered(
    page: str, client: Callable[..., TestClient], monitored: ReplicaMonitor
) -> None:
    lines = re.findall(r"^curl -s (.+)$", page_text(page), re.MULTILINE)
    called = set()
    # The shutdown flushes the log, and the start makes the service ready.
    with client(monitored=monitored) as app:
        id_ = app.post("/v1/predict", json={"text": "质量很好"}).json()["id"]
        for line in lines:
            # The classes of the tests' task have other names than those of the page.
            words = line.replace("$id", id_).replace("negative", "差评")
            url, *options = shlex.split(words)
            path = url.removeprefix("http://localhost:8000")
            values = dict(zip(options[::2], options[1::2], strict=True))
            headers = dict([values["-H"].split(": ")]) if "-H" in values else {}
            method = "POST" if "-d" in values else "GET"
            content = values.get("-d", "").encode()
            answer = app.request(method, path, headers=headers, content=content)
            assert answer.status_code in (200, 202), line
            called.add(f"{method} {path}")
    pages_of_people = {"GET /", "GET /docs", "GET /monitor"}
    assert called == route_rows(page).keys() - pages_of_people


def test_the_shown_answers_have_the_fields_of_the_app(
    client: Callable[..., TestClient], monitored: ReplicaMonitor
) -> None:
    shown = re.findall(r"^```json\n(.*?)^```", page_text(PAGES[0]), re.MULTILINE | re.DOTALL)
    predicted, received, refused = map(json.loads, shown)
    app = client(monitored=monitored)
    answer = app.post("/v1/predict", json={"text": "质量很好"}).json()
    assert answer.keys() == predicted.keys()
    assert answer["model"].keys() == predicted["model"].keys()
    assert answer["predictions"][0].keys() >= predicted["predictions"][0].keys()
    truth = {"id": answer["id"], "label": "差评"}
    assert app.post("/v1/feedback", json=truth).json() == received | {"id": answer["id"]}
    wrong = app.post("/v1/predict", json={"inputs": [{"text": "好"}, {"text": " "}]})
    assert wrong.json() == refused


@pytest.mark.parametrize("page", PAGES)
def test_the_errors_and_limits_are_those_of_the_code(page: str) -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d{3}) \|", page_text(page), re.MULTILINE)}
    assert codes == {*PROBLEMS, 404, 405, 409, 500}
    params: Any = ServeParams().model_dump()
    rows = re.findall(r"^\| `serve\.([\w.]+)` \| (\S+) \|", page_text(page), re.MULTILINE)
    for key, default in rows:
        value = params
        for part in key.split("."):
            value = value[part]
        assert json.dumps(value) == default, key
    limits = {key.removeprefix("limits.") for key, _ in rows if key.startswith("limits.")}
    assert limits == params["limits"].keys()


def test_a_route_refuses_another_method(client: Callable[..., TestClient]) -> None:
    assert client().get("/v1/predict").status_code == 405


def test_both_languages_have_the_same_blocks() -> None:
    blocks = [
        re.findall(r"^```.*?^```", page_text(page), re.MULTILINE | re.DOTALL) for page in PAGES
    ]
    assert blocks[0] == blocks[1]
