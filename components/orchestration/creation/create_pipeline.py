"""Implementation of `gristmill new`: create a pipeline from data and what is measured of them."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from components.core import escaping
from components.core.errors import GristmillError, InputError, ParamsError
from components.core.escaping import one_line
from components.core.files import remove_tree, sync_tree
from components.core.params import validate
from components.orchestration.creation import preview
from components.orchestration.creation.clean_preview import (
    DryClean,
    FirstRows,
    assign_splits,
    check_division,
    clean_rows,
    collect_first,
    repeated_inputs,
    small_targets,
)
from components.orchestration.creation.column_guess import (
    NamedColumns,
    choose_columns,
    column_notes,
)
from components.orchestration.creation.creation_options import label_map, parse_settings
from components.orchestration.creation.label_forms import LabelForm, class_files, label_form
from components.orchestration.creation.params_writer import (
    ParamsDraft,
    check_task,
    initial_params,
    render,
)
from components.orchestration.creation.source_preview import Intake, count_rows, rows_of
from components.orchestration.creation.wizard import Wizard
from components.orchestration.output_paths import check_input_path, check_new_outputs
from components.orchestration.pipeline_params import load, section_model
from components.orchestration.processes import identify
from components.orchestration.runner.gitignore import ignore_outputs
from components.stages.ingest import source_files
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.params import FILE_TARGET, FORMATS, Files, IngestParams
from components.stages.ingest.sample import SourceColumns, scan_columns
from components.stages.ingest.source_rows import TABLES
from components.stages.ingest.stage import known_remedy
from components.tasks import base
from components.tasks.base import Setting

RESERVED = (
    "raw",
    "clean",
    "augmented",
    "tokens",
    "models",
    "reports",
    "audit",
    ".state",
    "default",
    "deploy",
    "sources",
    "feedback",
    "retrains",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# Characters. A name is part of file names and of MLflow's names.
_LONGEST_NAME = 60
# Characters of a long name in a message.
_SHOWN_NAME = 20
# Suffix of a folder in which a pipeline is written before it gets its name.
_PART = ".new"
_SET = "set on the command line"
# Bytes of a value, where the params do not limit them yet.
_UNLIMITED = 2**31
# Pictures or texts of a folder that are read to find the columns.
_SCANNED_FILES = 50


@dataclass(frozen=True)
class NewOptions:
    """Options of the command, where a guess would be wrong.

    Args:
        text: the column of the task's input; None: it is guessed.
        label: the column of its target; None: it is guessed.
        format: of the source; None: it is detected.
        header: whether the first line names the columns; None: it is guessed.
        columns: names of the columns of a table without a header.
        labels: renamed labels, such as Positive=positive,n/a=
        settings: params, as key=value.
    """

    text: str | None = None
    label: str | None = None
    format: str | None = None
    header: bool | None = None
    columns: Sequence[str] = ()
    labels: str = ""
    settings: Sequence[str] = ()


@dataclass
class _Draft:
    """A pipeline that is not written yet.

    Args:
        root: of the project.
        name: of the pipeline.
        task: its id.
        ingest: the section `ingest`, validated.
        section: the same as a tree.
        settings: that a person sets.
        reasons: dotted path of a value in `ingest` -> why it has it.
    """

    root: Path
    name: str
    task: str
    ingest: IngestParams
    section: dict[str, Any]
    settings: Sequence[Setting]
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Files:
        """Return the files of the rows."""
        assert isinstance(self.ingest.source, Files)
        return self.ingest.source

    @property
    def set_paths(self) -> set[str]:
        """Return the dotted paths of the params that a person sets."""
        return {setting.path for setting in self.settings}

    def role_columns(self) -> Layout:
        """Return the columns of the task under the names of its roles."""
        return layout(base.schema(self.task).roles, {}, _UNLIMITED)

    def set_source(self, key: str, value: Any, reason: str) -> None:
        """Write a value into `ingest.source`, with its reason."""
        self.section["source"][key] = value
        self.reasons[f"ingest.source.{key}"] = reason

    def validate_ingest(self) -> None:
        """Validate the section `ingest` again, after a change of its tree."""
        self.ingest = _ingest(self.section, self.task)


@dataclass(frozen=True)
class _Preview:
    """Results that the preview shows.

    Args:
        seen: the columns of the source.
        intake: the rows as ingest reads them.
        dry: the preview of clean.
        description: names and values of the measurement.
        decided: settings that the data need.
    """

    seen: SourceColumns
    intake: Intake
    dry: DryClean
    description: Sequence[tuple[str, str]]
    decided: Sequence[Setting]


def create(
    root: Path,
    name: str,
    task: str,
    data: Path,
    text: str | None = None,
    label: str | None = None,
    *,
    options: NewOptions | None = None,
    wizard: Wizard | None = None,
) -> list[str]:
    """Write `pipelines/<name>/` for these data. The data stay where they are.

    Args:
        root: of the project.
        name: of the pipeline.
        task: its id.
        data: a file or folder, relative to the current folder or absolute.
        text: the column of the task's input; None: it is guessed.
        label: the column of its target; None: it is guessed.
        options: further options of the command.
        wizard: asks where a guess would be uncertain, and before anything is written.

    Returns:
        Lines of plain text about the data and the params. With a wizard only those that it has not
        shown.

    Raises:
        GristmillError: the name is not allowed or exists, the task is unknown, the data cannot be
            read or learned from, or a guess is uncertain. No files are left behind.
    """
    options = options or NewOptions()
    options = replace(options, text=text or options.text, label=label or options.label)
    _check_name(root, name)
    check_new_outputs(root, name)
    check_task(task)
    draft = _draft(root, name, task, data, options)
    lines, params = _measure(draft, options, wizard)
    params_text = _text(draft, params)
    if wizard is not None:
        wizard.show(lines)
        if not wizard.agrees(f"write pipelines/{name}?", default=True):
            return ["nothing was written"]
        lines = []
    _publish(draft, params_text)
    return [
        *lines,
        f"wrote pipelines/{name}/: params.yaml, dvc.yaml and README.md",
        f"the data stay at {draft.source.path}",
        f"next: gristmill run {name}",
    ]


def _check_name(root: Path, name: str) -> None:
    """Raise a GristmillError unless a pipeline of this name can be created."""
    if not _NAME.fullmatch(name) or name in RESERVED or len(name) > _LONGEST_NAME:
        reason = ""
        if name in RESERVED:
            reason = ": it is taken"
        if len(name) > _LONGEST_NAME:
            reason = f": it has more than {_LONGEST_NAME} characters"
            name = f"{name[:_SHOWN_NAME]}…"
        raise GristmillError(
            f"{name!r} cannot be a pipeline's name{reason}",
            where="NAME",
            remedy="use small letters, digits, - and _, such as my-reviews",
        )
    if (root / "pipelines" / name).exists():
        raise GristmillError(
            f"pipelines/{name} is there already and is not overwritten",
            where="NAME",
            remedy=f"take another name, edit pipelines/{name}/params.yaml, or remove the folder",
        )


def _draft(root: Path, name: str, task: str, data: Path, options: NewOptions) -> _Draft:
    """Return a draft with the section `ingest`, as far as the options determine it.

    Raises:
        GristmillError: the data do not exist, or an option has a mistake.
    """
    if not data.exists():
        raise GristmillError(
            f"there is no file or folder {str(data)!r}",
            where="--data",
            remedy="give the path of what you have, relative to this folder or absolute",
        )
    path = _path_in_params(root, data)
    check_input_path(root, name, path, "--data")
    section, reasons = _section(path, options)
    settings = parse_settings(options.settings, task)
    params = ParamsDraft(task, {"ingest": section})
    for setting in settings:
        if setting.path.startswith("ingest."):
            params.apply(replace(setting, reason=_SET))
    section = params.tree["ingest"]
    return _Draft(
        root=root,
        name=name,
        task=task,
        ingest=_ingest(section, task),
        section=section,
        settings=settings,
        reasons=reasons | params.reasons,
    )


def _section(path: str, options: NewOptions) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the section `ingest` of the options but --set, and its reasons.

    Raises:
        ParamsError: --format or --labels has a mistake.
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
        reasons["ingest.source.format"] = _SET
    if options.header is not None:
        source["header"] = options.header
        reasons["ingest.source.header"] = _SET
    if options.columns:
        source["column_names"] = list(options.columns)
        reasons["ingest.source.column_names"] = _SET
    if options.labels:
        section["labels"] = label_map(options.labels)
        reasons["ingest.labels"] = _SET
    return section, reasons


def _ingest(section: Mapping[str, Any], task: str) -> IngestParams:
    """Validate the section `ingest` of a task.

    Raises:
        ParamsError: --set or another option has a mistake.
    """
    try:
        ingest = validate(section_model("ingest", task), section, "ingest")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the options of the command") from None
    assert isinstance(ingest, IngestParams)
    if not isinstance(ingest.source, Files):
        raise ParamsError(
            f"{ingest.source.kind!r} is no kind of source that new looks at",
            where="--set ingest.source.kind",
            remedy="leave it out, and edit the params.yaml that new writes",
        )
    return ingest


def _path_in_params(root: Path, data: Path) -> str:
    """Return the path of the data as params.yaml names it.

    It is relative to the project where the data lie there. A link is not followed.
    """
    path = data.absolute() if data.is_symlink() else data.resolve()
    if path.is_relative_to(root.resolve()):
        path = path.relative_to(root.resolve())
    return path.as_posix()


def _measure(
    draft: _Draft, options: NewOptions, wizard: Wizard | None
) -> tuple[list[str], ParamsDraft]:
    """Return the preview as lines of text, and the params that the data need.

    The code of ingest reads the rows, and the code of clean cleans the first of them. So both
    stages accept what the preview shows.
    """
    seen = _scan_source(draft, options, wizard)
    intake, first, measurement = _read(draft, seen)
    facet = base.defaults(draft.task)
    if _fold_labels(draft, facet.describe(measurement), wizard):
        intake, first, measurement = _read(draft, seen)
    facet.check(measurement)
    params = initial_params(draft.root, draft.task, draft.name, draft.section)
    params.reasons |= draft.reasons
    decided = list(facet.settings(measurement))
    set_by_person = [replace(setting, reason=_SET) for setting in draft.settings]
    for setting in [*decided, *set_by_person]:
        params.apply(setting)
    dry, added, remarks = _clean(draft, params, first, {setting.path for setting in decided})
    decided += added
    losses = facet.losses(measurement, _complete(params))
    results = _Preview(seen, intake, dry, facet.describe(measurement), decided)
    lines = _preview_lines(draft, results)
    lines += [f"note: {line}" for line in [*losses, *remarks]]
    return lines, params


def _scan_source(draft: _Draft, options: NewOptions, wizard: Wizard | None) -> SourceColumns:
    """Return the columns of the source, after the draft has got all settings to read them."""
    seen = _scan(draft)
    if _detect_header(draft, seen, wizard):
        seen = _scan(draft)
    if _detect_label_form(draft, seen, options):
        seen = _scan(draft)
    _choose(draft, seen, options, wizard)
    return seen


def _clean(
    draft: _Draft,
    params: ParamsDraft,
    first: FirstRows,
    decided: Collection[str],
) -> tuple[DryClean, list[Setting], list[str]]:
    """Preview clean on the first rows, and apply the settings that it needs.

    Args:
        draft: the pipeline.
        params: its params; settings are applied.
        first: the first raw rows.
        decided: paths of the settings that the data need.

    Returns:
        The result of the preview, the settings that were applied, and remarks for a person.

    Raises:
        InputError: clean would refuse the rows.
    """
    seed = params.tree["seed"]
    dry = clean_rows(first, draft.task, _clean_params(params), seed)
    added = _apply_cleaned(draft, params, dry, decided)
    remarks = check_division(dry, draft.task, _clean_params(params), seed)
    return dry, added, remarks


def _preview_lines(draft: _Draft, results: _Preview) -> list[str]:
    """Return the preview as lines of text, without the remarks at its end."""
    seen = results.seen
    ingest = draft.ingest
    wanted = layout(base.schema(draft.task).roles, ingest.columns, ingest.max_bytes_per_value)
    lines = [preview.head(draft.name, seen, results.intake.encodings)]
    notes = {}
    if seen.is_table:
        notes = column_notes(draft.source, draft.root, seen, wanted)
    lines += [f"note: {one_line(note, 300)}" for note in seen.notes]
    if seen.is_table:
        names = {column.source: column.name for column in wanted.columns}
        lines += preview.columns_table(seen, names, notes)
    rows = preview.rows_line(results.intake, results.dry)
    lines += preview.named_values([*rows, *results.description])
    lines += preview.refusals([*results.intake.refusals, *results.dry.refusals])
    roles = [column.name for column in wanted.columns if column.role != "id"]
    lines += preview.example_rows(results.intake, roles)
    shown = [setting for setting in results.decided if setting.path not in draft.set_paths]
    lines += preview.decisions(shown)
    lines += preview.skipped([*results.decided, *draft.settings])
    return lines


def _scan(draft: _Draft) -> SourceColumns:
    """Return the columns of the source; of pictures and texts in folders, read only the first."""
    schema = base.schema(draft.task)
    first = source_files.units(draft.source, draft.root, schema.targets.words)[0]
    if first.format in TABLES:
        return scan_columns(draft.source, draft.root, schema)
    return scan_columns(draft.source, draft.root, schema, rows=_SCANNED_FILES)


def _detect_header(draft: _Draft, seen: SourceColumns, wizard: Wizard | None) -> bool:
    """Write into the draft that a table has no header.

    Returns:
        Whether a person answers that it has one.
    """
    if draft.section["source"].get("header", "auto") != "auto":
        return False
    if any(unit.header is not False for unit in seen.units):
        return False
    draft.set_source("header", False, "the first line is a row like the others")
    seen.notes.append("the first line is taken for a row: --header if it names the columns")
    has_header = False
    if wizard is not None:
        first = [str(value) for value in seen.examples[0].values()]
        wizard.show([f"the first line: {one_line(' | '.join(first), 90)}"])
        has_header = not wizard.agrees("is it a row, and not the names of columns?", default=True)
    if has_header:
        draft.set_source("header", True, "asked")
    draft.validate_ingest()
    return has_header


def _detect_label_form(draft: _Draft, seen: SourceColumns, options: NewOptions) -> bool:
    """Write into the draft how to read a label that no single column holds.

    Returns:
        Whether that adds a column.
    """
    target = draft.role_columns().target
    if target is None or not seen.is_table:
        return False
    columns = draft.section["columns"]
    form = _label_form(draft, seen, options.label or columns.get(target.name), target.name)
    if form is None:
        return False
    for key, value in form.settings.items():
        draft.set_source(key, value, form.reason)
    columns[target.name] = form.column
    draft.validate_ingest()
    return bool(form.settings)


def _label_form(
    draft: _Draft, seen: SourceColumns, label: str | None, role: str
) -> LabelForm | None:
    """Return how to read a label that no single column holds; None where one does.

    Args:
        draft: the pipeline.
        seen: the columns of the source.
        label: the column that a person names.
        role: the name of the task's target.
    """
    if label == FILE_TARGET and not draft.source.classes:
        classes = class_files(draft.source, draft.root, seen)
        if not classes:
            return None
        return LabelForm({"classes": classes}, FILE_TARGET, _SET)
    if label:
        return None
    return label_form(draft.source, draft.root, seen, role)


def _choose(draft: _Draft, seen: SourceColumns, options: NewOptions, wizard: Wizard | None) -> None:
    """Write the columns, the format and the encoding of the source into the draft."""
    wanted = draft.role_columns()
    ask = wizard.choose if wizard else None
    set_before = dict(draft.section["columns"])
    target = wanted.target.name if wanted.target else ""
    named = NamedColumns(
        text=options.text or set_before.get(wanted.input.name),
        label=options.label or set_before.get(target),
    )
    chosen = choose_columns(draft.source, draft.root, seen, wanted, named, ask)
    draft.section["columns"] = {**chosen, **set_before}
    source = draft.section["source"]
    if source["format"] == "auto" and not (draft.root / draft.source.path).is_dir():
        source["format"] = seen.units[0].format
    legacy = seen.encodings - {"utf-8", "utf-8-sig"}
    if "encoding" not in source and len(seen.encodings) == len(legacy) == 1:
        draft.set_source("encoding", next(iter(legacy)), "detected")
    draft.validate_ingest()


def _check_rows(intake: Intake, path: str, task: str) -> None:
    """Refuse a source of which ingest keeps no row.

    Raises:
        InputError: no row can be used.
    """
    if intake.usable_count:
        return
    if not intake.read:
        remedy = "give a file with a header and rows"
        raise InputError("holds no rows", where=path, remedy=remedy)
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in intake.refused.items())
    if intake.refusals:
        reasons += f"; the first: {intake.refusals[0]}"
    remedy = "name what the file holds: --format, --text, --label, --no-header"
    raise InputError(
        f"none of the {intake.read:,} rows that were read can be used: {reasons}",
        where=path,
        remedy=known_remedy(intake.refused, base.schema(task).targets) or remedy,
    )


def _read(draft: _Draft, seen: SourceColumns) -> tuple[Intake, FirstRows, Any]:
    """Read and measure the rows.

    Returns:
        Counts of the rows, the first rows, and the measurement of the task.

    Raises:
        InputError: no row can be used.
    """
    intake = Intake()
    first = FirstRows()
    rows = rows_of(draft.ingest, draft.task, draft.root, intake)
    total = count_rows(draft.source, draft.root, seen)
    facet = base.defaults(draft.task)
    measurement = facet.measure(collect_first(rows, draft.task, first), total)
    _check_rows(intake, draft.source.path, draft.task)
    first.whole = first.whole and intake.whole
    assign_splits(first, draft.task, intake.units)
    return intake, first, measurement


def _fold_labels(
    draft: _Draft, description: Sequence[tuple[str, str]], wizard: Wizard | None
) -> bool:
    """Ask whether labels that differ in case are one, and write the answer into the draft.

    Returns:
        Whether they are one.
    """
    alike = [value for name, value in description if name == "labels that look alike"]
    if wizard is None or not alike or "label_case" in draft.section:
        return False
    wizard.show([f"these labels look alike: {labels}" for labels in alike])
    if not wizard.agrees("take labels that differ in capitals alone as one?", default=True):
        return False
    draft.section["label_case"] = "fold"
    draft.reasons["ingest.label_case"] = "asked"
    draft.validate_ingest()
    return True


def _clean_params(params: ParamsDraft) -> Any:
    """Return the section `clean`, validated.

    Raises:
        ParamsError: --set has a mistake.
    """
    try:
        return validate(section_model("clean", params.task), params.tree["clean"], "clean")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the --set options") from None


def _apply_cleaned(
    draft: _Draft,
    params: ParamsDraft,
    dry: DryClean,
    decided: Collection[str],
) -> list[Setting]:
    """Apply and return the settings that clean needs for these rows, unless a person sets them.

    Args:
        draft: the pipeline.
        params: its params.
        dry: the preview of clean.
        decided: paths of the settings that the data need.
    """
    added = []
    if "clean.boilerplate" not in {*decided, *draft.set_paths}:
        added = repeated_inputs(dry)
        for setting in added:
            params.apply(setting)
    clean = _clean_params(params)
    for setting in small_targets(dry, clean.boilerplate, clean.min_rows_per_class):
        if setting.path not in draft.set_paths:
            params.apply(setting)
            added.append(setting)
    return added


def _complete(params: ParamsDraft) -> dict[str, Any]:
    """Return the tree of params with all defaults.

    Raises:
        ParamsError: --set has a mistake.
    """
    try:
        return params.complete("params")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the --set options") from None


def _text(draft: _Draft, params: ParamsDraft) -> str:
    """Return the text of params.yaml.

    Raises:
        RuntimeError: the text would not give the same params when it is read.
    """
    from ruamel.yaml import YAML

    tree = _complete(params)
    name = draft.name
    file = f"pipelines/{name}/params.yaml"
    header = [
        f"Pipeline {name}: {draft.task} on {draft.source.path}",
        "Written by gristmill new. A comment behind a value says why these data need it.",
        "The params.yaml of the project's root describes every key.",
        "For one run with another value:",
        f"dvc exp run -S '{file}:train.epochs=2' pipelines/{name}/dvc.yaml",
    ]
    text = render(tree, params.reasons, header)
    if YAML(typ="safe", pure=True).load(text) != tree:
        raise RuntimeError(f"pipelines/{name}/params.yaml would not read as it was meant")
    return text


def _readme(draft: _Draft) -> str:
    """Return the text of the pipeline's README.md."""
    name = draft.name
    return f"""# Pipeline {name}

- Task: `{draft.task}`
- Source: {escaping.markdown_code(draft.source.path)}

Written by `gristmill new`. `params.yaml` says what was measured of the data, as comments.
`dvc.yaml` is a copy of the project's: edit `params.yaml` alone.

```console
$ gristmill run {name}      # all stages; the report is data/{name}/reports/report.html
$ gristmill serve {name}    # the released model over HTTP
$ gristmill retrain {name}  # later, when there are new data
```

An experiment with other values:

```console
$ git add pipelines/{name} data/{name} && git commit -m "Add pipeline {name}"
$ dvc exp run pipelines/{name}/dvc.yaml -S 'pipelines/{name}/params.yaml:train.epochs=2'
$ dvc exp show
```
"""


def _publish(draft: _Draft, params: str) -> None:
    """Write all files of a pipeline at once, by a rename of their folder.

    Args:
        draft: the pipeline.
        params: the text of params.yaml.

    Raises:
        GristmillError: the project has no dvc.yaml, or params have a mistake.
    """
    root = draft.root
    name = draft.name
    dvc = root / "dvc.yaml"
    if not dvc.is_file():
        remedy = "start from a complete checkout: git checkout -- dvc.yaml"
        raise GristmillError("there is no dvc.yaml to copy", where=str(root), remedy=remedy)
    clear_parts(root)
    # It does not lie below pipelines/, because DVC reads every dvc.yaml there. After a kill, the
    # remaining copy would have the same outputs as the pipeline.
    part = root / ".gristmill" / f"{name}.{os.getpid()}{_PART}"
    try:
        part.mkdir(parents=True)
        (part / "params.yaml").write_text(params, encoding="utf-8")
        (part / "README.md").write_text(_readme(draft), encoding="utf-8")
        _check(part / "params.yaml", name)
        shutil.copyfile(dvc, part / "dvc.yaml")
        (root / "pipelines").mkdir(exist_ok=True)
        ignore_outputs(root, f"data/{name}")
        _move(part, root / "pipelines" / name)
    finally:
        remove_tree(part, within=root / ".gristmill")


def _move(part: Path, target: Path) -> None:
    """Give a folder its name, by a rename; by a copy beside it where another disk is mounted."""
    try:
        part.rename(target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    # DVC does not look into it: see .dvcignore.
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copytree(part, beside)
        sync_tree(beside)
        beside.rename(target)
    finally:
        remove_tree(beside, within=target.parent)


def _check(params: Path, name: str) -> None:
    """Validate the file as `gristmill run` does.

    Raises:
        ParamsError: --set has a mistake.
    """
    try:
        load(params, shown=f"pipelines/{name}/params.yaml")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the --set options") from None


def clear_parts(root: Path) -> None:
    """Remove the folders that killed commands left behind.

    Args:
        root: of the project.
    """
    parts = [*(root / ".gristmill").glob(f"*{_PART}"), *root.glob("pipelines/.*.part")]
    for part in parts:
        pid = part.name.split(".")[-2]
        with suppress(OSError):
            if not (pid.isdigit() and identify(int(pid))):
                remove_tree(part, within=part.parent, ignore_errors=False)
