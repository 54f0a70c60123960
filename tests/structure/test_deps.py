"""The deps of a stage cover the code that it reaches, and hold nothing that it does not: an edit re-runs what it can change."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from components.core.params import read_yaml
from components.orchestration.runner.resumable_state import cache_code
from components.orchestration.stage_files import STAGES
from components.tasks import base
from tests.structure.import_graph import BASE, ROOT, file_of, files, has_code, syntax_tree

TOLD = read_yaml(ROOT / "dvc.yaml")["stages"]
# Deliberate: how a stage is run at all (CONTRACT.md).
RUNNER = "components/orchestration/runner/stage_task.py"
# Deliberate: evaluate and serve depend on the whole folder of the task; the loss is the one facet in it that they do not use.
SPARE = {"evaluate": "loss.py", "serve": "loss.py"}
# In these folders too, but DVC does not see it (.dvcignore): what `gristmill new` chooses.
IGNORED = "defaults.py"
IGNORED_FOLDER = "creation"
CASES = [(stage, task) for stage in STAGES for task in base.tasks()]


def code_deps(stage: str, task: str) -> list[str]:
    """The deps below components/, for a task."""
    return [
        dep.replace("${task}", task)
        for dep in TOLD[stage]["deps"]
        if dep.startswith("components/") and dep != RUNNER
    ]


@cache
def packages(task: str) -> frozenset[str]:
    """The folders below components/tasks/ whose code the stages of a task reach."""
    reached = (file for stage in STAGES for file in files(stage, task))
    return frozenset(package for file in reached if (package := package_of(file)))


def package_of(path: str) -> str:
    """The folder below components/tasks/ that a path is or lies in; "" for any other path."""
    parts = path.split("/")
    is_package = parts[:2] == ["components", "tasks"] and not parts[2].endswith(".py")
    return parts[2] if is_package else ""


def lies_under(file: str, dep: str) -> bool:
    """Whether a dep is the file or a folder around it."""
    return file == dep or file.startswith(f"{dep}/")


@pytest.mark.parametrize(("stage", "task"), CASES)
def test_each_reached_file_lies_under_a_dep(stage: str, task: str) -> None:
    deps = code_deps(stage, task)
    uncovered = {
        file for file in files(stage, task) if not any(lies_under(file, dep) for dep in deps)
    }
    assert not uncovered, f"dvc.yaml: {stage}.deps lacks {sorted(uncovered)}"


@pytest.mark.parametrize(("stage", "task"), CASES)
def test_each_dep_holds_a_reached_file(stage: str, task: str) -> None:
    # dvc.yaml is the same for all tasks, so it names what only other tasks share, too.
    every = {file for other in base.tasks() for file in files(stage, other)}
    stale = set()
    for dep in code_deps(stage, task):
        used = files(stage, task) if package_of(dep) == task else every
        if not any(lies_under(file, dep) for file in used):
            stale.add(dep)
    assert not stale, f"dvc.yaml: {stage}.deps needs no {sorted(stale)}"


@pytest.mark.parametrize(("stage", "task"), CASES)
def test_an_edit_of_a_facet_that_is_not_used_runs_nothing_again(stage: str, task: str) -> None:
    facets = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "components" / "tasks").rglob("*.py")
        if has_code(path)
    ]
    wide = {
        file
        for file in facets
        if file not in files(stage, task)
        and package_of(file) in packages(task)
        and any(lies_under(file, dep) for dep in code_deps(stage, task))
    }
    unwanted = set()
    for file in wide:
        folder, _, name = file.rpartition("/")
        if name not in (SPARE.get(stage), IGNORED) and not folder.endswith(f"/{IGNORED_FOLDER}"):
            unwanted.add(file)
    assert not unwanted, f"dvc.yaml: {stage}.deps covers {sorted(unwanted)}, which it does not use"


def test_dvc_does_not_see_what_chooses_params() -> None:
    lines = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    assert f"components/tasks/*/{IGNORED}" in lines
    assert f"components/tasks/*/{IGNORED_FOLDER}" in lines
    for stage, task in CASES:
        for file in files(stage, task):
            assert not file.endswith(f"/{IGNORED}")
            assert f"/{IGNORED_FOLDER}/" not in file


@pytest.mark.parametrize(("stage", "task"), [case for case in CASES if STAGES[case[0]].remembers])
def test_the_key_of_a_memo_covers_each_reached_file(stage: str, task: str) -> None:
    assert set(files(stage, task)) <= {
        file.relative_to(ROOT).as_posix() for file in cache_code(ROOT, task, stage)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_of_orchestration_only_the_runner_is_a_dep(stage: str) -> None:
    assert [dep for dep in TOLD[stage]["deps"] if "orchestration" in dep] == [RUNNER]


def test_modules_are_imported_by_name_only_where_this_test_can_follow() -> None:
    """A dynamic import anywhere else would be a dependency that nobody sees."""
    dynamic = set()
    orchestration = ROOT / "components" / "orchestration"
    for path in (ROOT / "components").rglob("*.py"):
        if path.is_relative_to(orchestration):
            continue
        names = (
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(syntax_tree(path))
            if isinstance(node, ast.Attribute | ast.Name)
        )
        if {"import_module", "__import__", "exec_module"} & set(names):
            dynamic.add(path)
    assert dynamic == {file_of(BASE)}
