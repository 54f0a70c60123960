"""Values from MLflow in paths and filters, and deletions: only by the functions for that."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure.import_graph import ROOT, nodes, syntax_tree

PYTHON = sorted(path for path in (ROOT / "components").rglob("*.py"))
# What anybody who reaches the registry can edit: attributes of versions, models and runs.
EDITABLE = {"tags", "source", "run_id", "aliases", "description", "artifact_uri"}
OWNERS = {"version", "found", "leading", "wanted", "other", "shelf", "each", "model", "run"}
VALIDATORS = {"sha256_digest", "bundle_source", "json_value", "examples", "storable", "from_tag"}
NUMBERS = {"int", "float", "len", "sum"}
PATH_CALLS = {"Path", "PurePosixPath", "glob", "rglob", "joinpath", "with_name", "search_runs"}
PATH_CALLS |= {"search_model_versions", "search_registered_models", "open", "copytree"}


def called(node: ast.AST) -> str:
    """Return the name of the function that a call calls."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return getattr(function, "attr", "") or getattr(function, "id", "")


def editable(node: ast.AST, tainted: set[str]) -> bool:
    """Say whether an expression holds a value from the registry that nobody has validated."""
    if called(node) in VALIDATORS | NUMBERS or isinstance(node, ast.Compare):
        return False
    if isinstance(node, ast.Name) and node.id in tainted:
        return True
    if isinstance(node, ast.Attribute) and node.attr in EDITABLE:
        owner = node.value
        name = getattr(owner, "id", "") or getattr(owner, "attr", "")
        if name in OWNERS:
            return True
    return any(editable(child, tainted) for child in ast.iter_child_nodes(node))


def is_path(node: ast.AST) -> bool:
    """Say whether an expression makes a path, a glob or a filter."""
    return called(node) in PATH_CALLS or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    )


def unvalidated(tree: ast.AST) -> Iterator[int]:
    """Yield the lines where a value from the registry becomes part of a path or filter."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    for function in functions:
        tainted: set[str] = set()
        inside = list(ast.walk(function))
        for node in inside:
            if isinstance(node, ast.Assign) and editable(node.value, tainted):
                names = [each for target in node.targets for each in ast.walk(target)]
                tainted |= {each.id for each in names if isinstance(each, ast.Name)}
        for node in inside:
            if is_path(node) and editable(node, tainted):
                yield node.lineno


def places(name: str) -> list[str]:
    """Return where a function of a name is called."""
    found = []
    for path in PYTHON:
        lines = [node.lineno for node in nodes(path) if called(node) == name]
        found += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    return found


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_path_or_filter_is_made_of_a_value_from_the_registry(path: Path) -> None:
    assert list(unvalidated(syntax_tree(path))) == []


@pytest.mark.parametrize(
    "code",
    [
        'copy = folder / f"{version.number}-{version.tags.get(BUNDLE)}"',
        'wanted = version.tags.get("x", "")\n    copy = folder / wanted[:12]',
        "copy = Path(found.source)",
        "list(folder.glob(version.tags['x'] + '*'))",
        "opened.search_runs([], f\"tags.a = '{version.tags['x']}'\")",
    ],
)
def test_the_search_finds_what_was_done_before(code: str) -> None:
    assert list(unvalidated(ast.parse(f"def make(folder, version, found, opened):\n    {code}\n")))


def test_folders_are_deleted_by_one_function() -> None:
    assert [place for place in places("rmtree") if "core/files.py" not in place] == []
    assert len(places("rmtree")) == 1
    assert len(places("remove_tree")) > 10
