"""A champion as ONNX answers by its script, and by `gristmill serve --bundle`, with few libraries."""

from __future__ import annotations

import ast
import base64
import functools
import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from champions import COLUMNS, ROWS, TEXTS, crown, network_bundle, project_of, table_rows
from fastapi.testclient import TestClient
from packaging.requirements import Requirement
from stage_runner import TINY, pictures, png, sentences

from components import api
from components.core.bundles import Card, read_bundle, write_bundle
from components.inference.predictor import GRAPH
from components.orchestration.export.export_folder import Exported, export_champion
from components.orchestration.service.bundle_service import CHECKS, open_bundle
from components.serving.http.app import build_app
from tests.components.training.small_bundles import CLASSES, numpy_bundle, onnx_bundle
from tests.structure.import_graph import ROOT

pytestmark = pytest.mark.usefixtures("one_child")
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
answers = []
for folder, query in json.loads(sys.argv[1]):
    predictor, model = open_bundle(Path(folder), None)
    build_app(predictor, model).openapi()
    question = predictor.evaluator.Query.model_validate(query)
    answers.append(predictor.predict([question])[0].model_dump(mode="json"))
print(json.dumps([answers, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
BLOCK = """
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent)
"""


NO_TORCH = """
import sys
for name in ("torch", "components", "pyarrow", "pydantic", "mlflow", "ray", "sklearn"):
    sys.modules[name] = None
"""


@dataclass(frozen=True)
class OnnxExport:
    """A champion with random weights, and its export as ONNX.

    Attributes:
        root: of the project.
        done: what the export reported.
    """

    root: Path
    done: Exported

    @property
    def folder(self) -> Path:
        """Return the folder that was written."""
        return self.done.folder


@pytest.fixture(scope="module")
def texts(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    """A TextCNN."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [{**row, "title": ""} for row in sentences(120)]
    bundle = network_bundle(folder / "b", "text_classification", rows, "textcnn", TINY["textcnn"])
    return exported(project_of(folder / "p", empty_store), "default", bundle, TEXTS)


@pytest.fixture(scope="module")
def images(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    """A ConvNet."""
    folder = tmp_path_factory.mktemp("images")
    bundle = network_bundle(
        folder / "b", "image_classification", pictures(30), "convnet", TINY["convnet"]
    )
    queries = [{"image": base64.b64encode(row["image"]).decode()} for row in pictures(3, seed=5)]
    return exported(project_of(folder / "p", empty_store), "digits", bundle, queries)


@pytest.fixture(scope="module")
def tables(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    """A network on the rows of a table."""
    folder = tmp_path_factory.mktemp("tables")
    rows = table_rows({"label": "差评"})
    bundle = network_bundle(folder / "b", TABLE, rows, "mlp", {"hidden": [8]}, COLUMNS)
    return exported(project_of(folder / "p", empty_store), "penguins", bundle, ROWS)


def exported(root: Path, pipeline: str, bundle: Path, queries: list[Any]) -> OnnxExport:
    """Release a bundle as champion, and export it as ONNX."""
    crown(root, pipeline, bundle, queries)
    (root.parent / "out").mkdir()
    return OnnxExport(root, export_champion(root, pipeline, root.parent / "out" / "model", "onnx"))


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


def ask(folder: Path, *arguments: str) -> list[Any]:
    """Run predict.py in a process that cannot import gristmill and torch, and return its answers."""
    done = run_script(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run predict.py in a process that cannot import gristmill and torch."""
    code = f"{NO_TORCH}\nimport runpy\nsys.argv = ['predict.py', *{list(arguments)!r}]\n"
    code += "runpy.run_path('predict.py', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


def test_texts_have_the_answers_of_the_champion(texts: OnnxExport) -> None:
    assert texts.done.cases == len(TEXTS)
    assert float(texts.done.difference) <= texts.done.tolerance == 1e-4
    assert (texts.folder / GRAPH).is_file()
    assert list(texts.folder.parent.iterdir()) == [texts.folder]
    for script in texts.folder.rglob("*.py"):
        ast.parse(script.read_text(encoding="utf-8"))


def test_a_script_for_texts_needs_onnxruntime_and_tokenizers_alone(texts: OnnxExport) -> None:
    requirements = (texts.folder / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line.partition("==")[0] for line in requirements] == [
        "numpy",
        "onnxruntime",
        "tokenizers",
    ]
    hard = "&lt;b&gt;很 好&lt;/b&gt;\u200b ﬁne\x07 \U0001f469\u200d\U0001f467"
    model = api.champion(root=texts.root)
    ours = model.predict([hard, "房间"])
    theirs = ask(texts.folder, hard, "房间")
    for mine, answer in zip(theirs, ours, strict=True):
        assert mine["probability"] == pytest.approx(answer.probability, abs=1e-5)  # type: ignore[attr-defined]
    refused = run_script(texts.folder, "\u200b")
    assert refused.returncode == 1
    assert refused.stderr.strip() == "no answer to '\\u200b': empty"
    assert "python predict.py" in run_script(texts.folder).stderr


def test_pictures_are_prepared_as_in_the_pipeline(images: OnnxExport, tmp_path: Path) -> None:
    import numpy as np

    assert float(images.done.difference) <= images.done.tolerance
    # Larger, not square, in color.
    levels = np.random.default_rng(1).integers(0, 255, (40, 23, 3)).astype(np.uint8)
    path = tmp_path / "photo.jpg"
    path.write_bytes(png(levels, "JPEG"))
    model = api.champion("digits", root=images.root)
    by_path, by_bytes = model.predict([path, path.read_bytes()])
    (mine,) = ask(images.folder, str(path))
    assert by_path == by_bytes
    assert mine["probabilities"] == pytest.approx(by_path.probabilities, abs=1e-5)  # type: ignore[attr-defined]


def test_rows_of_tables_have_the_same_features(tables: OnnxExport) -> None:
    assert float(tables.done.difference) <= tables.done.tolerance
    row = {"city": " Köln ", "size": "(12)", "sold": "2020年12月31日"}
    (answer,) = api.champion("penguins", root=tables.root).predict([row])
    (mine,) = ask(tables.folder, json.dumps(row))
    assert mine["probabilities"] == pytest.approx(answer.probabilities, abs=1e-5)  # type: ignore[attr-defined]


def test_numbers_have_their_intervals(empty_store: Path, tmp_path: Path) -> None:
    from components.core.bundles import add_to_profile

    root = project_of(tmp_path / "p", empty_store)
    rows = table_rows({"target": 5.0})
    bundle = network_bundle(
        tmp_path / "b",
        "tabular_regression",
        rows,
        "mlp",
        {"hidden": [8]},
        COLUMNS,
        {"center": [300.0], "scale": [50.0], "range": [100.0, 900.0]},
    )
    table = {"coverage": 0.9, "edges": [], "below": [20.0], "above": [30.0], "rows": 40}
    add_to_profile(bundle, {"intervals": table})
    crown(root, "diamonds", bundle, ROWS)
    export_champion(root, "diamonds", tmp_path / "model", "onnx")
    (mine,) = ask(tmp_path / "model", json.dumps(ROWS[0]))
    (answer,) = api.champion("diamonds", root=root).predict([ROWS[0]])
    assert mine == pytest.approx(answer.model_dump(), rel=1e-5)
    assert mine["high"] - mine["value"] == pytest.approx(30)


@pytest.mark.parametrize("kind", ["texts", "images", "tables"])
def test_an_export_answers_as_the_champion(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind).folder
    card, files = read_bundle(folder)
    assert card.runtime == "onnx"
    assert GRAPH in files
    cases = json.loads((folder / CHECKS).read_text(encoding="utf-8"))["cases"]
    app = build_app(*open_bundle(folder, None))
    with TestClient(app, base_url="http://localhost") as asked:
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


def test_an_answer_imports_nothing_of_the_pipeline(tmp_path: Path) -> None:
    query = {"text": "酒店 hotel lovely"}
    cases = [(make(tmp_path / make.__name__), query) for make in (numpy_bundle, onnx_bundle)]
    answers, modules = run_answers("", cases)
    assert len(answers) == 2
    assert {answer["label"] for answer in answers} <= set(CLASSES)
    assert "fastapi" in modules
    assert set(modules).isdisjoint(HEAVY)


def test_the_base_dependencies_are_enough(
    texts: OnnxExport, images: OnnxExport, tables: OnnxExport, trees: Path
) -> None:
    cases: list[tuple[Path, Any]] = [(trees, {"size": 0.9, "city": "Bonn"})]
    for folder in (texts.folder, images.folder, tables.folder):
        checks = json.loads((folder / CHECKS).read_text(encoding="utf-8"))
        cases.append((folder, checks["cases"][0]["query"]))
    names = modules_beyond_base()
    assert {"torch", "ray", "sklearn"} <= set(names)
    answers, _ = run_answers(BLOCK.format(names=names), cases)
    assert len(answers) == 4
    assert {answer["label"] for answer in answers} <= set(CLASSES)


def run_answers(
    before: str, cases: Sequence[tuple[Path, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Answer a query with each bundle in a new process.

    Args:
        before: code that runs first.
        cases: folders of bundles, each with a query.

    Returns:
        The answers, and the modules that were imported.
    """
    asked = [(str(folder), query) for folder, query in cases]
    done = subprocess.run(
        [sys.executable, "-c", before + ANSWER, json.dumps(asked)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers, modules = json.loads(done.stdout)
    return answers, modules


def base_dependencies() -> list[str]:
    """Return the requirements that `pip install .` without extras has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line).name for line in project["dependencies"]]


@functools.cache
def modules_beyond_base() -> list[str]:
    """Return the top modules of distributions that `pip install .` does not bring."""
    needed = {"gristmill"}
    pending = base_dependencies()
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
