"""Choose the inputs of a pipeline whose task has no inputs of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.core.errors import GristmillError, InputError
from components.orchestration.creation.named_input_columns import (
    AskChoice,
    NamedColumns,
    check_column,
    listed,
    only_column,
    records,
)
from components.stages.ingest.params import Files
from components.stages.ingest.sample import SourceColumns
from components.tasks.base import ChoosesInputs, ChosenInputs, Setting

# Values of the source in which columns are compared, and the rows.
_COMPARED = 400_000
_MOST_ROWS = 5_000
_LEAST_ROWS = 200
# Key of params with the inputs, below `ingest`.
INPUTS_PATH = "ingest.inputs"
# Columns that each raw table reads, whatever the task.
_READ_ALWAYS = ("id", "group", "split")
# Columns that a comment names, and a remark.
_SHOWN = 30
_LISTED = 10


def no_table() -> InputError:
    """Return the error of a task that chooses columns, for data without columns."""
    return InputError(
        "the task reads tables, and these data are none",
        where="--task",
        remedy="give a table, or take another task: gristmill tasks",
    )


def choose_target(
    seen: SourceColumns, facet: ChoosesInputs, role: str, named: NamedColumns, ask: AskChoice
) -> str:
    """Return the column to predict.

    Args:
        seen: the columns of the source.
        facet: of the task.
        role: the name of the task's target.
        named: columns that are not guessed.
        ask: asks a person, where a guess would be uncertain.

    Raises:
        GristmillError: there is no such column, or a guess is uncertain and nobody can be asked.
    """
    if named.text is not None:
        raise GristmillError(
            "names the one input of a task on texts, and this task has many inputs",
            where="--text",
            remedy="leave it out; --set ingest.inputs.COLUMN=null leaves out an input",
        )
    if named.target is not None:
        check_column(named.target, seen, "--target")
        if named.target in _READ_ALWAYS:
            raise GristmillError(
                f"a column named {named.target!r} is read as the {named.target} of a row",
                where="--target",
                remedy="give the column another name in the source",
            )
        return named.target
    candidates = facet.likely_targets(seen)
    free = [name for name in seen.columns if name not in _READ_ALWAYS]
    target = only_column(candidates, free, "--target", f"the {role}", ask)
    if candidates == [target]:
        others = listed([name for name in free if name != target], _LISTED)
        seen.notes.append(
            f"{target!r} is taken for the column to predict because of its name; "
            f"--target COLUMN names another: {others}"
        )
    return target


def choose_inputs(
    source: Files, root: Path, seen: SourceColumns, facet: ChoosesInputs, target: str
) -> ChosenInputs:
    """Return the inputs, after comparing the columns of the first rows with the target.

    Args:
        source: files of the rows.
        root: of the project.
        seen: the columns of the source.
        facet: of the task.
        target: the column to predict.
    """
    count = min(max(_COMPARED // len(seen.columns), _LEAST_ROWS), _MOST_ROWS)
    rows: dict[str, list[Any]] = {name: [] for name in seen.columns}
    if count < seen.rows or not seen.complete:
        seen.notes.append(
            f"whether a column gives the target away was looked at in the first {count:,} rows"
        )
    for values in records(source, root, count):
        for name, column in rows.items():
            column.append(values.get(name))
    return facet.choose_inputs(seen, target, rows)


def is_input_setting(setting: Setting) -> bool:
    """Return whether a setting concerns a single input."""
    return setting.path.startswith(f"{INPUTS_PATH}.")


def with_settings(
    chosen: ChosenInputs, settings: Sequence[Setting], columns: Sequence[str]
) -> ChosenInputs:
    """Return the inputs after a person has added, changed or left out some.

    Args:
        chosen: the guess.
        settings: of single inputs; null leaves one out.
        columns: of the source.

    Raises:
        GristmillError: the source has no such column.
    """
    inputs = dict(chosen.inputs)
    reasons = dict(chosen.reasons)
    left_out = dict(chosen.left_out)
    for setting in settings:
        name = setting.path.removeprefix(f"{INPUTS_PATH}.")
        column = chosen.columns.get(name, name)
        if column not in columns:
            raise GristmillError(
                f"there is no column {name!r}",
                where=f"--set {setting.path}",
                remedy="name a column of the source, or an input",
            )
        inputs.pop(name, None)
        reasons.pop(name, None)
        left_out.pop(column, None)
        if setting.value is None:
            left_out[column] = "set on the command line"
        else:
            inputs[name] = setting.value
            reasons[name] = "set on the command line"
    renamed = {name: column for name, column in chosen.columns.items() if name in inputs}
    doubtful = {names: how for names, how in chosen.doubtful.items() if inputs.keys() >= {*names}}
    return replace(
        chosen,
        inputs=inputs,
        columns=renamed,
        reasons=reasons,
        left_out=left_out,
        doubtful=doubtful,
    )


def doubtful_notes(chosen: ChosenInputs, target: str) -> list[str]:
    """Return lines about inputs from which the target nearly follows, with the remedy.

    Args:
        chosen: the inputs.
        target: the column to predict.
    """
    notes = []
    for names, how in chosen.doubtful.items():
        shown = " and ".join(repr(chosen.columns.get(name, name)) for name in names)
        notes.append(
            f"{target!r} nearly follows from {shown} ({how}). If that is known only afterwards, "
            f"leave it out: --set {INPUTS_PATH}.{names[0]}=null"
        )
    if len(notes) > _LISTED:
        notes[_LISTED:] = [f"{len(notes) - _LISTED:,} more such columns or pairs"]
    return notes


def left_out_comment(left_out: Mapping[str, str]) -> str:
    """Return the comment about columns that are no inputs, with the way to bring them back."""
    if not left_out:
        return ""
    shown = [f"{name} ({reason})" for name, reason in list(left_out.items())[:_SHOWN]]
    if len(left_out) > _SHOWN:
        shown.append(f"and {len(left_out) - _SHOWN:,} more")
    return f"left out: {'; '.join(shown)}. To bring one back, add a line such as NAME: number"
