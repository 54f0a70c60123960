"""The tree of params, assembled from the models that each stage, task and net owns. Imports without torch, Ray or MLflow."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, create_model

from components.core.errors import ParamsError
from components.core.files import to_json
from components.core.params import Strict, nearest, read_yaml, validate
from components.monitoring.params import MonitorParams
from components.orchestration.output_paths import path_mistake
from components.orchestration.stage_files import STAGES
from components.tasks import base

SECTIONS = (
    *STAGES,
    "registry",
)  # of params.yaml, each with a module components/<section>/params.py


class Pipeline(Strict):
    """Where the pipeline stands."""

    root: str = "."
    params: str = "params.yaml"
    data: str = "data"


class Cluster(Strict):
    """Where Ray workers meet; tracked by no stage: it changes no result."""

    storage: str | None = None
    # Stages on no more rows than this run in their own process; 0: each is a Ray task.
    in_process_rows: int = Field(1000, ge=0)


class Retrain(Strict):
    """When a retrain is refused, and who hears of it; tracked by no stage either."""

    min_rows: float = Field(0.9, ge=0, le=1)
    webhook: str | None = Field(None, pattern=r"^https?://")


@dataclass(frozen=True)
class Params:
    """Validated params."""

    task: str
    seed: int
    pipeline: Pipeline
    cluster: Cluster
    monitor: MonitorParams
    sections: dict[str, BaseModel]
    retrain: Retrain = field(default_factory=Retrain)

    @property
    def name(self) -> str:
        """The pipeline's name: its folder below data/, or `default`."""
        return self.pipeline.data.removeprefix("data").strip("/") or "default"

    def digest(self, sections: Sequence[str]) -> str:
        """SHA-256 of task, seed and some sections, defaults filled in."""
        tree = {
            "task": self.task,
            "seed": self.seed,
            **{name: self.sections[name].model_dump(mode="json") for name in sections},
        }
        return hashlib.sha256(to_json(tree).encode()).hexdigest()

    def digest_up_to(self, stage: str) -> str:
        """SHA-256 of everything that the stage's result can depend on: its own section and those of all stages before."""
        names = list(STAGES)
        return self.digest(
            list(dict.fromkeys([*names[: names.index(stage) + 1], *STAGES[stage].sections]))
        )


def params_module(section: str) -> str:
    """Return the module that declares the params of a section."""
    if section == "serve":
        return "components.serving.params"
    if section == "registry":
        return "components.registry.params"
    return f"components.stages.{section}.params"


def section_model(section: str, task: str) -> type[BaseModel]:
    """A section's own knobs and the task's, as one strict model."""
    module = importlib.import_module(params_module(section))
    own = getattr(module, f"{section.capitalize()}Params")
    facets = (
        base.schema(task),
        base.encoding(task),
        base.models(task),
        base.baselines(task),
        base.evaluator(task),
    )
    parts = [facet.options[section] for facet in facets if section in facet.options]
    return create_model(f"{section.capitalize()}Section", __base__=(*parts, own)) if parts else own


def tree_model(task: str) -> type[BaseModel]:
    """The whole tree for a task."""
    sections: dict[str, Any] = {
        section: (section_model(section, task), ...) for section in SECTIONS
    }
    others: dict[str, Any] = {
        "cluster": (Cluster, Cluster()),
        "monitor": (MonitorParams, MonitorParams()),
        "retrain": (Retrain, Retrain()),
    }
    return create_model(
        "Params",
        __base__=Strict,
        pipeline=(Pipeline, ...),
        seed=(int, ...),
        task=(str, ...),
        **others,
        **sections,
    )


def load(path: Path, shown: str | None = None) -> Params:
    """Read and check all of params.yaml.

    Args:
        path: of the file.
        shown: how to call it in messages.

    Raises:
        ParamsError: all mistakes at once.
    """
    source = shown or path.name
    tree = read_yaml(path)
    task = tree.get("task")
    if task not in base.tasks():
        raise ParamsError(
            f"{task!r} is not one of {', '.join(base.tasks())}{nearest(str(task), base.tasks())}",
            where=f"{source}: task",
            remedy=f"edit {source}",
        )

    def more(model: Any) -> list[str]:
        return (
            _cross_check(task, model)
            + _check_place(model, shown)
            + _check_inputs(model, path, shown)
        )

    model: Any = validate(tree_model(task), tree, source, more)
    sections = {section: getattr(model, section) for section in SECTIONS}
    return Params(
        task, model.seed, model.pipeline, model.cluster, model.monitor, sections, model.retrain
    )


def _check_place(tree: Any, file: str | None) -> list[str]:
    """A pipeline that was copied by hand must not write where the first one does."""
    if file is None:
        return []
    name = Path(file).parent.name
    expected = Pipeline(root="../..", params=file, data=f"data/{name}") if name else Pipeline()
    told = {
        "DVC would read another file": ("root", "params"),
        "each pipeline has a folder of its own": ("data",),
    }
    return [
        f"pipeline.{key}: {value!r} must be {getattr(expected, key)!r}: {why}"
        for why, keys in told.items()
        for key in keys
        if (value := getattr(tree.pipeline, key)) != getattr(expected, key)
    ]


def _check_inputs(tree: Any, path: Path, file: str | None) -> list[str]:
    """Say which files that the pipeline reads lie where a run deletes them."""
    if file is None:
        return []
    root, name = path.parents[len(Path(file).parts) - 1], Path(file).parent.name or "default"
    inputs = {
        "ingest.source.path": tree.ingest.source.path,
        "ingest.feedback": tree.ingest.feedback,
    }
    mistakes = {key: path_mistake(root, name, value) for key, value in inputs.items() if value}
    return [f"{key}: {mistake}" for key, mistake in mistakes.items() if mistake]


def _cross_check(task: str, tree: Any) -> list[str]:
    """What one section says of another: the space of the search and the student's net must fit `train`, and its architecture what is asked of it."""
    from components.stages.compress.params import check_student
    from components.stages.train.params import check_pretrain
    from components.stages.tune.params import check_workers
    from components.stages.tune.search_space import check_space

    architectures = base.models(task).architectures
    searched = check_space(tree.tune.space, tree.train) or check_workers(
        tree.tune, tree.train.batch_size
    )
    return (
        check_pretrain(tree.train, architectures)
        + searched
        + check_student(tree.compress.distill, architectures)
    )
