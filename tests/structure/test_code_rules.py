"""Rules of the house: where the words of a task may stand, and what no file may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.tasks import base
from tests.structure.import_graph import ROOT, syntax_tree

TASK_FREE = [
    "cli",
    "core",
    "fields",
    "inference",
    "metrics",
    "models",
    "monitoring",
    "orchestration",
    "registry",
    "serving",
    "stages",
    "training",
]
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
PYTHON = sorted((ROOT / "components").rglob("*.py"))


def texts(folder: Path, pattern: str) -> list[Path]:
    """Files below a folder that people write."""
    return [
        path
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.suffix not in (".pyc", ".png", ".ico")
    ]


@pytest.mark.parametrize("room", TASK_FREE)
def test_no_task_is_named_in_a_room_for_all_tasks(room: str) -> None:
    files = texts(ROOT / "components" / room, "**/*")
    assert files
    assert not [
        (path.name, task)
        for path in files
        for task in base.tasks()
        if task in path.read_text(encoding="utf-8") or task in path.as_posix()
    ]


def test_nothing_shadows_the_library_mlflow() -> None:
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib.util; print(importlib.util.find_spec('mlflow').origin)",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert found.strip().endswith("__init__.py")
    assert not Path(found.strip()).is_relative_to(ROOT / "mlflow")


def test_no_folder_is_called_utils() -> None:
    names = {
        path.name
        for room in ("components", "tests", "benchmarks")
        for path in (ROOT / room).rglob("*")
        if path.is_dir()
    } | {path.stem for path in PYTHON}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What a module does that it must not: read what can run code, or hand text to a shell or to the interpreter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                f"import {alias.name}"
                for alias in node.names
                if alias.name.split(".")[0] in PICKLERS
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLERS:
            yield f"from {node.module} import"
        elif isinstance(node, ast.Call):
            yield from _unsafe_call(node)


def _unsafe_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    told = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in (
        "eval",
        "exec",
        "compile",
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "yaml.load",
        "yaml.unsafe_load",
        "asyncio.create_subprocess_shell",
    ):
        yield name
    if name == "torch.load" and told.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if name == "YAML" and told.get("typ") == "'unsafe'":
        yield "YAML(typ='unsafe')"
    if told.get("shell", "False") != "False":
        yield f"{name}(shell=True)"
    if told.get("allow_pickle", "False") != "False":
        yield f"{name}(allow_pickle=True)"
    if name.rpartition(".")[2] == "load_model":  # MLflow's flavors unpickle
        yield name


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell() -> None:
    assert not [
        (path.relative_to(ROOT).as_posix(), each)
        for path in PYTHON
        for each in unsafe(syntax_tree(path))
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "subprocess.run(text, shell=True)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "mlflow.pytorch.load_model(uri)",
        "os.system(text)",
    ],
)
def test_the_test_above_sees_what_it_is_for(code: str) -> None:
    assert list(unsafe(ast.parse(code)))


def test_it_lets_pass_what_is_safe() -> None:
    assert not list(
        unsafe(
            ast.parse(
                "torch.load(path, weights_only=True); model.eval(); YAML(typ='safe').load(text); subprocess.run(['ls'])"
            )
        )
    )


def test_each_file_says_what_it_is_for() -> None:
    assert not [
        path.relative_to(ROOT).as_posix()
        for path in PYTHON
        if not ast.get_docstring(syntax_tree(path))
    ]
