"""Implementation of `gristmill new`: create a pipeline from data and what is measured of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.core.errors import GristmillError, InputError, ParamsError
from components.core.escaping import one_line
from components.core.params import parse_yaml, validate
from components.orchestration.creation import preview
from components.orchestration.creation.clean_preview import (
    DryClean,
    FirstRows,
    assign_splits,
    check_division,
    clean_rows,
    cleaned_targets,
    collect_first,
    repeated_inputs,
)
from components.orchestration.creation.creation_options import parse_settings
from components.orchestration.creation.named_input_columns import (
    NamedColumns,
    choose_columns,
    column_notes,
)
from components.orchestration.creation.params_writer import (
    ParamsDraft,
    check_task,
    initial_params,
    render,
)
from components.orchestration.creation.pipeline_draft import (
    SET_BY_PERSON,
    NewOptions,
    PipelineDraft,
    files_of_rows,
    files_section,
    new_draft,
    path_in_params,
    valid_ingest,
)
from components.orchestration.creation.pipeline_folder import check_name, publish
from components.orchestration.creation.source_preview import ROWS, Intake, count_rows, rows_of
from components.orchestration.creation.table_inputs import (
    INPUTS_PATH,
    choose_inputs,
    choose_target,
    doubtful_notes,
    is_input_setting,
    left_out_comment,
    no_table,
    with_settings,
)
from components.orchestration.creation.target_forms import (
    TargetForm,
    file_settings,
    target_files,
    target_form,
)
from components.orchestration.creation.task_guess import TaskGuess, guess_task, rows_for
from components.orchestration.creation.wizard import Wizard
from components.orchestration.output_paths import check_input_path, check_new_outputs
from components.orchestration.pipeline_params import section_model
from components.orchestration.presets import GOOD, check_preset, with_preset
from components.stages.clean.cleaning import target_of
from components.stages.ingest import source_files
from components.stages.ingest.columns import TIME, Layout, layout
from components.stages.ingest.params import FILE_TARGET, IngestParams
from components.stages.ingest.sample import SourceColumns, scan_columns
from components.stages.ingest.source_rows import TABLES
from components.stages.ingest.stage import known_remedy
from components.tasks import base
from components.tasks.base import ChoosesInputs, ChosenInputs, Question, Setting

# Inputs of which the first rows are shown.
_EXAMPLE_INPUTS = 8
# Pictures or texts of a folder that are read to find the columns.
_SCANNED_FILES = 50
_TIME_PATH = f"ingest.columns.{TIME}"
_SPLIT_PATH = "clean.split_by"
# Params and columns of the source that say how rows are split.
_SPLIT_PATHS = frozenset((_SPLIT_PATH, "clean.fold", "clean.frozen_split", "group", "split"))


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
    task: str | None,
    data: Path,
    text: str | None = None,
    target: str | None = None,
    *,
    options: NewOptions | None = None,
    wizard: Wizard | None = None,
) -> list[str]:
    """Write `pipelines/<name>/` for these data. The data stay where they are.

    Args:
        root: of the project.
        name: of the pipeline.
        task: its id; None: it is guessed.
        data: a file or folder, relative to the current folder or absolute.
        text: the column of the task's one input; None: it is guessed.
        target: the column to predict; None: it is guessed.
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
    options = replace(options, text=text or options.text, target=target or options.target)
    check_name(root, name)
    check_new_outputs(root, name)
    _check_data(root, name, data)
    guess = None
    if task is None:
        guess = _guess_task(root, data, options, wizard)
        task = guess.task
        options = replace(options, target=options.target or guess.target)
    check_task(task)
    if options.preset is not None:
        check_preset(task, options.preset)
    draft = new_draft(root, name, task, data, options)
    lines, params = _measure(draft, options, wizard, guess)
    params_text = _text(draft, params)
    if options.preset not in (None, GOOD):
        change = with_preset(params_text, options.preset, "params.yaml", keep=draft.set_paths)
        params_text = change.text
        lines += change.lines
    if wizard is not None:
        wizard.show(lines)
        if not wizard.agrees(f"write pipelines/{name}?", default=True):
            return ["nothing was written"]
        lines = []
    publish(draft, params_text)
    return [
        *lines,
        f"wrote pipelines/{name}/: params.yaml, dvc.yaml and README.md",
        f"the data stay at {draft.source.path}",
        f"next: gristmill run {name}",
    ]


def _check_data(root: Path, name: str, data: Path) -> None:
    """Raise a GristmillError unless the data exist and are no outputs of the pipeline."""
    if not data.exists():
        raise GristmillError(
            f"there is no file or folder {str(data)!r}",
            where="--data",
            remedy="give the path of what you have, relative to this folder or absolute",
        )
    check_input_path(root, name, path_in_params(root, data), "--data")


def _guess_task(root: Path, data: Path, options: NewOptions, wizard: Wizard | None) -> TaskGuess:
    """Return the task that suits the data best.

    Raises:
        GristmillError: no task suits them, or an option has a mistake.
    """
    section, _ = files_section(path_in_params(root, data), options)
    # All tasks have the same params of the source.
    task = base.tasks()[0]
    params = ParamsDraft(task, {"ingest": section})
    for setting in parse_settings(options.settings, task):
        if setting.path.startswith(("ingest.source.", "ingest.columns.")):
            params.apply(setting)
    section = params.tree["ingest"]
    columns = section["columns"]
    roles = {target_of(base.schema(task)) for task in base.tasks()}
    named = [columns[role] for role in roles if role in columns]
    target = options.target or next(iter(named), None)
    source = files_of_rows(valid_ingest(IngestParams, {"source": section["source"]}))
    ask = wizard.choose if wizard else None
    return guess_task(source, root, target, ask)


def _measure(
    draft: PipelineDraft, options: NewOptions, wizard: Wizard | None, guess: TaskGuess | None
) -> tuple[list[str], ParamsDraft]:
    """Return the preview as lines of text, and the params that the data need.

    The code of ingest reads the rows, and the code of clean cleans the first of them. So both
    stages accept what the preview shows.
    """
    seen = _scan_source(draft, options, wizard)
    intake, first, measurement = _read(draft, seen)
    facet = base.defaults(draft.task)
    if _ask(draft, facet.questions(measurement), wizard):
        intake, first, measurement = _read(draft, seen)
    facet.check(measurement)
    params = initial_params(draft.root, draft.task, draft.name, draft.section)
    params.reasons |= draft.reasons
    decided = _fit_to_architecture([*draft.later, *facet.settings(measurement)], draft.settings)
    set_by_person = []
    for setting in draft.settings:
        # The section `ingest` has the inputs already.
        if not is_input_setting(setting):
            set_by_person.append(replace(setting, reason=SET_BY_PERSON))
    for setting in [*decided, *set_by_person]:
        params.apply(setting)
    dry, added, remarks = _clean(draft, params, first, {setting.path for setting in decided})
    decided += added
    losses = facet.losses(measurement, _complete(params))
    results = _Preview(seen, intake, dry, facet.describe(measurement), decided)
    lines = _preview_lines(draft, results)
    if guess is not None:
        lines[1:1] = preview.named_values([guess.line])
    lines += [f"note: {line}" for line in [*losses, *remarks]]
    return lines, params


def _fit_to_architecture(decided: Sequence[Setting], by_person: Sequence[Setting]) -> list[Setting]:
    """Return the settings for the architecture that a person sets, if any.

    Values that were chosen for another architecture are left out: the default holds. The search
    space keeps what the architecture has.

    Args:
        decided: settings that the data need.
        by_person: settings of the command line.
    """
    architecture = {setting.path: setting.value for setting in decided}.get("train.architecture")
    for setting in by_person:
        if setting.path == "train.architecture" and setting.value != architecture:
            name = str(setting.value)
            fitting = [other for other in decided if other.architecture in ("", name)]
            return [_fit_space(other, name) for other in fitting]
    return list(decided)


def _fit_space(setting: Setting, architecture: str) -> Setting:
    """Return a setting; a search space only with the params that an architecture has."""
    if setting.path != "tune.space":
        return setting
    space = {}
    for path, values in setting.value.items():
        is_shared = path != "architecture" and not path.startswith("nets.")
        if is_shared or path.startswith(f"nets.{architecture}."):
            space[path] = values
    return replace(setting, value=space, reason=f"the params that {architecture} has")


def _scan_source(draft: PipelineDraft, options: NewOptions, wizard: Wizard | None) -> SourceColumns:
    """Return the columns of the source, after the draft has got all settings to read them."""
    seen = _scan(draft)
    if _detect_header(draft, seen, wizard):
        seen = _scan(draft)
    if _detect_target_form(draft, seen, options):
        seen = _scan(draft)
    _choose(draft, seen, options, wizard)
    return seen


def _clean(
    draft: PipelineDraft,
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
    schema = draft.schema
    dry = clean_rows(first, schema, _clean_params(params), seed)
    added = _apply_cleaned(draft, params, dry, decided)
    try:
        remarks = check_division(dry, draft.task, schema, _clean_params(params), seed)
    except InputError as error:
        if _SPLIT_PATH not in {setting.path for setting in draft.later}:
            raise
        reason = f"by time {error.what}"
        added.append(Setting(_SPLIT_PATH, "hash", reason))
        params.apply(added[-1])
        remarks = check_division(dry, draft.task, schema, _clean_params(params), seed)
    return dry, added, remarks


def _preview_lines(draft: PipelineDraft, results: _Preview) -> list[str]:
    """Return the preview as lines of text, without the remarks at its end."""
    seen = results.seen
    ingest = draft.ingest
    wanted = layout(draft.schema.roles, ingest.columns, ingest.max_bytes_per_value)
    lines = [preview.head(draft.name, seen, results.intake.encodings)]
    notes = {}
    kinds = {}
    if draft.chosen is not None:
        notes = _input_notes(draft.chosen)
        kinds = {name: _kind(value) for name, value in draft.chosen.inputs.items()}
    elif seen.is_table:
        notes = column_notes(draft.source, draft.root, seen, wanted, draft.target.words.value)
    lines += [f"note: {one_line(note, 300)}" for note in seen.notes]
    if seen.is_table:
        names = {column.source: kinds.get(column.name, column.name) for column in wanted.columns}
        target = [column.source for column in wanted.columns if column.role == "target"]
        lines += preview.columns_table(seen, names, notes, target)
    rows = preview.rows_line(results.intake, results.dry, draft.schema.targets.words.values)
    lines += preview.named_values([*rows, *results.description])
    lines += preview.refusals([*results.intake.refusals, *results.dry.refusals])
    roles = _example_roles(wanted)
    lines += preview.example_rows(results.intake, roles)
    shown = [setting for setting in results.decided if setting.path not in draft.set_paths]
    lines += preview.decisions(shown)
    lines += preview.skipped([*results.decided, *draft.settings])
    return lines


def _example_roles(wanted: Layout) -> list[str]:
    """Return the columns of which the first rows are shown: the last inputs of many are not."""
    inputs = [column.name for column in wanted.columns if column.role == "input"]
    hidden = {"id", TIME, *inputs[_EXAMPLE_INPUTS:]}
    return [column.name for column in wanted.columns if column.name not in hidden]


def _input_notes(chosen: ChosenInputs) -> dict[str, str]:
    """Return a remark about each column of a table: why it has its kind, or is no input."""
    notes = {}
    for name, reason in chosen.reasons.items():
        notes[chosen.columns.get(name, name)] = reason
    for column, reason in chosen.left_out.items():
        notes[column] = f"left out: {reason}"
    return notes


def _kind(value: Any) -> str:
    """Return the kind of an input as params write it."""
    return str(value["kind"]) if isinstance(value, Mapping) else str(value)


def _scan(draft: PipelineDraft) -> SourceColumns:
    """Return the columns of the source; of pictures and texts in folders, read only the first."""
    schema = base.schema(draft.task)
    first = source_files.units(draft.source, draft.root, schema.targets.words)[0]
    if first.format not in TABLES and isinstance(base.defaults(draft.task), ChoosesInputs):
        raise no_table()
    seen = scan_columns(draft.source, draft.root, schema, rows=_SCANNED_FILES)
    if first.format in TABLES and not seen.complete:
        rows = rows_for(len(seen.columns), ROWS)
        return scan_columns(draft.source, draft.root, schema, rows=rows)
    return seen


def _detect_header(draft: PipelineDraft, seen: SourceColumns, wizard: Wizard | None) -> bool:
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


def _detect_target_form(draft: PipelineDraft, seen: SourceColumns, options: NewOptions) -> bool:
    """Write into the draft how to read a target that no single column holds.

    Returns:
        Whether that adds a column.
    """
    if not seen.is_table or isinstance(base.defaults(draft.task), ChoosesInputs):
        return False
    columns = draft.section["columns"]
    role = draft.target.role
    form = _target_form(draft, seen, options.target or columns.get(role))
    if form is None:
        return False
    for key, value in form.settings.items():
        draft.set_source(key, value, form.reason)
    columns[role] = form.column
    draft.validate_ingest()
    return bool(form.settings)


def _target_form(
    draft: PipelineDraft, seen: SourceColumns, column: str | None
) -> TargetForm | None:
    """Return how to read a target that no single column holds; None where one does.

    Args:
        draft: the pipeline.
        seen: the columns of the source.
        column: of the target, where a person names it.
    """
    if column == FILE_TARGET and not draft.source.file_targets:
        values = target_files(draft.source, draft.root, seen)
        if not values:
            return None
        return TargetForm(file_settings(values), FILE_TARGET, SET_BY_PERSON)
    if column:
        return None
    return target_form(draft.source, draft.root, seen, draft.target)


def _choose(
    draft: PipelineDraft, seen: SourceColumns, options: NewOptions, wizard: Wizard | None
) -> None:
    """Write the columns, the format and the encoding of the source into the draft."""
    facet = base.defaults(draft.task)
    set_before = dict(draft.section["columns"])
    if isinstance(facet, ChoosesInputs):
        chosen = _choose_inputs(draft, seen, facet, options, wizard)
    else:
        chosen = _choose_roles(draft, seen, options, wizard)
    draft.section["columns"] = {**chosen, **set_before}
    source = draft.section["source"]
    if source["format"] == "auto" and not (draft.root / draft.source.path).is_dir():
        source["format"] = seen.units[0].format
    legacy = seen.encodings - {"utf-8", "utf-8-sig"}
    if "encoding" not in source and len(seen.encodings) == len(legacy) == 1:
        draft.set_source("encoding", next(iter(legacy)), "detected")
    draft.validate_ingest()


def _choose_roles(
    draft: PipelineDraft, seen: SourceColumns, options: NewOptions, wizard: Wizard | None
) -> dict[str, str]:
    """Return the columns of a task that states its inputs: role -> column."""
    wanted = draft.role_columns()
    set_before = draft.section["columns"]
    target = wanted.target.name if wanted.target else ""
    named = NamedColumns(
        text=options.text or set_before.get(wanted.input.name),
        target=options.target or set_before.get(target),
    )
    ask = wizard.choose if wizard else None
    return choose_columns(draft.source, draft.root, seen, wanted, named, draft.target, ask)


def _choose_inputs(
    draft: PipelineDraft,
    seen: SourceColumns,
    facet: ChoosesInputs,
    options: NewOptions,
    wizard: Wizard | None,
) -> dict[str, str]:
    """Write the inputs of a table into the draft, and return the columns: role -> column."""
    wanted = draft.role_columns()
    assert wanted.target is not None
    role = wanted.target.name
    set_before = draft.section["columns"]
    named = NamedColumns(text=options.text, target=options.target or set_before.get(role))
    target = choose_target(seen, facet, role, named, wizard.choose if wizard else None)
    if "inputs" in draft.section:
        return {role: target}
    chosen = choose_inputs(draft.source, draft.root, seen, facet, target)
    settings = [setting for setting in draft.settings if is_input_setting(setting)]
    chosen = with_settings(chosen, settings, list(seen.columns))
    draft.chosen = chosen
    draft.section["inputs"] = dict(chosen.inputs)
    comment = left_out_comment(chosen.left_out)
    if comment:
        draft.reasons[INPUTS_PATH] = comment
    for name, reason in chosen.reasons.items():
        draft.reasons[f"{INPUTS_PATH}.{name}"] = reason
    seen.notes += doubtful_notes(chosen, target)
    columns = {role: target, **chosen.columns}
    settings = [*chosen.settings]
    if _SPLIT_PATHS.isdisjoint({*draft.set_paths, *seen.columns}):
        settings += chosen.in_time
    for setting in settings:
        if setting.path in draft.set_paths:
            continue
        if setting.path == _TIME_PATH:
            columns[TIME] = setting.value
        elif setting.path.startswith("ingest."):
            draft.section[setting.path.removeprefix("ingest.")] = setting.value
            draft.reasons[setting.path] = setting.reason
        else:
            draft.later.append(setting)
    return columns


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
    remedy = "name what the file holds: --format, --text, --target, --no-header"
    raise InputError(
        f"none of the {intake.read:,} rows that were read can be used: {reasons}",
        where=path,
        remedy=known_remedy(intake.refused, base.schema(task).targets) or remedy,
    )


def _read(draft: PipelineDraft, seen: SourceColumns) -> tuple[Intake, FirstRows, Any]:
    """Read and measure the rows.

    Returns:
        Counts of the rows, the first rows, and the measurement of the task.

    Raises:
        InputError: no row can be used.
    """
    intake = Intake()
    first = FirstRows()
    schema = draft.schema
    most = rows_for(len(schema.roles), ROWS)
    rows = rows_of(draft.ingest, schema, draft.root, intake, most)
    total = count_rows(draft.source, draft.root, seen)
    facet = base.defaults(draft.task)
    measurement = facet.measure(collect_first(rows, schema, first), total)
    _check_rows(intake, draft.source.path, draft.task)
    first.whole = first.whole and intake.whole
    assign_splits(first, schema, intake.units)
    return intake, first, measurement


def _ask(draft: PipelineDraft, questions: Sequence[Question], wizard: Wizard | None) -> bool:
    """Ask the questions about the targets, and write the answers into the draft.

    Returns:
        Whether an answer changes how the source is read.
    """
    has_changed = False
    for question in questions:
        if wizard is None or question.path in draft.section:
            continue
        wizard.show(question.lines)
        if wizard.agrees(question.question, default=True):
            draft.section[question.path] = question.value
            draft.reasons[f"ingest.{question.path}"] = "asked"
            has_changed = True
    if has_changed:
        draft.validate_ingest()
    return has_changed


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
    draft: PipelineDraft,
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
    schema = draft.schema
    clean = _clean_params(params)
    if clean.boilerplate and "clean.boilerplate" not in {*decided, *draft.set_paths}:
        added = repeated_inputs(dry, schema.targets.words.value)
        for setting in added:
            params.apply(setting)
    if not dry.whole:
        return added
    clean = _clean_params(params)
    targets = cleaned_targets(dry, schema, clean)
    for setting in base.defaults(draft.task).settings_of_targets(targets, clean):
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


def _text(draft: PipelineDraft, params: ParamsDraft) -> str:
    """Return the text of params.yaml.

    Raises:
        RuntimeError: the text would not give the same params when it is read.
    """
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
    text = render(tree, params.reasons, base.defaults(draft.task).descriptions, header)
    # The check of the written folder reads the same text, which is parsed once.
    if parse_yaml(text.encode("utf-8"), file) != tree:
        raise RuntimeError(f"pipelines/{name}/params.yaml would not read as it was meant")
    return text
