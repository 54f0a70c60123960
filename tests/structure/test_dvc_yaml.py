"""dvc.yaml says by hand what components/orchestration/stage_files.py and the stages' code say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from components.core.params import read_yaml
from components.orchestration.stage_files import STAGES
from components.tasks import base
from tests.structure.import_graph import ROOT, reached

DVC: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")
DATA = "${pipeline.data}/"
SOURCE = "${ingest.source.path}"
CODE = ("components/",)


def paths(entries: list[Any]) -> set[str]:
    """Outs and metrics, which are a path or a path with settings."""
    return {each if isinstance(each, str) else next(iter(each)) for each in entries}


def tracked(stage: str) -> list[str]:
    """The params that DVC compares for a stage."""
    (entry,) = DVC["stages"][stage]["params"]
    return list(entry["${pipeline.params}"])


@cache
def nodes(stage: str) -> list[ast.AST]:
    """All that a stage can run, for any task."""
    return list(
        {id(node): node for task in base.tasks() for node in reached(stage, task).nodes}.values()
    )


def keys(stage: str, name: str) -> list[str]:
    """Each occurrence of `job.<name>["key"]`."""
    found = (node for node in nodes(stage) if isinstance(node, ast.Subscript))
    return [key for node in found if (key := cache_key(node, name)) is not None]


def cache_key(node: ast.AST | None, name: str) -> str | None:
    """The key, if a node is `job.<name>["key"]`."""
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == name
    ):
        return str(node.slice.value)
    return None


def words(stage: str) -> set[str]:
    """All string constants that a stage can use."""
    return {
        node.value
        for node in nodes(stage)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_the_stages_are_the_nine_in_order() -> None:
    assert list(DVC["stages"]) == list(STAGES)
    assert len(STAGES) == 9


@pytest.mark.parametrize("stage", STAGES)
def test_data_deps_are_the_inputs(stage: str) -> None:
    data = {path for path in DVC["stages"][stage]["deps"] if not path.startswith(CODE)}
    source = {SOURCE} if stage == "ingest" else set()
    assert data == {DATA + path for path in STAGES[stage].inputs.values()} | source
    assert len(DVC["stages"][stage]["deps"]) == len(set(DVC["stages"][stage]["deps"]))


@pytest.mark.parametrize("stage", STAGES)
def test_outs_and_metrics_are_the_outputs(stage: str) -> None:
    told = DVC["stages"][stage]
    outs, metrics = paths(told.get("outs", [])), paths(told.get("metrics", []))
    assert outs | metrics == {DATA + path for path in STAGES[stage].outputs.values()}
    assert not outs & metrics
    # Metrics are kept in git, so that `dvc metrics diff` needs no cache.
    assert all(
        settings == {"cache": False} for entry in told["metrics"] for settings in entry.values()
    )


@pytest.mark.parametrize("stage", STAGES)
def test_names_of_inputs_and_outputs_are_used_by_the_code(stage: str) -> None:
    assert set(keys(stage, "inputs")) <= set(STAGES[stage].inputs)
    assert set(keys(stage, "outputs")) <= set(STAGES[stage].outputs)
    assert {*STAGES[stage].inputs, *STAGES[stage].outputs} <= words(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_those_that_the_code_reads(stage: str) -> None:
    names = tracked(stage)
    assert {name.split(".")[0] for name in names} - {"seed", "task"} == set(STAGES[stage].sections)
    assert {*keys(stage, "sections"), stage} == set(STAGES[stage].sections)
    assert "task" in names
    uses_seed = any(
        isinstance(node, ast.Attribute)
        and node.attr == "seed"
        and isinstance(node.value, ast.Name)
        and node.value.id == "job"
        for node in nodes(stage)
    )
    assert ("seed" in names) == uses_seed


@pytest.mark.parametrize(
    "stage", [stage for stage in STAGES if any("." in name for name in tracked(stage))]
)
def test_a_tracked_part_of_a_section_is_all_that_is_read_of_it(stage: str) -> None:
    parts = [name.split(".") for name in tracked(stage) if "." in name]
    for section, part in parts:
        assert set(read_of_section(stage, section)) == {part}


def read_of_section(stage: str, section: str) -> Iterator[str]:
    """Attributes read of the variables that hold `job.sections[<section>]`."""
    held = [
        node
        for node in nodes(stage)
        if isinstance(node, ast.AnnAssign) and cache_key(node.value, "sections") == section
    ]
    assert len(held) == keys(stage, "sections").count(section), (
        "the section is used without a variable of its own: this test cannot see what is read of it"
    )
    names = {node.target.id for node in held if isinstance(node.target, ast.Name)}
    for node in nodes(stage):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in names
        ):
            yield node.attr


@pytest.mark.parametrize("stage", STAGES)
def test_command_and_folder(stage: str) -> None:
    told = DVC["stages"][stage]
    assert told["cmd"] == f"python -m components.cli stage {stage} ${{pipeline.params}}"
    assert told["wdir"] == "${pipeline.root}"
    assert told["desc"]


def test_plots_show_outs() -> None:
    outs = {path for stage in DVC["stages"].values() for path in paths(stage.get("outs", []))}
    shown = {path for plot in DVC["plots"] for settings in plot.values() for path in settings["y"]}
    assert shown
    assert {path.removeprefix("${pipeline.root}/") for path in shown} <= outs
