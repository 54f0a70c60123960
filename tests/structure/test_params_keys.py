"""Each key of params.yaml changes something: code reads it, and the hashes of the params know it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from components.core.params import read_yaml
from components.monitoring.params import MonitorParams
from components.orchestration.pipeline_params import (
    SECTIONS,
    Cluster,
    Params,
    Pipeline,
    Retrain,
    load,
    params_module,
    section_model,
)
from components.orchestration.stage_files import STAGES
from components.tasks import base
from tests.structure.import_graph import ROOT, Walk, nodes, reached

FILES = [
    "params.yaml",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("pipelines/*/params.yaml")),
]
CASES = [(section, task) for section in SECTIONS for task in base.tasks()]
# Read by pydantic, to tell one kind of source from the other.
TAGS = {"kind"}
# Keys of which only one value is allowed so far: nothing to change them to.
ONLY_ONE = {
    # of a task without augmenters
    "augment.rate",
    "compress.distill",
    "ingest.source.kind",
    "ingest.source.dataset",
    # other_lines of headlines needs it
    "ingest.source.first_line",
    "train.architecture",
    "compress.distill.architecture",
}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models(inner)


def keys(model: type[BaseModel]) -> set[str]:
    """The names of all fields of a model, nested ones too."""
    below = {
        key
        for each in model.model_fields.values()
        for inner in models(each.annotation)
        for key in keys(inner)
    }
    return set(model.model_fields) | below


def attributes(read: Sequence[ast.AST]) -> set[str]:
    """Names that are read as `something.name`."""
    return {
        node.attr
        for node in read
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@cache
def read_by(stage: str, task: str) -> frozenset[str]:
    """Attributes that a stage's code reads, its params' own methods included."""
    own = Walk(task).start(params_module(stage), f"{stage.capitalize()}Params")
    return frozenset(attributes(reached(stage, task).nodes) | attributes(own.nodes))


@pytest.mark.parametrize(("section", "task"), CASES)
def test_each_key_is_read_by_a_stage_that_tracks_its_section(section: str, task: str) -> None:
    readers = [stage for stage, told in STAGES.items() if section in told.sections]
    read = frozenset[str]().union(*(read_by(stage, task) for stage in readers))
    if section == "serve":  # the rest is the running service's
        read |= attributes(
            [
                node
                for path in (
                    "serving/rollout/controller.py",
                    "serving/rollout/canary_check.py",
                    "orchestration/service/registry_watch.py",
                )
                for node in nodes(ROOT / "components" / path)
            ]
        )
    if section == "ingest":
        # A pull asks a database, which ingest never does. Encoders find the inputs in the manifest.
        modules = [
            "stages/ingest/database_pull.py",
            "stages/ingest/database.py",
            "tasks/shared/encode/tables/text_columns.py",
        ]
        for module in modules:
            read |= attributes(nodes(ROOT / "components" / module))
    nets = (
        set(base.models(task).architectures) if section == "train" else set()
    )  # chosen by train.architecture, with getattr
    dead = keys(section_model(section, task)) - read - TAGS - nets
    assert not dead, f"params.yaml: {section}: nothing reads {sorted(dead)}"


@pytest.mark.parametrize("model", [Pipeline, Cluster, Retrain])
def test_each_key_of_the_rest_is_read_by_the_pipelines(model: type[BaseModel]) -> None:
    files = sorted((ROOT / "components" / "orchestration").rglob("*.py"))
    read = attributes([node for file in files for node in nodes(file)])
    assert set(model.model_fields) <= read


def test_each_key_of_monitoring_is_read_where_a_service_is_watched() -> None:
    files = [
        *(ROOT / "components" / "monitoring").glob("*.py"),
        *(ROOT / "components" / "orchestration" / "drift").glob("*.py"),
        ROOT / "components" / "serving" / "http" / "monitoring_routes.py",
    ]
    read = attributes([node for file in files for node in nodes(file)])
    assert set(MonitorParams.model_fields) <= read


@pytest.mark.parametrize("task", base.tasks())
def test_each_net_of_the_params_is_an_architecture_of_the_task(task: str) -> None:
    (nets,) = models(section_model("train", task).model_fields["nets"].annotation)
    assert set(nets.model_fields) == set(base.models(task).architectures)


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of what is not a mapping with something in it."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif not isinstance(tree, dict):
        yield path


def others(value: Any) -> Iterator[Any]:
    """Values unlike this one, of which some may be allowed in its place."""
    if value == []:
        yield ["x"]
    elif isinstance(value, list):
        yield value[:-1]
        yield [*value, value[-1]]
        yield from ([*value[:-1], last] for last in others(value[-1]))
    elif isinstance(value, str):
        yield from {
            f"{value}x",
            "majority",
            "merge",
            "adam",
            "transformer",
            "review",
            "linear",
            "cosine",
            "magnitude",
            "balanced",
            "occlusion",
            "fp32",
            "gru",
            "optuna",
            "median",
            "head",
            "first",
            "keep",
            "fold",
            "category",
            "number",
            ",",
            "time",
            "hash",
            "dmy",
            "utf-8",
            "mixed",
            "fsdp",
            "quarantine",
            "random",
            "all",
            "auto",
        } - {value}
    elif value is None:
        yield from (1, 2, 0.5, "somewhere", {}, {"count": 5, "number": 1})
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value + 2, value * 2)
    elif isinstance(value, float):
        yield from {value + 0.01, value * 1.1 + 0.001, value * 0.9} - {value}


def changed(params: Params, path: tuple[str, ...], tree: dict[str, Any]) -> Params | None:
    """The params with another value at a path; None where no other was found that is allowed."""
    section, *way = path
    here: Any = tree[section]
    for part in way:
        here = here[part]
    for value in others(here):
        twin = copy.deepcopy(tree[section])
        place = twin
        for part in way[:-1]:
            place = place[part]
        place[way[-1]] = value
        try:
            return replace(
                params,
                sections={
                    **params.sections,
                    section: section_model(section, params.task).model_validate(twin),
                },
            )
        except ValidationError:
            continue
    return None


@pytest.mark.parametrize("file", FILES)
def test_another_value_of_any_key_is_another_hash(file: str) -> None:
    params, tree = load(ROOT / file), read_yaml(ROOT / file)
    stages = list(STAGES)
    for path in leaves({section: tree[section] for section in SECTIONS}):
        name, section = ".".join(path), path[0]
        twin = changed(params, path, tree)
        if twin is None:
            assert name in ONLY_ONE, f"no other value is allowed for {name}"
            continue
        assert twin.digest([section]) != params.digest([section]), name
        assert twin.digest_up_to("serve") != params.digest_up_to("serve"), name
        first = min(
            stages.index(stage) for stage, told in STAGES.items() if section in told.sections
        )
        before = (stages.index(section) if section in stages else first) - 1
        assert before < 0 or twin.digest_up_to(stages[before]) == params.digest_up_to(
            stages[before]
        ), name


def test_seed_and_task_are_part_of_the_hash() -> None:
    params = load(ROOT / "params.yaml")
    assert (
        len(
            {
                params.digest([]),
                replace(params, seed=params.seed + 1).digest([]),
                replace(params, task="another").digest([]),
            }
        )
        == 3
    )


def test_a_default_that_is_written_out_is_the_same_hash() -> None:
    params, tree = load(ROOT / "params.yaml"), read_yaml(ROOT / "params.yaml")
    model = section_model("train", params.task)
    full = model.model_validate(tree["train"]).model_dump()
    assert replace(
        params, sections={**params.sections, "train": model.model_validate(full)}
    ).digest(["train"]) == params.digest(["train"])
