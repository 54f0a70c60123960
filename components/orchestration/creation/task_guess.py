"""Guess the task of a source: each task says how well it suits the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError
from components.orchestration.creation.named_input_columns import (
    AskChoice,
    check_column,
    first_names,
)
from components.stages.clean.cleaning import target_of
from components.stages.ingest.params import Files
from components.stages.ingest.sample import SourceColumns, scan_columns
from components.tasks import base

# Rows from which the task is guessed.
_ROWS = 20_000
_WIDTH_ROWS = 50
# Values of a wide table that are read.
_VALUES = 4_000_000


@dataclass(frozen=True)
class TaskGuess:
    """A task that suits a source.

    Args:
        task: its id.
        reason: a few words, for a person.
        others: the other tasks that would do, the best first.
        target: the column that a person was asked for; None: nobody was asked.
    """

    task: str
    reason: str
    others: Sequence[str] = ()
    target: str | None = None

    @property
    def line(self) -> tuple[str, str]:
        """Return the name and the value of a line of the preview."""
        text = f"{self.task}: {self.reason}"
        if self.others:
            text += f"; --task takes another: {', '.join(self.others)}"
        return "task", text


def rows_for(columns: int, rows: int) -> int:
    """Return the rows of a table that are read: fewer of a wide one.

    Args:
        columns: of the table.
        rows: of a narrow table.
    """
    return min(rows, max(_VALUES // max(columns, 1), _WIDTH_ROWS))


def guess_task(source: Files, root: Path, target: str | None, ask: AskChoice) -> TaskGuess:
    """Return the task that suits a source best.

    Args:
        source: files of the rows.
        root: of the project.
        target: the column to predict, where a person names it.
        ask: asks a person; None: nobody can be asked.

    Raises:
        InputError: no task suits the source, or the column to predict cannot be told.
    """
    seen = _scan(source, root)
    if target is not None and seen.is_table:
        check_column(target, seen, _target_options())
    guess = _best(seen, target)
    if guess is not None:
        return guess
    if seen.is_table and target is None and ask is not None:
        choices = _likely_targets(seen) or list(seen.columns)
        target = ask("which column is to be predicted?", choices)
        guess = _best(seen, target)
        if guess is not None:
            return TaskGuess(guess.task, guess.reason, guess.others, target)
    raise _no_task(seen, target)


def _target_options() -> str:
    """Return the options that name the column to predict, as the tasks call it."""
    roles = {target_of(base.schema(task)) for task in base.tasks()}
    return " or ".join(f"--{role}" for role in sorted(roles))


def _scan(source: Files, root: Path) -> SourceColumns:
    """Return the columns of the source.

    A table is read alike for all tasks. Files without columns are read for one task after the
    other, because one refuses what is the input of another.

    Raises:
        InputError: no task can read them.
    """
    refusals = []
    for task in base.tasks():
        schema = base.schema(task)
        if not base.input_names(schema):
            continue
        try:
            first = scan_columns(source, root, schema, rows=_WIDTH_ROWS)
        except InputError as error:
            refusals.append(error)
            continue
        if not first.is_table or first.complete:
            return first
        return scan_columns(source, root, schema, rows=rows_for(len(first.columns), _ROWS))
    raise refusals[-1]


def _best(seen: SourceColumns, target: str | None) -> TaskGuess | None:
    """Return the task with the highest score; None where no task suits the source."""
    fits = {task: base.defaults(task).fit(seen, target) for task in base.tasks()}
    suitable = [task for task in fits if fits[task].score > 0]
    if not suitable:
        return None
    best, *others = sorted(suitable, key=lambda task: -fits[task].score)
    return TaskGuess(best, fits[best].reason, others)


def _likely_targets(seen: SourceColumns) -> list[str]:
    """Return the columns of which several may be the one to predict, as the tasks guess."""
    likely: dict[str, None] = {}
    for task in base.tasks():
        facet = base.defaults(task)
        if isinstance(facet, base.ChoosesInputs):
            likely |= dict.fromkeys(facet.likely_targets(seen))
    return list(likely)


def _no_task(seen: SourceColumns, target: str | None) -> InputError:
    """Return the error of a source whose task cannot be told."""
    if not seen.is_table:
        return InputError(
            "no task is for such files", where="--data", remedy="name the task: --task TASK"
        )
    likely = _likely_targets(seen)
    if target is None and likely:
        return InputError(
            f"the column to predict could be {' or '.join(map(repr, likely))}",
            where="--data",
            remedy="say which: --target COLUMN",
        )
    if target is None:
        return InputError(
            f"which column is to be predicted cannot be told: there are {first_names(seen)}",
            where="--data",
            remedy="say which: --target COLUMN",
        )
    reasons = []
    for task in base.tasks():
        reasons.append(f"{task}: {base.defaults(task).fit(seen, target).reason}")
    return InputError(
        f"no task suits the column {target!r} ({'; '.join(reasons)})",
        where="--target",
        remedy="name another column: --target COLUMN, or the task: --task TASK",
    )
