"""The cells of the example notebook run in their order, without Jupyter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from champions import crown, network_bundle, project_of

from components import api
from tests.structure.import_graph import ROOT

NOTEBOOK = ROOT / "docs" / "examples" / "champion.ipynb"
COLUMNS = {
    "island": "category",
    "bill_length_mm": "number",
    "bill_depth_mm": "number",
    "flipper_length_mm": "number",
    "body_mass_g": "number",
    "sex": "category",
}
PENGUIN = {
    "island": "Dream",
    "bill_length_mm": 44.0,
    "bill_depth_mm": 17.0,
    "flipper_length_mm": 200.0,
    "body_mass_g": 4100.0,
    "sex": "male",
}


def cells() -> list[str]:
    """Return the code of the notebook, cell by cell."""
    tree = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in tree["cells"] if cell["cell_type"] == "code"]


def test_the_cells_of_the_notebook_run_in_order(
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Run the cells in a project with a small champion. The run of the pipeline alone is left out."""
    root = project_of(tmp_path / "p", empty_store)
    rows = [
        {**PENGUIN, "body_mass_g": 3000.0 + 50 * number, "label": "Adelie"} for number in range(40)
    ]
    rows[3]["bill_depth_mm"] = None
    targets = {"classes": ["Adelie", "Chinstrap", "Gentoo"]}
    bundle = network_bundle(
        tmp_path / "b",
        "tabular_classification",
        rows,
        "mlp",
        {"hidden": [8]},
        COLUMNS,
        targets,
    )
    crown(root, "penguins", bundle, [PENGUIN])
    runs: list[str] = []
    monkeypatch.setattr(api, "run", runs.append)
    monkeypatch.chdir(root)
    names: dict[str, Any] = {}
    for code in cells():
        exec(compile(code, str(NOTEBOOK), "exec"), names)
    assert runs == ["penguins"]
    printed = capsys.readouterr().out
    assert "ChampionModel(pipeline='penguins', version=1)" in printed
    assert "'model.onnx'" in printed
    labels = [answer.label for answer in names["answers"]]
    assert [line.split()[0] for line in printed.splitlines()[-2:]] == labels


def test_the_notebook_is_stored_without_outputs() -> None:
    tree = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    outputs = [cell["outputs"] for cell in tree["cells"] if cell["cell_type"] == "code"]
    assert outputs and not any(outputs)
