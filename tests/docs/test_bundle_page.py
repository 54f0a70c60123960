"""The page of bundles has each file and each key that a bundle has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from components.core.bundles import CARD, read_card
from components.core.cards import FORMAT, CardFile
from components.inference import abstention, stated_intervals
from components.monitoring.profile_schema import _Inputs
from components.tasks import base
from tests.components.training.small_bundles import numpy_bundle, onnx_bundle, torch_bundle
from tests.structure.import_graph import ROOT

PAGES = {
    language: (ROOT / "docs" / language / "reference/bundle.md").read_text(encoding="utf-8")
    for language in ("en", "zh")
}
# Constants of the encoders and baselines that name a file below encoder/.
FILE = re.compile(r'(?:_FILE = |files\[|return \{|^ +)"(\w+\.(?:json|safetensors))"', re.MULTILINE)


def rows(page: str) -> list[list[str]]:
    """Return the names in the first cell of each table, table by table."""
    tables: list[list[str]] = []
    for line in page.splitlines():
        if line.startswith("| ---"):
            tables.append([])
        elif line.startswith("| ") and tables:
            tables[-1].append(re.findall(r"`([^`]+)`", line.split("|")[1])[0:1])
        elif tables and tables[-1]:
            tables.append([])
    return [[name for cell in table for name in cell] for table in tables if table]


def table_with(page: str, name: str) -> set[str]:
    """Return the names of the table that has a name in its first column."""
    (table,) = [set(table) for table in rows(page) if name in table]
    return table


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_page_has_each_key_of_a_card(page: str) -> None:
    assert table_with(page, "architecture") == CardFile.model_fields.keys() - {"targets"}
    targets = {
        name for task in base.tasks() for name in base.schema(task).targets.Info.model_fields
    }
    assert table_with(page, "center") == targets
    assert f'"format": {FORMAT}' in page


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_page_has_each_key_of_a_profile(page: str) -> None:
    others = {"rows", "clean", base.INPUTS, "predictions", abstention.KEY, stated_intervals.KEY}
    assert table_with(page, "spaces") == _Inputs.model_fields.keys() | others


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_page_has_each_file_of_an_encoder(page: str) -> None:
    folder = ROOT / "components/tasks"
    modules = [*folder.rglob("encode.py"), *folder.rglob("baselines.py")]
    modules += (folder / "shared/encode").rglob("*.py")
    modules += (folder / "shared/baselines").rglob("*.py")
    named = {name for path in modules for name in FILE.findall(path.read_text(encoding="utf-8"))}
    shown = {name for name in table_with(page, CARD) if name.startswith("encoder/")}
    assert shown == {f"encoder/{name}" for name in named}


@pytest.mark.parametrize("make", [torch_bundle, onnx_bundle, numpy_bundle])
def test_real_bundles_have_only_what_the_page_has(make: object, tmp_path: Path) -> None:
    assert callable(make)
    folder: Path = make(tmp_path / "bundle")
    page = PAGES["en"]
    keys = json.loads((folder / CARD).read_text(encoding="utf-8")).keys()
    assert keys - table_with(page, "architecture") - table_with(page, "center") == set()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files - table_with(page, CARD) == set()
    assert files == {CARD, *read_card(folder).files}
