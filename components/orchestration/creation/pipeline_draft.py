"""A pipeline that is not written yet: its section `ingest`, and why it has each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.core.errors import ParamsError
from components.core.params import validate
from components.orchestration.creation.creation_options import RENAMES, parse_settings, target_map
from components.orchestration.creation.named_input_columns import SoughtTarget
from components.orchestration.creation.params_writer import ParamsDraft
from components.orchestration.creation.table_inputs import is_input_setting
from components.orchestration.pipeline_params import section_model
from components.stages.clean.cleaning import target_of
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.params import FORMATS, Files, IngestParams
from components.tasks import base
from components.tasks.base import ChoosesInputs, ChosenInputs, Setting

SET_BY_PERSON = "set on the command line"
# Bytes of a value, where the params do not limit them yet.
_UNLIMITED = 2**31


@dataclass(frozen=True)
class NewOptions:
    """Options of the command, where a guess would be wrong.

    Args:
        text: the column of the task's one input; None: it is guessed.
        target: the column to predict; None: it is guessed.
        format: of the source; None: it is detected.
        header: whether the first line names the columns; None: it is guessed.
        columns: names of the columns of a table without a header.
        renames: new names of targets, such as Positive=positive,n/a=
        settings: params, as key=value.
        preset: a preset of the task; None: its defaults.
    """

    text: str | None = None
    target: str | None = None
    format: str | None = None
    header: bool | None = None
    columns: Sequence[str] = ()
    renames: str = ""
    settings: Sequence[str] = ()
    preset: str | None = None


@dataclass
class PipelineDraft:
    """A pipeline that is not written yet.

    Args:
        root: of the project.
        name: of the pipeline.
        task: its id.
        ingest: the section `ingest`, validated.
        section: the same as a tree.
        settings: that a person sets.
        reasons: dotted path of a value in `ingest` -> why it has it.
        chosen: inputs of a task that has none of its own, once they are chosen.
        later: settings of other sections that the choice of columns brings.
    """

    root: Path
    name: str
    task: str
    ingest: IngestParams
    section: dict[str, Any]
    settings: Sequence[Setting]
    reasons: dict[str, str] = field(default_factory=dict)
    chosen: ChosenInputs | None = None
    later: list[Setting] = field(default_factory=list)

    @property
    def schema(self) -> base.Schema:
        """Return the schema of the task, with the inputs that are chosen so far."""
        return base.schema(self.task).with_inputs(self.section.get("inputs") or {})

    @property
    def source(self) -> Files:
        """Return the files of the rows."""
        assert isinstance(self.ingest.source, Files)
        return self.ingest.source

    @property
    def target(self) -> SoughtTarget:
        """Return the target of the task."""
        schema = base.schema(self.task)
        names = base.defaults(self.task).target_names
        return SoughtTarget(target_of(schema), names, schema.targets.words)

    @property
    def set_paths(self) -> set[str]:
        """Return the dotted paths of the params that a person sets."""
        return {setting.path for setting in self.settings}

    def role_columns(self) -> Layout:
        """Return the columns of the task under the names of its roles."""
        return layout(self.schema.roles, {}, _UNLIMITED)

    def set_source(self, key: str, value: Any, reason: str) -> None:
        """Write a value into `ingest.source`, with its reason."""
        self.section["source"][key] = value
        self.reasons[f"ingest.source.{key}"] = reason

    def validate_ingest(self) -> None:
        """Validate the section `ingest` again, after a change of its tree."""
        self.ingest = _ingest(self.section, self.task)


def new_draft(
    root: Path,
    name: str,
    task: str,
    data: Path,
    options: NewOptions,
) -> PipelineDraft:
    """Return a draft with the section `ingest`, as far as the options determine it.

    Raises:
        GristmillError: an option has a mistake.
    """
    section, reasons = files_section(path_in_params(root, data), options)
    if options.renames:
        key = _renames_key(task)
        section[key] = target_map(options.renames)
        reasons[f"ingest.{key}"] = SET_BY_PERSON
    settings = parse_settings(options.settings, task)
    params = ParamsDraft(task, {"ingest": section})
    for setting in settings:
        if setting.path.startswith("ingest.") and not is_input_setting(setting):
            params.apply(replace(setting, reason=SET_BY_PERSON))
    section = params.tree["ingest"]
    return PipelineDraft(
        root=root,
        name=name,
        task=task,
        ingest=_ingest(section, task),
        section=section,
        settings=settings,
        reasons=reasons | params.reasons,
    )


def _renames_key(task: str) -> str:
    """Return the key of `ingest` with the new names of targets.

    Raises:
        ParamsError: the targets of the task have no names.
    """
    key = base.defaults(task).renames
    if key is None:
        values = base.schema(task).targets.words.values
        raise ParamsError(
            f"renames targets, and those of {task} are {values}",
            where=RENAMES,
            remedy="leave it out",
        )
    return key


def files_section(path: str, options: NewOptions) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the section `ingest` of the options that fit any task, and its reasons.

    Raises:
        ParamsError: --format has a mistake.
    """
    if options.format is not None and options.format not in ("auto", *FORMATS):
        raise ParamsError(
            f"{options.format!r} is not one of {', '.join(FORMATS)}",
            where="--format",
            remedy="take one of these, or leave it out",
        )
    source: dict[str, Any] = {"kind": "files", "path": path, "format": options.format or "auto"}
    section: dict[str, Any] = {"source": source, "columns": {}}
    reasons = {}
    if options.format:
        reasons["ingest.source.format"] = SET_BY_PERSON
    if options.header is not None:
        source["header"] = options.header
        reasons["ingest.source.header"] = SET_BY_PERSON
    if options.columns:
        source["column_names"] = list(options.columns)
        reasons["ingest.source.column_names"] = SET_BY_PERSON
    return section, reasons


def _ingest(section: Mapping[str, Any], task: str) -> IngestParams:
    """Validate the section `ingest` of a task.

    Raises:
        ParamsError: --set or another option has a mistake.
    """
    model = section_model("ingest", task)
    if isinstance(base.defaults(task), ChoosesInputs) and "inputs" not in section:
        # Until the inputs are chosen, only the source is known.
        model = IngestParams
        section = {key: section[key] for key in section if key in model.model_fields}
    ingest = valid_ingest(model, section)
    files_of_rows(ingest)
    return ingest


def valid_ingest(model: type[BaseModel], section: Mapping[str, Any]) -> IngestParams:
    """Validate a section `ingest`.

    Raises:
        ParamsError: --set or another option has a mistake.
    """
    try:
        ingest = validate(model, section, "ingest")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the options of the command") from None
    assert isinstance(ingest, IngestParams)
    return ingest


def files_of_rows(ingest: IngestParams) -> Files:
    """Return the files of the rows.

    Raises:
        ParamsError: the source is no files.
    """
    if not isinstance(ingest.source, Files):
        raise ParamsError(
            f"{ingest.source.kind!r} is no kind of source that new looks at",
            where="--set ingest.source.kind",
            remedy="leave it out, and edit the params.yaml that new writes",
        )
    return ingest.source


def path_in_params(root: Path, data: Path) -> str:
    """Return the path of the data as params.yaml names it.

    It is relative to the project where the data lie there. A link is not followed.
    """
    path = data.absolute() if data.is_symlink() else data.resolve()
    if path.is_relative_to(root.resolve()):
        path = path.relative_to(root.resolve())
    return path.as_posix()
