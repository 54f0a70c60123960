"""`gristmill serve --bundle` answers with a bundle alone: no Ray, no registry, no library of the pipeline."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from champions import COLUMNS, ROWS, TEXTS, crown, network_bundle, project_of, table_rows
from fastapi.testclient import TestClient
from packaging.requirements import Requirement
from stage_runner import TINY, pictures, sentences

from components.core.bundles import CARD, Card, read_bundle, write_bundle
from components.core.errors import BundleError, EnvironmentFault, GristmillError, InputError
from components.inference.predictor import GRAPH
from components.orchestration.export.export_folder import export_champion
from components.orchestration.service.bundle_service import CHECKS, hold_bundle, open_bundle
from components.serving.http.app import build_app
from components.serving.http.keyring import Key, Keyring
from tests.components.training.small_bundles import (
    CLASSES,
    exchange,
    numpy_bundle,
    onnx_bundle,
    torch_bundle,
)
from tests.structure.import_graph import ROOT

TABLE = "tabular_classification"
HEAVY = (
    *("torch", "ray", "mlflow", "dvc", "sklearn", "pandas", "matplotlib", "onnx", "onnxscript"),
    *("optuna", "sqlalchemy", "jinja2", "ruamel", "httpx", "apscheduler", "tzlocal", "openpyxl"),
)
ANSWER = """
import json, sys
from pathlib import Path
import components.cli.main
from components.orchestration.service.bundle_service import open_bundle
from components.serving.http.app import build_app
folder, query = sys.argv[1:]
predictor, model = open_bundle(Path(folder), None)
build_app(predictor, model).openapi()
question = predictor.evaluator.Query.model_validate_json(query)
answer = predictor.predict([question])[0].model_dump(mode="json")
print(json.dumps([answer, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
BLOCK = """
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent)
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion on texts, as ONNX."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [{**row, "title": ""} for row in sentences(120)]
    return exported(folder, "default", ("text_classification", rows, "textcnn"), TEXTS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion on pictures, as ONNX."""
    folder = tmp_path_factory.mktemp("images")
    queries = [{"image": base64.b64encode(row["image"]).decode()} for row in pictures(3, seed=5)]
    return exported(folder, "digits", ("image_classification", pictures(30), "convnet"), queries)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion on rows of a table, as ONNX."""
    folder = tmp_path_factory.mktemp("tables")
    rows = table_rows({"label": "差评"})
    return exported(folder, "penguins", (TABLE, rows, "mlp"), ROWS)


def exported(folder: Path, pipeline: str, network: tuple[str, Any, str], queries: Any) -> Path:
    """Write a network with random weights, release it, and export it as ONNX."""
    task, rows, architecture = network
    root = project_of(folder / "p")
    config = TINY.get(architecture, {"hidden": [8]})
    inputs = COLUMNS if task == TABLE else None
    bundle = network_bundle(folder / "b", task, rows, architecture, config, inputs)
    crown(root, pipeline, bundle, queries)
    export_champion(root, pipeline, folder / "model", "onnx")
    return folder / "model"


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classical baseline of a table, with trees of LightGBM."""
    import numpy as np
    import pyarrow as pa
    from safetensors.numpy import save

    from components.inference.predictor import ARRAYS
    from components.tasks import base

    chosen = base.schema(TABLE).with_inputs({"size": "number", "city": "category"}).chosen
    drawn = np.random.default_rng(0)
    size = drawn.uniform(0, 1, 120)
    labels = [CLASSES[int(value > 0.5)] for value in size]
    rows = pa.table({"size": size, "city": ["Bonn", "Nice"] * 60, "label": labels})
    facet = base.baselines(TABLE)
    arrays, files = facet.baselines["classical"].fit(
        rows,
        {"classes": CLASSES},
        facet.options["train"].model_validate({"classical": {"folds": 2, "trees": 5}}),
        base.schema(TABLE).options["clean"].model_validate({}),
        7,
        inputs=chosen,
    )
    card = Card(
        task=TABLE,
        runtime="numpy",
        architecture="classical",
        config={},
        targets={"classes": CLASSES},
        seed=7,
        data_hash="ab" * 32,
        params_hash="cd" * 32,
        origin=["fit"],
        profile={"inputs": chosen},
    )
    folder = tmp_path_factory.mktemp("trees") / "classical"
    named = {f"encoder/{key}": content for key, content in files.items()}
    write_bundle(folder, card, {ARRAYS: save(dict(arrays)), **named})
    return folder


def client(folder: Path, keys: Keyring | None = None) -> TestClient:
    """Return a client of the app of a bundle."""
    predictor, model = open_bundle(folder, None)
    return TestClient(build_app(predictor, model, keys=keys), base_url="http://localhost")


@pytest.mark.parametrize("kind", ["texts", "images", "tables"])
def test_an_export_answers_as_the_champion(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    card, files = read_bundle(folder)
    assert card.runtime == "onnx"
    assert GRAPH in files
    cases = json.loads((folder / CHECKS).read_text(encoding="utf-8"))["cases"]
    with client(folder) as asked:
        assert asked.get("/readyz").json()["status"] == "ok"
        answer = asked.post("/v1/predict", json={"inputs": [case["query"] for case in cases]})
        described = asked.get("/v1/model").json()
        page = asked.get("/")
        metrics = asked.get("/metrics").text
        absent = [asked.get("/monitor"), asked.get("/v1/monitor"), asked.post("/v1/feedback")]
    assert answer.status_code == 200
    assert answer.json()["model"]["name"] == "model"
    assert answer.json()["model"]["data_hash"] == card.data_hash
    for case, prediction in zip(cases, answer.json()["predictions"], strict=True):
        assert prediction["label"] == case["answer"]["label"]
        assert prediction["probability"] == pytest.approx(case["answer"]["probability"], abs=1e-4)
    assert len(described["examples"]) == len(cases)
    assert page.status_code == 200
    assert "script-src" in page.headers["Content-Security-Policy"]
    assert 'path="/v1/predict"' in metrics
    assert [response.status_code for response in absent] == [404, 404, 404]


def test_a_request_is_limited_as_by_the_service_over_ray(tables: Path) -> None:
    with client(tables) as asked:
        nobody = asked.post("/v1/predict", json=ROWS[0], headers={"host": "evil.example"})
        many = asked.post("/v1/predict", json={"inputs": ROWS * 30})
        wrong = asked.post("/v1/predict", json={"inputs": [{"town": "Bonn"}]})
    assert [nobody.status_code, many.status_code, wrong.status_code] == [421, 422, 422]


def test_keys_are_wanted_where_there_are_some(tables: Path) -> None:
    with client(tables, Keyring([Key.of("ann", "secret")])) as asked:
        refused = asked.post("/v1/predict", json=ROWS[0])
        headers = {"Authorization": "Bearer secret"}
        answered = asked.post("/v1/predict", json=ROWS[0], headers=headers)
    assert [refused.status_code, answered.status_code] == [401, 200]


@pytest.mark.parametrize("make", [numpy_bundle, onnx_bundle])
def test_an_answer_imports_nothing_of_the_pipeline(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    answer, modules = run_answer("", make(tmp_path / "bundle"), {"text": "酒店 hotel lovely"})
    assert answer["label"] in CLASSES
    assert "fastapi" in modules
    assert set(modules).isdisjoint(HEAVY)


@pytest.mark.parametrize("kind", ["texts", "images", "tables", "trees"])
def test_the_base_dependencies_are_enough(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    query: Any = {"size": 0.9, "city": "Bonn"}
    if kind != "trees":
        query = json.loads((folder / CHECKS).read_text(encoding="utf-8"))["cases"][0]["query"]
    names = modules_beyond(base_dependencies())
    assert {"torch", "ray", "sklearn"} <= set(names)
    answer, _ = run_answer(BLOCK.format(names=names), folder, query)
    assert answer["label"] in CLASSES


def run_answer(before: str, folder: Path, query: Any) -> tuple[dict[str, Any], list[str]]:
    """Answer a query in a new process. Return the answer, and the modules that were imported."""
    done = subprocess.run(
        [sys.executable, "-c", before + ANSWER, str(folder), json.dumps(query)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, modules = json.loads(done.stdout)
    return answer, modules


def base_dependencies() -> list[str]:
    """Return the requirements that `pip install .` without extras has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line).name for line in project["dependencies"]]


def modules_beyond(packages: list[str]) -> list[str]:
    """Return the top modules of distributions that some packages do not bring."""
    needed = {"gristmill"}
    pending = list(packages)
    while pending:
        name = pending.pop().lower().replace("_", "-")
        if name in needed:
            continue
        needed.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        requirements = map(Requirement, lines)
        pending += [
            requirement.name
            for requirement in requirements
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    distributions = importlib.metadata.packages_distributions()
    return sorted(
        module
        for module, owners in distributions.items()
        if needed.isdisjoint(owner.lower().replace("_", "-") for owner in owners)
        and module not in sys.stdlib_module_names
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_answers_and_ends_with_0(number: signal.Signals, tmp_path: Path) -> None:
    bundle = onnx_bundle(tmp_path / "bundle")
    words = [sys.executable, "-m", "components.cli", "serve", "mine"]
    words += ["--bundle", str(bundle), "--port", "0", "--allow-host", "models.example.com"]
    environment = {**os.environ, "GRISTMILL_KEYS_FILE": str(tmp_path / "keys.json")}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        try:
            assert line.startswith("mine version ")
            url = line.partition("answers at ")[2].split()[0]
            headers = {"Content-Type": "application/json", "Host": "models.example.com"}
            with urlopen(Request(f"{url}/v1/predict", b'{"text": "hotel"}', headers)) as response:
                answer = json.load(response)
        finally:
            server.send_signal(number)
        assert server.wait(30) == 0
    assert answer["predictions"][0]["label"] in CLASSES


def truncated(folder: Path) -> Path:
    path = onnx_bundle(folder) / GRAPH
    path.write_bytes(path.read_bytes()[:-7])
    return folder


def altered(folder: Path) -> Path:
    path = onnx_bundle(folder) / GRAPH
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return folder


def linked_out(folder: Path) -> Path:
    path = onnx_bundle(folder) / GRAPH
    path.rename(folder.parent / "outside")
    path.symlink_to(folder.parent / "outside")
    return folder


def silent(folder: Path) -> Path:
    """A bundle that agrees with itself, and whose graph is none."""
    exchange(onnx_bundle(folder), GRAPH, b"no graph")
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def checked(content: str) -> Callable[[Path], Path]:
    """Return what writes a bundle with a check.json."""

    def make(folder: Path) -> Path:
        (onnx_bundle(folder) / CHECKS).write_text(content, encoding="utf-8")
        return folder

    return make


def pipe(folder: Path) -> Path:
    os.mkfifo(onnx_bundle(folder) / CHECKS)
    return folder


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (empty, InputError, r"holds no bundle\.json, so it is no bundle"),
        (torch_bundle, InputError, r"needs torch.*\n.*--format onnx"),
        (truncated, BundleError, "was altered: it has"),
        (altered, BundleError, "was altered: its SHA-256"),
        (linked_out, BundleError, "leads out of the bundle"),
        (silent, BundleError, "cannot be read"),
        (pipe, InputError, "is no file of at most"),
        (checked('{"cases": [{"query": 7}]}'), InputError, r"cases\.0\.query"),
        (checked('{"cases": [{"query": {"word": "a"}}]}'), InputError, "holds no queries: text"),
        (checked('{"cases": [{"query": {"text": "\\u200b"}}]}'), BundleError, "refuses a query"),
        (checked("[" * 100_000), InputError, "holds no queries"),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused(
    make: Callable[[Path], Path], kind: type[GristmillError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        open_bundle(make(tmp_path / "bundle"), None)


def test_a_name_from_outside_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "a\nb\x1b[31m"
    shutil.copytree(onnx_bundle(tmp_path / "bundle"), folder)
    _, model = open_bundle(folder, None)
    assert model.name.isprintable()


@pytest.mark.parametrize(
    ("host", "keys", "hosts", "message"),
    [
        ("127.0.0.1", Keyring(), (), "cannot listen on 127.0.0.1"),
        ("0.0.0.0", Keyring(), (), "can be reached from other machines, and no API key"),
        ("127.0.0.1", Keyring(), ("http://a",), "--allow-host: allowed_hosts.0"),
        ("no.such.name.invalid", Keyring([Key.of("ann", "x")]), (), "cannot listen on no.such"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_first(
    host: str, keys: Keyring, hosts: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(GristmillError) as refused:
        port = taken.getsockname()[1]
        hold_bundle(tmp_path, None, host=host, port=port, keys=keys, allowed_hosts=hosts)
    assert message in str(refused.value)
    expected = InputError if hosts else EnvironmentFault
    assert isinstance(refused.value, expected)


def test_a_card_that_is_changed_between_two_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.orchestration.service import bundle_service

    bundle = onnx_bundle(tmp_path / "bundle")
    real = bundle_service.sha256

    def sha256_then_change(path: Path) -> str:
        digest = real(path)
        (bundle / CARD).write_text((bundle / CARD).read_text(encoding="utf-8") + "\n")
        return digest

    monkeypatch.setattr(bundle_service, "sha256", sha256_then_change)
    with pytest.raises(BundleError, match="not the card that was registered"):
        open_bundle(bundle, None)
