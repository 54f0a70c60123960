"""Choose the inputs of a user's table, measure it, and derive the params from the measurements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from components.core.errors import InputError
from components.fields.number import DecimalSign, without_unit
from components.tasks.base import (
    ChosenInputs,
    CleanedTargets,
    Fit,
    Question,
    Setting,
    SourceStats,
)
from components.tasks.shared.defaults.classification.defaults import (
    ClassCounts,
    ClassDefaults,
    check_classes,
    describe_classes,
)
from components.tasks.shared.defaults.preset_values import (
    Presets,
    with_ensemble,
    with_search,
    without_search,
)
from components.tasks.shared.defaults.tables.column_kinds import (
    ColumnValues,
    Guess,
    guess_values,
    is_amount,
    values_of,
)
from components.tasks.shared.defaults.tables.likely_targets import (
    TARGET_NAMES,
    is_sure,
    likely_targets,
)
from components.tasks.shared.defaults.tables.near_leaks import SampledNumbers, near_leaks
from components.tasks.shared.defaults.tables.number_codes import code_guesses
from components.tasks.shared.defaults.tables.row_times import settings_of_time
from components.tasks.shared.defaults.tables.target_leaks import (
    leaking_columns,
    names_leak,
    number_leak,
    texts_of,
)
from components.tasks.shared.schema.tables.kinds import LONGEST_NAME, MOST_INPUTS, RESERVED

_CONFLICTS = "rows with equal inputs: keep_all"
# Columns that each raw table has beside its inputs.
_READ_ALWAYS = {
    "id": "read as the id of a row",
    "group": "rows with the same value stay in one split",
    "split": "read as the split of a row",
}
# The highest score of a table whose target is guessed by a name such as price. Texts fit better.
_UNSURE = 0.7
# Fewer rows with a number are refused. The least that clean.min_rows may be.
_LEAST_ROWS = 20
# Different whole numbers that may be classes, at most.
_FEW_VALUES = 10
# Columns with missing values that a line names.
_SHOWN = 8
# Rows -> widths of the hidden layers, and rows of a batch.
_NETWORKS = ((2_000, [64, 64], 32), (20_000, [128, 128], 128), (np.inf, [256, 256], 256))
_STEPS = 2_500
_LEAST_EPOCHS = 8
_MOST_EPOCHS = 60
_PARALLEL_ROWS = 20_000
# Default and largest limit of the characters of a question.
_CHARACTERS = 20_000
_MOST_CHARACTERS = 10_000_000
# Shares of the rows outside the train split.
_TRAIN_SHARE = 0.8
_STUDENT = {"architecture": "mlp", "nets": {"mlp": {"hidden": [32, 32]}}}
_SPACE = {
    "learning_rate": {"loguniform": [3.0e-4, 3.0e-3]},
    "nets.mlp.dropout": {"uniform": [0.0, 0.3]},
}


@dataclass
class TableMeasurements:
    """Measurements of a table that the choice of params depends on.

    Args:
        total: rows of the whole source.
        rows: that were read.
        classes: rows by class, where the target is a name.
        numbers: targets of the rows that have one, where they are numbers.
        missing: input -> rows without a value.
        longest: characters of the texts of a row, at most.
    """

    total: int
    rows: int = 0
    classes: ClassCounts = field(default_factory=ClassCounts)
    numbers: list[float] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    longest: int = 0

    @property
    def is_whole(self) -> bool:
        """Return whether all rows of the source were read."""
        return self.rows >= self.total

    @property
    def train_rows(self) -> int:
        """Return about how many rows are for training."""
        with_target = len(self.numbers) or self.rows - self.classes.unlabelled
        share = with_target / max(self.rows, 1)
        return max(1, round(self.total * share * _TRAIN_SHARE))


class TableDefaults:
    """The part of a facet defaults.py that all tasks on tables share.

    Args:
        role: of the column to predict.
        other_task: the task for targets of the other kind: numbers or classes.
    """

    def __init__(self, role: str, other_task: str) -> None:
        self.role = role
        self.other_task = other_task

    @property
    def presets(self) -> Presets:
        """Return the presets."""
        return {"fast": _fast, "best": _best}

    def fit(self, source: SourceStats, target: str | None) -> Fit:
        """Return whether the source is a table whose target is of this task's kind."""
        if not source.is_table:
            return Fit(0.0, "the data are no table")
        if any(column.is_picture for column in source.columns.values()):
            return Fit(0.0, "a column holds pictures")
        likely = [target] if target else self.likely_targets(source)
        if len(likely) != 1 or likely[0] not in source.columns:
            return Fit(0.0, "no column is named as the one to predict")
        fit = self.fit_of_target(ColumnValues(source.columns[likely[0]]))
        if target or is_sure(likely[0], self.role):
            return fit
        return replace(fit, score=min(fit.score, _UNSURE))

    def fit_of_target(self, values: ColumnValues) -> Fit:
        """Return whether a column is a target of this task's kind."""
        raise NotImplementedError

    def likely_targets(self, source: SourceStats) -> Sequence[str]:
        """Return the columns that may be the one to predict, several where that is doubtful."""
        return likely_targets(source, self.role)

    def choose_inputs(
        self, source: SourceStats, target: str, rows: Mapping[str, Sequence[Any]]
    ) -> ChosenInputs:
        """Return the kind of each column, without those that are of no use or leak the target.

        Raises:
            InputError: no column can be an input.
        """
        guesses = {}
        values_of_columns = values_of(source.columns)
        for name, values in values_of_columns.items():
            if name != target:
                guesses[name] = guess_values(values, source.rows)
        rows = {**rows, **_without_units(rows, guesses)}
        decimal = self.target_decimal(values_of_columns[target])
        guesses |= code_guesses(rows, target, values_of_columns, guesses, decimal)
        leaks = self.leaks(rows, values_of_columns[target], guesses)
        inputs: dict[str, Any] = {}
        columns: dict[str, str] = {}
        reasons = {}
        left_out = {}
        for name, guess in guesses.items():
            reason = _READ_ALWAYS.get(name) or leaks.get(name) or _no_input(guess, len(inputs))
            if reason:
                left_out[name] = reason
                continue
            role = _role_name(name, {*source.columns, *inputs})
            inputs[role] = guess.input
            reasons[role] = guess.reason
            if role != name:
                columns[role] = name
        if not inputs:
            raise _no_inputs(left_out)
        numbers = {}
        for role in inputs:
            name = columns.get(role, role)
            if guesses[name].kind == "number":
                numbers[role] = SampledNumbers(rows[name], guesses[name].decimal)
        return ChosenInputs(
            inputs=inputs,
            columns=columns,
            reasons=reasons,
            left_out=left_out,
            settings=self.settings_of_source(values_of_columns[target]),
            in_time=settings_of_time(rows, values_of_columns, guesses, source.rows),
            doubtful=near_leaks(numbers, rows[target], decimal),
        )

    def target_decimal(self, target: ColumnValues) -> DecimalSign | None:
        """Return the decimal sign of the target; None where it holds names."""
        raise NotImplementedError

    def leaks(
        self,
        rows: Mapping[str, Sequence[Any]],
        target: ColumnValues,
        guesses: Mapping[str, Guess],
    ) -> Mapping[str, str]:
        """Return the columns that give the target away, and how.

        Args:
            rows: column -> (n,) values of the first rows.
            target: values of the column to predict.
            guesses: kinds of the other columns.
        """
        raise NotImplementedError

    def settings_of_source(self, values: ColumnValues) -> Sequence[Setting]:  # noqa: ARG002
        """Return the params of `ingest` that a target needs: none."""
        return []

    def add_target(self, measured: TableMeasurements, value: Any) -> None:
        """Count the target of a row; None where it has none."""
        raise NotImplementedError

    def measure(self, rows: Iterable[Mapping[str, Any]], total: int) -> TableMeasurements:
        """Return the targets, and the missing values of each input."""
        measured = TableMeasurements(total)
        for row in rows:
            measured.rows += 1
            self.add_target(measured, row[self.role])
            texts = [len(item) for item in row.values() if isinstance(item, str)]
            measured.longest = max(measured.longest, sum(texts))
            for name, item in row.items():
                if item is None and name not in RESERVED:
                    measured.missing[name] = measured.missing.get(name, 0) + 1
        return measured

    def describe_targets(self, measured: TableMeasurements) -> Sequence[tuple[str, str]]:
        """Return lines about the targets."""
        raise NotImplementedError

    def describe(self, measured: TableMeasurements) -> Sequence[tuple[str, str]]:
        """Return the targets and the columns with missing values."""
        lines = list(self.describe_targets(measured))
        missing = sorted(measured.missing.items(), key=lambda item: -item[1])
        if missing:
            shown = ", ".join(f"{name} {n / measured.rows:.1%}" for name, n in missing[:_SHOWN])
            if len(missing) > _SHOWN:
                shown += f" and {len(missing) - _SHOWN:,} more"
            lines.append(("columns with missing values", shown))
        return lines

    def settings(self, measured: TableMeasurements) -> Sequence[Setting]:
        """Return the network and the effort for this table."""
        return [*_network(measured.train_rows), *_limits(measured.longest)]

    def losses(
        self,
        measured: TableMeasurements,  # noqa: ARG002
        params: Mapping[str, Any],  # noqa: ARG002
    ) -> Sequence[str]:
        """Return nothing: no row loses anything."""
        return []


class ClassTableDefaults(ClassDefaults, TableDefaults):
    """Facet defaults.py of classification of tables."""

    descriptions: Mapping[str, str] = {
        **ClassDefaults.descriptions,
        "clean.conflicts": f"{_CONFLICTS} | drop | majority | keep",
        "clean.unlabelled": "rows without a label: quarantine",
    }

    def fit_of_target(self, values: ColumnValues) -> Fit:
        """Return that few names or few numbers are classes."""
        name = values.name
        if is_amount(values):
            return Fit(0.2, f"{name!r} holds numbers, {values.count_text} different ones")
        if values.column.long or values.column.overflow:
            return Fit(0.0, f"{name!r} holds texts")
        if values.share(values.numbers) == 1:
            return Fit(0.6, f"{name!r} holds few numbers, {values.count_text} different ones")
        return Fit(0.6, f"{name!r} holds names, {values.count_text} different ones")

    def target_decimal(self, target: ColumnValues) -> DecimalSign | None:  # noqa: ARG002
        """Return None: classes are names."""
        return None

    def leaks(
        self,
        rows: Mapping[str, Sequence[Any]],
        target: ColumnValues,
        guesses: Mapping[str, Guess],
    ) -> Mapping[str, str]:
        """Return the columns that copy or determine the class."""
        candidates = {name: None for name, guess in guesses.items() if guess.input is not None}
        return leaking_columns(rows, target.name, candidates, names_leak)

    def add_target(self, measured: TableMeasurements, value: Any) -> None:
        """Count the class of a row."""
        measured.classes.add(value)

    def describe_targets(self, measured: TableMeasurements) -> Sequence[tuple[str, str]]:
        """Return the classes."""
        return describe_classes(measured.classes)

    def check(self, measured: TableMeasurements) -> None:
        """Refuse targets that are no classes."""
        check_classes(measured.classes, number_task=self.other_task)


class NumberTableDefaults(TableDefaults):
    """Facet defaults.py of regression of tables."""

    target_names: Sequence[Collection[str]] = (TARGET_NAMES,)
    renames: str | None = None
    descriptions: Mapping[str, str] = {
        "clean.conflicts": f"{_CONFLICTS} | drop | keep",
        "clean.min_rows": "fewer usable rows are refused",
        "clean.unlabelled": "rows without a number: quarantine",
    }
    remedy_options: Mapping[str, str] = {}

    def fit_of_target(self, values: ColumnValues) -> Fit:
        """Return that many numbers are amounts."""
        name = values.name
        if is_amount(values):
            return Fit(0.9, f"{name!r} holds numbers, {values.count_text} different ones")
        if values.numbers and values.share(values.numbers) == 1:
            return Fit(0.3, f"{name!r} holds few numbers, {values.count_text} different ones")
        return Fit(0.0, f"{name!r} holds no numbers")

    def target_decimal(self, target: ColumnValues) -> DecimalSign | None:
        """Return the decimal sign of the number."""
        return target.decimal

    def leaks(
        self,
        rows: Mapping[str, Sequence[Any]],
        target: ColumnValues,
        guesses: Mapping[str, Guess],
    ) -> Mapping[str, str]:
        """Return the columns that copy, order or determine the number."""
        candidates: dict[str, DecimalSign | None] = {}
        for name, guess in guesses.items():
            if guess.input is not None and guess.kind != "time":
                candidates[name] = guess.decimal if guess.kind == "number" else None
        return leaking_columns(rows, target.name, candidates, number_leak, target.decimal)

    def settings_of_source(self, values: ColumnValues) -> Sequence[Setting]:
        """Return the decimal sign of the target."""
        if values.decimal == ".":
            return []
        return [Setting("ingest.decimal", values.decimal, f"{values.name} has a decimal comma")]

    def add_target(self, measured: TableMeasurements, value: Any) -> None:
        """Add the number of a row."""
        if value is not None:
            measured.numbers.append(value)

    def describe_targets(self, measured: TableMeasurements) -> Sequence[tuple[str, str]]:
        """Return the range of the numbers, and whether they may be classes."""
        if not measured.numbers:
            return [("numbers to predict", "none")]
        numbers = np.array(measured.numbers)
        span = f"{numbers.min():,.6g} to {numbers.max():,.6g}"
        middle = f"mean {numbers.mean():,.6g}, half of them below {np.median(numbers):,.6g}"
        lines = [("numbers to predict", f"{len(numbers):,}, {span}; {middle}")]
        if len(numbers) < measured.rows:
            lines.append(("rows without a number", f"{measured.rows - len(numbers):,}"))
        distinct = np.unique(numbers)
        is_whole = bool((distinct == np.floor(distinct)).all())
        if is_whole and len(distinct) <= _FEW_VALUES:
            values = ", ".join(f"{number:g}" for number in distinct)
            remedy = f"if these are classes: --task {self.other_task}"
            lines.append(("only a few different numbers", f"{values}; {remedy}"))
        return lines

    def check(self, measured: TableMeasurements) -> None:
        """Refuse a target that nothing can be learned of."""
        numbers = measured.numbers
        what = ""
        if not numbers:
            what = f"has no row with a number among {measured.rows:,}"
        elif min(numbers) == max(numbers):
            what = f"is {numbers[0]:g} in all {len(numbers):,} rows with a number that were read"
        elif measured.is_whole and len(numbers) < _LEAST_ROWS:
            what = f"has a number in {len(numbers):,} rows; {_LEAST_ROWS} are needed"
        if what:
            raise InputError(
                what,
                where="--target",
                remedy="bring more rows, or name another column: --target COLUMN",
            )

    def questions(self, measured: TableMeasurements) -> Sequence[Question]:  # noqa: ARG002
        """Return no questions."""
        return []

    def settings_of_targets(
        self,
        cleaned: CleanedTargets,
        options: BaseModel,
    ) -> Sequence[Setting]:
        """Return the setting for a small table, which clean would refuse."""
        count = sum(cleaned.counts.values())
        wanted = options.model_dump()["min_rows"]
        if count >= wanted or count < _LEAST_ROWS:
            return []
        return [Setting("clean.min_rows", _LEAST_ROWS, f"{count:,} usable rows")]


def _without_units(
    rows: Mapping[str, Sequence[Any]], guesses: Mapping[str, Guess]
) -> dict[str, Sequence[Any]]:
    """Return the columns of numbers with a unit, without the unit."""
    bare: dict[str, Sequence[Any]] = {}
    for name, guess in guesses.items():
        if guess.unit is not None:
            bare[name] = [without_unit(text, guess.unit) for text in texts_of(rows[name])]
    return bare


def _no_input(guess: Guess, inputs: int) -> str:
    """Return why a column is no input; "" where it is one."""
    if guess.input is None:
        return guess.reason
    return f"a table has {MOST_INPUTS:,} inputs at most" if inputs >= MOST_INPUTS else ""


def _role_name(column: str, taken: set[str]) -> str:
    """Return the name of a column as an input: its own, if an input may have it.

    Args:
        column: its name in the source.
        taken: names of columns and inputs.
    """
    printable = "".join(character if character.isprintable() else "_" for character in column)
    name = printable.strip()[: LONGEST_NAME - 10] or "unnamed"
    if name == column and name not in RESERVED:
        return name
    candidate = f"{name}_column" if name in RESERVED else name
    number = 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _no_inputs(left_out: Mapping[str, str]) -> InputError:
    """Return the error of a table without an input."""
    shown = ", ".join(f"{name!r} {reason}" for name, reason in list(left_out.items())[:_SHOWN])
    return InputError(
        f"no column can be an input: {shown or 'there is no other column'}",
        where="--data",
        remedy="bring columns with values, or name an input: --set ingest.inputs.COLUMN=number",
    )


def _fast(params: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of one short fit, and of a small ensemble of trees."""
    classical = params["train"]["classical"]
    return [
        *without_search(params, epochs=3),
        Setting("train.classical.folds", 2, "a model of each half of the train rows"),
        Setting("train.classical.trees", min(classical["trees"], 200), "small trees of few steps"),
    ]


def _best(params: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of a wide search, and of large ensembles of networks and of trees."""
    classical = params["train"]["classical"]
    return [
        *with_search(params),
        with_ensemble(params),
        Setting(
            "train.classical.folds", max(classical["folds"], 10), "more models, more rows each"
        ),
        Setting("train.classical.trees", max(classical["trees"], 3000), "trees until none helps"),
    ]


def _limits(longest: int) -> list[Setting]:
    """Return the limit of a question where rows are longer than the service accepts."""
    if 2 * longest <= _CHARACTERS:
        return []
    characters = min(2 * longest, _MOST_CHARACTERS)
    reason = f"twice the texts of the longest row, {longest:,}"
    return [Setting("serve.limits.characters", characters, reason)]


def _network(rows: int) -> list[Setting]:
    """Return the network and its effort by the number of train rows."""
    hidden, batch = next((hidden, batch) for most, hidden, batch in _NETWORKS if rows <= most)
    epochs = min(max(-(-_STEPS * batch // rows), _LEAST_EPOCHS), _MOST_EPOCHS)
    about = f"about {rows:,} train rows"
    workers = 1 if rows < _PARALLEL_ROWS else 2
    return [
        Setting("train.architecture", "mlp", "linear layers over embedded columns"),
        Setting("train.nets.mlp.hidden", hidden, about),
        Setting("train.workers", workers, about),
        Setting("train.batch_size", batch, about),
        Setting("train.epochs", epochs, f"about {_STEPS:,} steps of {batch} rows, if not stopped"),
        Setting("train.patience", 8, "epochs of a small table are noisy"),
        Setting("tune.trials", 0, "no search: each trial costs a fit"),
        Setting("tune.epochs", min(epochs, 8), "enough epochs to compare networks"),
        Setting("tune.space", dict(_SPACE), "the most important params of mlp"),
        Setting("compress.prune", None, "the network is small already"),
        Setting("compress.quantize", None, "the network is small already"),
        # --set compress.distill={} restores the student.
        Setting("compress.distill", dict(_STUDENT), "a smaller mlp"),
        Setting("compress.distill", None, "the network is small already"),
    ]
