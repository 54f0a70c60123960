"""The deps of a stage cover the code that it reaches, and hold nothing that it does not: an edit re-runs what it can change."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from components.core.params import read_yaml
from components.orchestration.runner.resumable_state import cache_code, fit_code
from components.orchestration.stage_files import STAGES
from components.tasks import base
from tests.structure.import_graph import BASE, ROOT, file_of, files, has_code, nodes

TOLD = read_yaml(ROOT / "dvc.yaml")["stages"]
# Deliberate: how a stage is run at all (CONTRACT.md).
RUNNER = "components/orchestration/runner/stage_task.py"
# Deliberate: serve depends on the whole folder of the task; the loss is the one facet in it that it does not use.
SPARE = {"serve": "loss"}
# In these folders too, but DVC does not see them (.dvcignore): what `gristmill new` chooses, and what `gristmill export` copies.
IGNORED = ("defaults", "standalone")
TASKS = "components/tasks/"
# What facets of several tasks share: components/tasks/shared/<facet>/<family>.
SHARED = "components/tasks/shared/"
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
    """The task and the families whose code the stages of a task reach."""
    reached = (file for stage in STAGES for file in files(stage, task))
    return frozenset(package for file in reached if (package := package_of(file)))


def package_of(path: str) -> str:
    """The task or the family that a path below components/tasks/ belongs to; "" for any other path."""
    if path.startswith(SHARED):
        _, _, family = path.removeprefix(SHARED).partition("/")
        return f"shared {family.partition('/')[0]}" if family else ""
    package, _, name = path.removeprefix(TASKS).partition("/")
    return package if path.startswith(TASKS) and name else ""


def facet_of(path: str) -> str:
    """The facet that a file below components/tasks/ belongs to."""
    if path.startswith(SHARED):
        return path.removeprefix(SHARED).partition("/")[0]
    return path.rpartition("/")[2].removesuffix(".py")


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
        path.relative_to(ROOT).as_posix() for path in (ROOT / TASKS).rglob("*.py") if has_code(path)
    ]
    wide = {
        file
        for file in facets
        if file not in files(stage, task)
        and package_of(file) in packages(task)
        and any(lies_under(file, dep) for dep in code_deps(stage, task))
    }
    unwanted = {file for file in wide if facet_of(file) not in (SPARE.get(stage), *IGNORED)}
    assert not unwanted, f"dvc.yaml: {stage}.deps covers {sorted(unwanted)}, which it does not use"


@pytest.mark.parametrize("facet", IGNORED)
def test_dvc_does_not_see_what_no_stage_uses(facet: str) -> None:
    lines = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    assert f"{TASKS}*/{facet}.py" in lines
    assert f"{SHARED}{facet}" in lines
    for stage, task in CASES:
        assert facet not in {facet_of(file) for file in files(stage, task)}


def test_dvc_yaml_names_no_task_and_no_family() -> None:
    folders = [path.name for path in (ROOT / TASKS).iterdir() if path.is_dir()]
    families = [path.name for path in (ROOT / SHARED).glob("*/*") if path.is_dir()]
    names = {name for name in [*folders, *families] if not name.startswith("__")} - {"shared"}
    assert names > {"tabular_regression", "regression", "tables"}
    deps = {word for stage in TOLD.values() for dep in stage["deps"] for word in dep.split("/")}
    assert not names & {dep.removesuffix(".py") for dep in deps}


@pytest.mark.parametrize(("stage", "task"), [case for case in CASES if STAGES[case[0]].remembers])
def test_the_key_of_a_memo_covers_each_reached_file(stage: str, task: str) -> None:
    assert set(files(stage, task)) <= {
        file.relative_to(ROOT).as_posix() for file in cache_code(ROOT, task, stage)
    }


@pytest.mark.parametrize(("stage", "task"), [case for case in CASES if STAGES[case[0]].fits])
def test_the_key_of_a_half_done_fit_covers_each_facet_that_it_reaches(
    stage: str, task: str
) -> None:
    reached = {file for file in files(stage, task) if package_of(file)}
    assert reached
    assert reached <= {file.relative_to(ROOT).as_posix() for file in fit_code(ROOT, task)}


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
            for node in nodes(path)
            if isinstance(node, ast.Attribute | ast.Name)
        )
        if {"import_module", "__import__", "exec_module"} & set(names):
            dynamic.add(path)
    assert dynamic == {file_of(BASE)}
