"""`gristmill new`: a pipeline of one's own, from a file and what can be measured of it."""

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

import psutil

from components.core import escaping
from components.core.errors import GristmillError, InputError, ParamsError
from components.core.escaping import one_line
from components.core.files import remove_tree, sync_tree
from components.core.params import validate
from components.orchestration.creation import preview
from components.orchestration.creation.clean_preview import (
    DryClean,
    FirstRows,
    check_division,
    clean_rows,
    repeated_inputs,
    settle_first,
    small_targets,
    watched,
)
from components.orchestration.creation.column_guess import Wanted, choose_columns, column_notes
from components.orchestration.creation.creation_options import label_map, parse_settings
from components.orchestration.creation.label_forms import LabelForm, class_files, label_form
from components.orchestration.creation.params_writer import OwnParams, check_task, render, start
from components.orchestration.creation.source_preview import Intake, count_rows, rows_of
from components.orchestration.creation.wizard import Wizard
from components.orchestration.output_paths import check_input_path, check_new_outputs
from components.orchestration.pipeline_params import load, section_model
from components.orchestration.runner.gitignore import ignore_outputs
from components.stages.ingest import source_files
from components.stages.ingest.columns import Layout, layout
from components.stages.ingest.derived_columns import FILE_LABEL
from components.stages.ingest.params import FORMATS, Files, IngestParams
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
# A name is part of file names and of MLflow's names.
_LONGEST_NAME = 60
_PART = ".new"
_SET = "set on the command line"


@dataclass(frozen=True)
class NewOptions:
    """What a person says, where a guess is wrong or not wanted."""

    text: str | None = None
    label: str | None = None
    format: str | None = None
    # whether the first line names the columns; None: it is guessed
    header: bool | None = None
    # names of the columns of a table without a header
    columns: Sequence[str] = ()
    # Positive=positive,n/a=
    labels: str = ""
    # key=value
    settings: Sequence[str] = ()


@dataclass
class _Draft:
    """A pipeline that is being made."""

    root: Path
    name: str
    task: str
    ingest: IngestParams
    section: dict[str, Any]
    settings: Sequence[Setting]
    # the reasons of what was detected or said of the source
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Files:
        """Return where the rows are."""
        assert isinstance(self.ingest.source, Files)
        return self.ingest.source


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
    """Write `pipelines/<name>/` for this data; the data stay where they are.

    Args:
        root: of the repository.
        name: of the pipeline.
        task: its id.
        data: a file or folder, relative to the current folder or absolute.
        text: the column of the task's input; guessed if None.
        label: the column of its target; guessed if None.
        options: what else a person said.
        wizard: asks where a guess would be a gamble, and before anything is written.

    Returns:
        Lines of plain text: what was measured, and what was decided. With a wizard only
        what it has not shown.

    Raises:
        GristmillError: a bad or taken name, an unknown task, data that cannot be read or
            learned from, a guess that would be a gamble. Nothing is left behind then.
    """
    said = options or NewOptions()
    said = replace(said, text=text or said.text, label=label or said.label)
    _check_name(root, name)
    check_new_outputs(root, name)
    check_task(task)
    draft = _draft(root, name, task, data, said)
    lines, own = _measure(draft, said, wizard)
    params = _text(draft, own)
    if wizard is not None:
        wizard.show(lines)
        if not wizard.agrees(f"write pipelines/{name}?", default=True):
            return ["nothing was written"]
        lines = []
    _publish(draft, params)
    return [
        *lines,
        f"wrote pipelines/{name}/: params.yaml, dvc.yaml and README.md",
        f"the data stay at {draft.source.path}",
        f"next: gristmill run {name}",
    ]


def _check_name(root: Path, name: str) -> None:
    if not _NAME.fullmatch(name) or name in RESERVED or len(name) > _LONGEST_NAME:
        taken = ": it is taken" if name in RESERVED else ""
        if len(name) > _LONGEST_NAME:
            taken = f": it has more than {_LONGEST_NAME} characters"
            name = f"{name[:20]}…"
        raise GristmillError(
            f"{name!r} cannot be a pipeline's name{taken}",
            where="NAME",
            remedy="use small letters, digits, - and _, such as my-reviews",
        )
    if (root / "pipelines" / name).exists():
        raise GristmillError(
            f"pipelines/{name} is there already and is not overwritten",
            where="NAME",
            remedy=f"take another name, edit pipelines/{name}/params.yaml, or remove the folder",
        )


def _draft(root: Path, name: str, task: str, data: Path, said: NewOptions) -> _Draft:
    """Return the section `ingest` as far as the command line says it."""
    if not data.exists():
        raise GristmillError(
            f"there is no file or folder {str(data)!r}",
            where="--data",
            remedy="give the path of what you have, relative to this folder or absolute",
        )
    path = _written(root, data)
    check_input_path(root, name, path, "--data")
    if said.format is not None and said.format not in ("auto", *FORMATS):
        raise ParamsError(
            f"{said.format!r} is not one of {', '.join(FORMATS)}",
            where="--format",
            remedy="take one of these, or leave it out",
        )
    source: dict[str, Any] = {"kind": "files", "path": path, "format": said.format or "auto"}
    section: dict[str, Any] = {"source": source, "columns": {}}
    reasons = {}
    if said.format:
        reasons["ingest.source.format"] = _SET
    if said.header is not None:
        source["header"] = said.header
        reasons["ingest.source.header"] = _SET
    if said.columns:
        source["column_names"] = list(said.columns)
        reasons["ingest.source.column_names"] = _SET
    if said.labels:
        section["labels"] = label_map(said.labels)
        reasons["ingest.labels"] = _SET
    settings = parse_settings(said.settings, task)
    own = OwnParams(task, {"ingest": section})
    for setting in settings:
        if setting.path.startswith("ingest."):
            own.apply(replace(setting, reason=_SET))
    reasons |= own.reasons
    section = own.tree["ingest"]
    ingest = _ingest(section)
    return _Draft(root, name, task, ingest, section, settings, reasons)


def _ingest(section: Mapping[str, Any]) -> IngestParams:
    """Return the section as its model.

    Raises:
        ParamsError: --set or another option has a mistake.
    """
    try:
        ingest = validate(IngestParams, section, "ingest")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the options of the command") from None
    if not isinstance(ingest.source, Files):
        raise ParamsError(
            f"{ingest.source.kind!r} is no kind of source that new looks at",
            where="--set ingest.source.kind",
            remedy="leave it out, and edit the params.yaml that new writes",
        )
    return ingest


def _written(root: Path, data: Path) -> str:
    """Return how params.yaml names the place of the data."""
    place = data.absolute() if data.is_symlink() else data.resolve()
    if place.is_relative_to(root.resolve()):
        return place.relative_to(root.resolve()).as_posix()
    return place.as_posix()


def _measure(draft: _Draft, said: NewOptions, wizard: Wizard | None) -> tuple[list[str], OwnParams]:
    """Return the preview, and the params that the data need.

    The rows are read with the code of ingest, and the first of them are cleaned with the
    fields of clean, so that nothing is promised here that these refuse.
    """
    task, root = draft.task, draft.root
    roles = base.schema(task).roles
    seen = _scan(draft, layout(roles, {}, 2**31))
    if _settle_header(draft, seen, wizard):
        seen = _scan(draft, layout(roles, {}, 2**31))
    if _settle_label_form(draft, seen, said):
        seen = _scan(draft, layout(roles, {}, 2**31))
    _choose(draft, seen, said, wizard)
    wanted = layout(roles, draft.ingest.columns, draft.ingest.max_bytes_per_value)
    facet = base.defaults(task)
    intake, first, measured = _read(draft, seen)
    if _folds(draft, facet.describe(measured), wizard):
        intake, first, measured = _read(draft, seen)
    facet.check(measured)
    own = start(root, task, draft.name, draft.section)
    own.reasons |= draft.reasons
    decided = list(facet.settings(measured))
    for setting in [*decided, *(replace(setting, reason=_SET) for setting in draft.settings)]:
        own.apply(setting)
    clean = _clean_params(own)
    dry = clean_rows(first, task, clean, own.tree["seed"])
    decided += _apply_cleaned(draft, own, dry, {setting.path for setting in decided})
    remarks = check_division(dry, task, _clean_params(own), own.tree["seed"])
    tree = _complete(own)
    names = {column.source: column.name for column in wanted.columns}
    notes = column_notes(draft.source, root, seen, wanted) if seen.is_table else {}
    lines = [preview.head(draft.name, seen, intake.encodings)]
    lines += [f"note: {one_line(note, 300)}" for note in seen.notes]
    if seen.is_table:
        lines += preview.columns_table(seen, names, notes)
    lines += preview.facts([*preview.rows_line(intake, dry), *facet.describe(measured)])
    lines += preview.refusals([*intake.refusals, *dry.refusals])
    lines += preview.example_rows(intake, [c.name for c in wanted.columns if c.role != "id"])
    fixed = {setting.path for setting in draft.settings}
    lines += preview.decisions([each for each in decided if each.path not in fixed])
    lines += preview.skipped([*decided, *draft.settings])
    return lines + [f"note: {line}" for line in [*facet.losses(measured, tree), *remarks]], own


def _scan(draft: _Draft, wanted: Layout) -> SourceColumns:
    """Return what the columns hold; of pictures and texts in folders only the first."""
    first = source_files.units(draft.source, draft.root)[0]
    if first.format in TABLES:
        return scan_columns(draft.source, draft.root)
    role = next(r for r in base.schema(draft.task).roles if r.name == wanted.input.name)
    return scan_columns(draft.source, draft.root, role, rows=50)


def _settle_header(draft: _Draft, seen: SourceColumns, wizard: Wizard | None) -> bool:
    """Write down that a table has no header. Returns whether a person says that it has one."""
    source = draft.section["source"]
    if source.get("header", "auto") != "auto":
        return False
    if any(unit.header is not False for unit in seen.units):
        return False
    source["header"] = False
    draft.reasons["ingest.source.header"] = "the first line is a row like the others"
    seen.notes.append("the first line is taken for a row: --header if it names the columns")
    has_header = False
    if wizard is not None:
        first = [str(value) for value in seen.examples[0].values()]
        wizard.show([f"the first line: {one_line(' | '.join(first), 90)}"])
        has_header = not wizard.agrees("is it a row, and not the names of columns?", default=True)
    if has_header:
        source["header"] = True
        draft.reasons["ingest.source.header"] = "asked"
    draft.ingest = _ingest(draft.section)
    return has_header


def _settle_label_form(draft: _Draft, seen: SourceColumns, said: NewOptions) -> bool:
    """Write down how to read a label that is no column. Returns whether that adds a column."""
    target = layout(base.schema(draft.task).roles, {}, 2**31).target
    if target is None or not seen.is_table:
        return False
    columns = draft.section["columns"]
    label = said.label or columns.get(target.name)
    if label == FILE_LABEL and not draft.source.classes:
        classes = class_files(draft.source, draft.root, seen)
        form = LabelForm({"classes": classes}, FILE_LABEL, _SET) if classes else None
    elif label:
        return False
    else:
        form = label_form(draft.source, draft.root, seen, target.name)
    if form is None:
        return False
    for key, value in form.settings.items():
        draft.section["source"][key] = value
        draft.reasons[f"ingest.source.{key}"] = form.reason
    columns[target.name] = form.column
    draft.ingest = _ingest(draft.section)
    return bool(form.settings)


def _choose(draft: _Draft, seen: SourceColumns, said: NewOptions, wizard: Wizard | None) -> None:
    """Fill in the columns and what was detected of the source."""
    wanted = layout(base.schema(draft.task).roles, {}, 2**31)
    ask = wizard.choose if wizard else None
    set_before = dict(draft.section["columns"])
    named = Wanted(
        text=said.text or set_before.get(wanted.input.name),
        label=said.label or set_before.get(wanted.target.name if wanted.target else ""),
    )
    chosen = choose_columns(draft.source, draft.root, seen, wanted, named, ask)
    draft.section["columns"] = {**chosen, **set_before}
    source = draft.section["source"]
    if source["format"] == "auto" and not (draft.root / draft.source.path).is_dir():
        source["format"] = seen.units[0].format
    old = seen.encodings - {"utf-8", "utf-8-sig"}
    if "encoding" not in source and len(seen.encodings) == len(old) == 1:
        source["encoding"] = next(iter(old))
        draft.reasons["ingest.source.encoding"] = "detected"
    draft.ingest = _ingest(draft.section)


def _check_rows(intake: Intake, path: str) -> None:
    """Refuse a source of which ingest keeps no row."""
    if intake.kept:
        return
    if not intake.read:
        remedy = "give a file with a header and rows"
        raise InputError("holds no rows", where=path, remedy=remedy)
    reasons = ", ".join(f"{reason} ({count:,})" for reason, count in intake.refused.items())
    first = f"; the first: {intake.refusals[0]}" if intake.refusals else ""
    what = f"none of the {intake.read:,} rows that were read can be used: {reasons}{first}"
    remedy = "name what the file holds: --format, --text, --label, --no-header"
    if known := known_remedy(intake.refused):
        remedy = known
    raise InputError(what, where=path, remedy=remedy)


def _read(draft: _Draft, seen: SourceColumns) -> tuple[Intake, FirstRows, Any]:
    """Read and measure the rows."""
    intake = Intake()
    first = FirstRows()
    rows = rows_of(draft.ingest, draft.task, draft.root, intake)
    total = count_rows(draft.source, draft.root, seen)
    measured = base.defaults(draft.task).measure(watched(rows, draft.task, first), total)
    _check_rows(intake, draft.source.path)
    first.whole = first.whole and intake.whole
    settle_first(first, draft.task, intake.units)
    return intake, first, measured


def _folds(draft: _Draft, described: Sequence[tuple[str, str]], wizard: Wizard | None) -> bool:
    """Ask whether labels that differ in case are one; `ingest.label_case` says so."""
    alike = [value for name, value in described if name == "labels that look alike"]
    if wizard is None or not alike or "label_case" in draft.section:
        return False
    wizard.show([f"these labels look alike: {each}" for each in alike])
    if not wizard.agrees("take labels that differ in capitals alone as one?", default=True):
        return False
    draft.section["label_case"] = "fold"
    draft.reasons["ingest.label_case"] = "asked"
    draft.ingest = _ingest(draft.section)
    return True


def _clean_params(own: OwnParams) -> Any:
    """Return the section `clean`.

    Raises:
        ParamsError: --set has a mistake.
    """
    try:
        return validate(section_model("clean", own.task), own.tree["clean"], "clean")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the --set options") from None


def _apply_cleaned(
    draft: _Draft,
    own: OwnParams,
    dry: DryClean,
    decided: Collection[str],
) -> list[Setting]:
    """Apply what clean needs for these rows, unless it was set.

    Args:
        draft: the pipeline.
        own: its params.
        dry: what clean made of the first rows.
        decided: paths that the data decided already.
    """
    fixed = {setting.path for setting in draft.settings}
    added = []
    if "clean.boilerplate" not in {*decided, *fixed}:
        added = repeated_inputs(dry)
        for setting in added:
            own.apply(setting)
    clean = _clean_params(own)
    least = small_targets(dry, clean.boilerplate, clean.min_rows_per_class)
    for setting in least:
        if setting.path not in fixed:
            own.apply(setting)
            added.append(setting)
    return added


def _complete(own: OwnParams) -> dict[str, Any]:
    try:
        return own.complete("params")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the --set options") from None


def _text(draft: _Draft, own: OwnParams) -> str:
    """Return the params.yaml; what is read back from it is equal."""
    from ruamel.yaml import YAML

    tree = _complete(own)
    name = draft.name
    file = f"pipelines/{name}/params.yaml"
    header = [
        f"Pipeline {name}: {draft.task} on {draft.source.path}",
        "Written by gristmill new. A comment behind a value says why these data need it.",
        "The params.yaml of the project's root describes every key.",
        "For one run with another value:",
        f"dvc exp run -S '{file}:train.epochs=2' pipelines/{name}/dvc.yaml",
    ]
    text = render(tree, own.reasons, header)
    if YAML(typ="safe", pure=True).load(text) != tree:
        raise RuntimeError(f"pipelines/{name}/params.yaml would not read as it was meant")
    return text


def _readme(draft: _Draft) -> str:
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
    """Write all files at once, by a rename of their folder."""
    root, name = draft.root, draft.name
    dvc = root / "dvc.yaml"
    if not dvc.is_file():
        remedy = "start from a complete checkout: git checkout -- dvc.yaml"
        raise GristmillError("there is no dvc.yaml to copy", where=str(root), remedy=remedy)
    clear_parts(root)
    # Not below pipelines/: DVC reads every dvc.yaml there, and what a kill leaves behind
    # would have the same outputs as the pipeline.
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
    """Validate the file as `gristmill run` will."""
    try:
        load(params, shown=f"pipelines/{name}/params.yaml")
    except ParamsError as error:
        raise ParamsError(error.what, remedy="mend the --set options") from None


def clear_parts(root: Path) -> None:
    """Remove what commands left that were killed."""
    for part in [*(root / ".gristmill").glob(f"*{_PART}"), *root.glob("pipelines/.*.part")]:
        pid = part.name.split(".")[-2]
        with suppress(OSError):
            if not (pid.isdigit() and psutil.pid_exists(int(pid))):
                remove_tree(part, within=part.parent, ignore_errors=False)
