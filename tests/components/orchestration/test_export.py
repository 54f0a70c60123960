"""`gristmill export` writes a folder that gives the champion's answers with the runtime alone."""

from __future__ import annotations

import ast
import base64
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from champions import COLUMNS, ROWS, TEXTS, crown, network_bundle, project_of, table_rows
from stage_runner import TINY, pictures, sentences

from components import api
from components.core.errors import BundleError, InputError
from components.orchestration.export import export_folder
from components.orchestration.export.export_folder import export_champion
from components.orchestration.export.weight_formats import FORMATS
from components.registry.versions.model_versions import champion, fetch
from tests.components.training.small_bundles import numpy_bundle

pytestmark = pytest.mark.usefixtures("one_child")
has_openvino = importlib.util.find_spec("openvino") is not None
of_networks = pytest.mark.parametrize(
    "format_name",
    [
        pytest.param(name, marks=pytest.mark.skipif(not has_openvino, reason="needs openvino"))
        if name == "openvino"
        else name
        for name in FORMATS
        # test_onnx_exports.py is about ONNX.
        if name != "onnx"
    ],
)


@pytest.fixture(scope="module")
def texts(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose champion is a TextCNN."""
    root = project_of(tmp_path_factory.mktemp("texts") / "p", empty_store)
    rows = [{**row, "title": ""} for row in sentences(120)]
    bundle = network_bundle(
        root.parent / "b", "text_classification", rows, "textcnn", TINY["textcnn"]
    )
    crown(root, "default", bundle, TEXTS)
    return root


@of_networks
def test_texts_have_the_answers_of_the_champion_in_each_format(
    texts: Path, tmp_path: Path, format_name: str
) -> None:
    done = export_champion(texts, "default", tmp_path / "model", format_name)
    assert done.cases == len(TEXTS)
    assert float(done.difference) <= done.tolerance == 1e-4
    assert (tmp_path / "model" / FORMATS[format_name].file).is_file()
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]
    for script in (tmp_path / "model").rglob("*.py"):
        ast.parse(script.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("ngrams", {}),
        # test_padding.py exports longer n-grams, and those beside a TextCNN.
        ("counted", {"n": 2, "textcnn": None}),
        ("recurrent", {}),
        # test_padding.py exports two layers.
        ("transformer", {"layers": 1}),
    ],
)
@pytest.mark.parametrize("format_name", ["onnx", "torch-export"])
def test_other_networks_on_texts_leave_in_each_format(
    empty_store: Path, tmp_path: Path, architecture: str, config: dict[str, Any], format_name: str
) -> None:
    root = project_of(tmp_path / "p", empty_store)
    rows = [{**row, "title": ""} for row in sentences(120)]
    bundle = network_bundle(
        tmp_path / "b", "text_classification", rows, architecture, {**TINY[architecture], **config}
    )
    crown(root, "default", bundle, TEXTS)
    if (architecture, format_name) == ("recurrent", "torch-export"):
        with pytest.raises(InputError, match="its length would be a constant"):
            export_champion(root, "default", tmp_path / "model", format_name)
        assert not (tmp_path / "model").exists()
        return
    done = export_champion(root, "default", tmp_path / "model", format_name)
    assert float(done.difference) <= done.tolerance


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
def test_an_ensemble_leaves_as_one_model(
    empty_store: Path, tmp_path: Path, format_name: str
) -> None:
    root = project_of(tmp_path / "p", empty_store)
    rows = [{**row, "title": ""} for row in sentences(120)]
    members = [
        {"architecture": "textcnn", "config": TINY["textcnn"], "weight": 0.6},
        {"architecture": "ngrams", "config": TINY["ngrams"], "weight": 0.4},
    ]
    config = {"members": members}
    bundle = network_bundle(tmp_path / "b", "text_classification", rows, "ensemble", config)
    crown(root, "default", bundle, TEXTS)
    done = export_champion(root, "default", tmp_path / "model", format_name)
    assert done.cases == len(TEXTS)
    assert float(done.difference) <= done.tolerance


@pytest.fixture(scope="module")
def baseline(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose champion is a baseline, which needs no torch."""
    root = project_of(tmp_path_factory.mktemp("baseline") / "p", empty_store)
    crown(root, "default", numpy_bundle(root.parent / "b"), TEXTS)
    return root


def test_other_answers_are_refused_and_nothing_is_written(
    baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = export_folder._cases

    def altered(*arguments: Any) -> list[dict[str, Any]]:
        result = cases(*arguments)
        result[0]["answer"]["probability"] -= 0.01
        return result

    monkeypatch.setattr(export_folder, "_cases", altered)
    with pytest.raises(BundleError, match=r"answers differ by 0\.01, more than 0\.0001"):
        export_champion(baseline, "default", tmp_path / "model", "safetensors")
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_not_overwritten(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no empty folder"):
        export_champion(texts, "default", tmp_path, "onnx")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no empty folder"):
        export_champion(texts, "default", tmp_path / "link", "onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "link"}


def test_a_folder_that_a_run_deletes_is_refused(texts: Path) -> None:
    with pytest.raises(InputError, match="is deleted when the pipeline runs"):
        export_champion(texts, "default", texts / "data" / "models" / "mine", "onnx")


def test_an_empty_folder_is_filled(baseline: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_champion(baseline, "default", tmp_path / "empty", "safetensors")
    assert (tmp_path / "empty" / "predict.py").is_file()


@pytest.mark.parametrize(
    ("runtime", "format_name", "message"),
    [
        ("onnx", "torchscript", r"onnx, openvino"),
        ("numpy", "onnx", r"safetensors"),
        ("torch", "keras", r"there is no format 'keras'"),
    ],
)
def test_a_format_that_a_model_cannot_have_is_refused_by_name(
    runtime: Any, format_name: str, message: str
) -> None:
    from components.core.bundles import Card
    from components.orchestration.export.weight_formats import check_format

    card = Card("any", runtime, "linear", {}, {}, 0, "", "", ["train"])
    with pytest.raises(InputError) as refused:
        check_format(card, format_name)
    assert message in str(refused.value)


def test_a_column_of_texts_is_refused_with_what_works(empty_store: Path, tmp_path: Path) -> None:
    root = project_of(tmp_path / "p", empty_store)
    rows = [
        {**row, "note": f"a note of row {row['sold']}"} for row in table_rows({"label": "好评"})
    ]
    bundle = network_bundle(
        tmp_path / "b",
        "tabular_classification",
        rows,
        "mlp",
        {"hidden": [8]},
        {**COLUMNS, "note": "text"},
    )
    crown(root, "penguins", bundle, [{**row, "note": "a note"} for row in ROWS])
    with pytest.raises(InputError, match="column 'note' is a text of a table") as refused:
        export_champion(root, "penguins", tmp_path / "model", "onnx")
    assert "--format safetensors" in str(refused.value)
    done = export_champion(root, "penguins", tmp_path / "model", "safetensors")
    assert float(done.difference) <= done.tolerance


def test_an_altered_champion_is_not_exported(empty_store: Path, tmp_path: Path) -> None:
    root = project_of(tmp_path / "p", empty_store)
    bundle = network_bundle(
        tmp_path / "b", "image_classification", pictures(30), "convnet", TINY["convnet"]
    )
    crown(root, "digits", bundle, [{"image": base64.b64encode(pictures(1)[0]["image"]).decode()}])
    leading = champion(root, "digits")
    assert leading is not None
    stored = fetch(root, "digits", leading.number, tmp_path / "copy")
    weights = stored / "weights.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="was altered"):
        export_champion(root, "digits", tmp_path / "model", "onnx")
    with pytest.raises(BundleError, match="was altered"):
        api.champion("digits", root=root)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("a text", "takes a list of values"),
        ([3], "value 0 cannot be answered: it is a int"),
        (["ok", b"bytes"], "value 1 cannot be answered: it is bytes"),
        (["ok", ""], "value 1 cannot be answered"),
        (["<b></b>"], "empty"),
        ([{"txt": "ok"}], "value 0 cannot be answered"),
    ],
)
def test_values_that_cannot_be_answered_are_named(texts: Path, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        api.champion(root=texts).predict(values)


def test_the_api_imports_nothing_heavy() -> None:
    heavy = ("torch", "mlflow", "ray", "numpy", "pyarrow", "onnxruntime")
    code = (
        f"import sys; from components import api; print([n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_that_fails_raises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from components.core.errors import GristmillError
    from components.orchestration.runner import run

    calls: list[Any] = []
    fails: Callable[..., int] = lambda *arguments: calls.append(arguments) or 2  # noqa: E731
    monkeypatch.setattr(run, "run_pipeline", fails)
    with pytest.raises(GristmillError, match="exit code 2"):
        api.run("digits", fresh=True, root=tmp_path)
    assert calls == [(tmp_path, "digits", True)]
