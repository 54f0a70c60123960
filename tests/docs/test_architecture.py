"""The page of the architecture names the packages that are there, in the order of their layers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.structure.import_graph import ROOT

PACKAGES_WITH_FOLDERS = ("orchestration", "serving", "registry")


def first_cells(language: str) -> list[str]:
    """Return the first cells of all table rows of the page, without marks of code."""
    page = ROOT / "docs" / language / "explanation" / "architecture.md"
    cells = re.findall(r"^\| ([^|]+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub("[`、]", lambda mark: ", " if mark[0] == "、" else "", cell) for cell in cells]


def layers() -> list[str]:
    """Return the layers of the import linter, as the page writes them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    assert contract["type"] == "layers"
    return [layer.replace(" | ", ", ") for layer in contract["layers"]]


def packages_below(folder: Path) -> set[str]:
    """Return the names of the packages directly below a folder, and of modules beside them."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return {path.parent.name for path in folder.glob("*/__init__.py")} | modules


@pytest.mark.parametrize("language", ["en", "zh"])
def test_packages_are_the_layers_in_their_order(language: str) -> None:
    known = layers()
    assert [cell for cell in first_cells(language) if cell in known] == known
    names = {name for layer in known for name in layer.split(", ")}
    assert names == packages_below(ROOT / "components")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_inner_folders_are_named(language: str) -> None:
    named = {cell for cell in first_cells(language) if re.fullmatch(r"\w+/\w+", cell)}
    there = set()
    for package in PACKAGES_WITH_FOLDERS:
        inner = (ROOT / "components" / package).glob("*/__init__.py")
        there |= {f"{package}/{path.parent.name}" for path in inner}
    assert named == there
