"""The tree of params, assembled from the models of stages, tasks and networks.

Imports without torch, Ray or MLflow.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, create_model
from pydantic_core import PydanticCustomError

from components.core.errors import ParamsError
from components.core.files import to_json
from components.core.params import Strict, nearest, read_yaml, validate
from components.monitoring.params import MonitorParams
from components.orchestration.output_paths import path_mistake
from components.orchestration.stage_files import STAGES
from components.tasks import base

# Sections that some stage reads, each with a module params.py.
SECTIONS = (*STAGES, "registry")
# One sentence for each key at the top of params.yaml.
DESCRIPTIONS: Mapping[str, str] = {
    "pipeline": "Files of this pipeline, as `gristmill new` writes them.",
    "seed": "Seed of all random draws.",
    "task": "Kind of problem that the pipeline solves.",
    "cluster": "Ray cluster of the stages, which changes no result.",
    "retrain": "Checks and messages of `gristmill retrain`, which change no result.",
    "release_webhook": "Messages about decisions on versions, which change no result.",
    "preset": "Preset of `gristmill run --preset`, and what it replaced.",
    "ingest": "Source of the raw data.",
    "clean": "Cleaning of rows, duplicates and the split into train, validation and test.",
    "augment": "Variants of train rows.",
    "tokenize": "Encoding of inputs as numbers.",
    "train": "Fit of the first network and of the classical baseline.",
    "tune": "Search for better params of train.",
    "compress": "Smaller candidates: pruned, quantized and distilled.",
    "evaluate": "Measurement of all candidates.",
    "serve": "Service that answers requests over HTTP.",
    "registry": "Release of a winner.",
    "monitor": "Request log and drift alarms of the running service, which change no result.",
}


class Pipeline(Strict):
    """The files of a pipeline."""

    root: str = Field(".", description="Path from the pipeline's folder to the project's root.")
    params: str = Field("params.yaml", description="Path of this file from the root.")
    data: str = Field("data", description="Folder of the pipeline's outputs, from the root.")


class Cluster(Strict):
    """The meeting point of Ray workers. No stage tracks it, because it changes no result."""

    storage: str | None = Field(
        None,
        description="Folder around the project that all nodes mount at the same path.",
    )
    in_process_rows: int = Field(
        1000,
        ge=0,
        description="Most rows of a stage that is no Ray task (0: all stages are).",
    )


class Retrain(Strict):
    """Checks and messages of a retrain. No stage tracks it either."""

    min_rows: float = Field(
        0.9, ge=0, le=1, description="Smallest source that is accepted, as a share of the last one."
    )
    webhook: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="URL that receives the end of each retrain as JSON (null: none).",
    )


ReleaseEvent = Literal["waiting_for_review", "approved", "rejected", "released", "rolled_back"]
# A name of an environment variable, which stands for its value.
VARIABLE = re.compile(r"\$\{(\w+)\}")
WEB_URL = re.compile(r"https?://[^\s@]+")


def _check_url(url: str) -> str:
    # Not a pattern: its message would show the address, which may hold a secret.
    if not (VARIABLE.fullmatch(url) or WEB_URL.fullmatch(url)):
        raise PydanticCustomError(
            "secret",
            "must be http:// or https:// without a user name, a space or an @, "
            "or be all of it in the environment: ${NAME}",
        )
    return url


def _check_variable(secret: str) -> str:
    if not VARIABLE.fullmatch(secret):
        raise PydanticCustomError("secret", "must be in the environment: write ${NAME} here")
    return secret


class ReleaseWebhook(Strict):
    """Messages about decisions on versions. No stage tracks them."""

    url: Annotated[str, AfterValidator(_check_url)] | None = Field(
        None,
        description="URL that receives each event as JSON, or ${NAME} of the environment "
        "(null: none).",
    )
    secret: Annotated[str, AfterValidator(_check_variable)] | None = Field(
        None,
        description="Key of the signature, as ${NAME} of the environment (null: no signature).",
    )
    events: list[ReleaseEvent] = Field(
        list(get_args(ReleaseEvent)), description="Events that are sent."
    )
    format: Literal["json", "dingtalk", "wecom", "feishu"] = Field(
        "json", description="Form of the message (json: all fields; the others: one sentence)."
    )
    timeout_s: float = Field(
        10.0, gt=0, le=60, description="Most seconds that a command waits for the receiver."
    )


class ReplacedValue(Strict):
    """A value that a preset replaced, and its own."""

    before: Any = Field(description="Value without the preset.")
    now: Any = Field(description="Value of the preset.")


class PresetRecord(Strict):
    """The preset of `gristmill run --preset`, which writes this section."""

    name: str = Field("good", description="Name of the preset.")
    replaced: dict[str, ReplacedValue] = Field(
        {}, description="Dotted path of each value that the preset replaced."
    )


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
    release_webhook: ReleaseWebhook = field(default_factory=ReleaseWebhook)
    preset: PresetRecord = field(default_factory=PresetRecord)

    @property
    def name(self) -> str:
        """Return the pipeline's name: its folder below data/, or `default`."""
        return self.pipeline.data.removeprefix("data").strip("/") or "default"

    def digest(self, sections: Sequence[str]) -> str:
        """Return the SHA-256 of task, seed and some sections, defaults filled in."""
        tree = {
            "task": self.task,
            "seed": self.seed,
            **{name: self.sections[name].model_dump(mode="json") for name in sections},
        }
        return hashlib.sha256(to_json(tree).encode()).hexdigest()

    def digest_up_to(self, stage: str) -> str:
        """Return the SHA-256 of all params that can change the result of a stage.

        These are its own section and those of all stages before it.
        """
        stages = list(STAGES)
        names = [*stages[: stages.index(stage) + 1], *STAGES[stage].sections]
        return self.digest(list(dict.fromkeys(names)))


def params_module(section: str) -> str:
    """Return the module that declares the params of a section."""
    if section == "serve":
        return "components.serving.params"
    if section == "registry":
        return "components.registry.params"
    return f"components.stages.{section}.params"


@cache
def section_model(section: str, task: str) -> type[BaseModel]:
    """Return one strict model of a section's params: those of all tasks and those of one."""
    module = importlib.import_module(params_module(section))
    shared = getattr(module, f"{section.capitalize()}Params")
    schema = base.schema(task)
    facets = (
        schema,
        schema.targets,
        base.encoding(task),
        base.models(task),
        base.baselines(task),
        base.evaluator(task),
    )
    parts = [facet.options[section] for facet in facets if section in facet.options]
    if section == "clean" and schema.split.near_duplicates:
        parts.append(module.NearDuplicates)
    if not parts:
        return shared  # type: ignore[no-any-return]
    return create_model(f"{section.capitalize()}Section", __base__=(*parts, shared))


@cache
def tree_model(task: str) -> type[BaseModel]:
    """Return the model of the whole tree for a task."""
    fields: dict[str, Any] = {
        "pipeline": (Pipeline, ...),
        "seed": (int, ...),
        "task": (str, ...),
        "cluster": (Cluster, Cluster()),
        "monitor": (MonitorParams, MonitorParams()),
        "retrain": (Retrain, Retrain()),
        "release_webhook": (ReleaseWebhook, ReleaseWebhook()),
        "preset": (PresetRecord, PresetRecord()),
    }
    fields |= {section: (section_model(section, task), ...) for section in SECTIONS}
    described: dict[str, Any] = {
        name: (annotation, Field(default, description=DESCRIPTIONS[name]))
        for name, (annotation, default) in fields.items()
    }
    return create_model("Params", __base__=Strict, **described)


def load(path: Path, shown: str | None = None) -> Params:
    """Read and check all of params.yaml.

    Args:
        path: of the file.
        shown: how to call it in messages.

    Raises:
        ParamsError: all mistakes at once.
    """
    source = shown or path.name
    tree = read_yaml(path, shown)
    task = tree.get("task")
    if task not in base.tasks():
        raise ParamsError(
            f"{task!r} is not one of {', '.join(base.tasks())}{nearest(str(task), base.tasks())}",
            where=f"{source}: task",
            remedy=f"edit {source}",
        )

    def cross_check(model: Any) -> list[str]:
        return [
            *_check_sections(task, model),
            *_check_pipeline(model, shown),
            *_check_inputs(model, path, shown),
        ]

    model: Any = validate(tree_model(task), tree, source, cross_check)
    sections = {section: getattr(model, section) for section in SECTIONS}
    return Params(
        task=task,
        seed=model.seed,
        pipeline=model.pipeline,
        cluster=model.cluster,
        monitor=model.monitor,
        sections=sections,
        retrain=model.retrain,
        release_webhook=model.release_webhook,
        preset=model.preset,
    )


def _check_pipeline(tree: Any, file: str | None) -> list[str]:
    """Return the mistakes in a pipeline that was copied by hand: it must not write elsewhere."""
    if file is None:
        return []
    name = Path(file).parent.name
    expected = Pipeline()
    if name:
        expected = Pipeline(root="../..", params=file, data=f"data/{name}")
    reasons = {
        "root": "DVC would read another file",
        "params": "DVC would read another file",
        "data": "each pipeline has a folder of its own",
    }
    mistakes = []
    for key, reason in reasons.items():
        value = getattr(tree.pipeline, key)
        if value != getattr(expected, key):
            mistakes.append(
                f"pipeline.{key}: {value!r} must be {getattr(expected, key)!r}: {reason}"
            )
    return mistakes


def _check_inputs(tree: Any, path: Path, file: str | None) -> list[str]:
    """Return which files that the pipeline reads are in a folder that a run deletes."""
    if file is None:
        return []
    root = path.parents[len(Path(file).parts) - 1]
    name = Path(file).parent.name or "default"
    inputs = {
        "ingest.source.path": tree.ingest.source.path,
        "ingest.feedback": tree.ingest.feedback,
    }
    mistakes = {key: path_mistake(root, name, value) for key, value in inputs.items() if value}
    return [f"{key}: {mistake}" for key, mistake in mistakes.items() if mistake]


def _check_folds(tree: Any) -> list[str]:
    """Return that folds of rows that are split by time would learn from later rows."""
    if tree.evaluate.folds and tree.clean.split_by == "time":
        return [
            "evaluate.folds: clean.split_by is time, and folds would learn from later rows: "
            "set folds to 0"
        ]
    return []


def _check_sections(task: str, tree: Any) -> list[str]:
    """Return the mistakes between sections.

    The space of the search, the student's network and pretraining must fit `train`.
    """
    from components.stages.compress.params import check_recipes
    from components.stages.evaluate.behavior import check_tests
    from components.stages.train.params import check_pretrain
    from components.stages.tune.params import check_workers
    from components.stages.tune.search_space import check_space

    architectures = base.models(task).architectures
    space_mistakes = check_space(tree.tune.space, tree.train)
    # The batch sizes of a wrong space cannot be checked.
    if not space_mistakes:
        space_mistakes = check_workers(tree.tune, tree.train.batch_size)
    return [
        *check_pretrain(tree.train, architectures),
        *check_tests(tree.evaluate.behavior, base.evaluator(task)),
        *_check_folds(tree),
        *space_mistakes,
        *check_recipes(tree.compress, architectures),
    ]
