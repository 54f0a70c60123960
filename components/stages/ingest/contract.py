"""Contract of the raw table: which values its columns may have.

The rules run on Arrow columns, unit by unit. Only uniqueness looks at all rows, at one column each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.core.errors import InputError, ParamsError
from components.fields.base import NoValue, Reject
from components.fields.source_values import whole_number
from components.stages.ingest.columns import Column, Layout, nearest
from components.stages.ingest.params import ColumnRules, Contract, whole_text
from components.stages.ingest.source_rows import QUARANTINE

# Reasons in the quarantine begin with it.
REASON = "contract"
_KEY = "ingest.contract"
_EXCERPT = 150
_TYPES = {"integer": r"^[+-]?\d+$", "number": r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"}
# A column -> a mask of the rows that break a rule.
Check = Callable[[pa.ChunkedArray], pa.ChunkedArray]


@dataclass(frozen=True)
class _Rule:
    """One rule of one column."""

    column: str
    name: str
    check: Check

    @property
    def reason(self) -> str:
        """Return the reason of rows that break it."""
        return f"{REASON}_{self.column}_{self.name}"


def apply_rules(rows: pa.Table, contract: Contract, wanted: Layout) -> tuple[pa.Table, pa.Table]:
    """Return the rows that keep the contract, and the others for the quarantine.

    A row that breaks several rules has the first of them as its reason.

    Args:
        rows: raw rows of a unit.
        contract: of the params.
        wanted: the columns of the raw table.

    Raises:
        ParamsError: a rule does not fit its column.
    """
    return _divided(rows, _rules(contract, wanted))


def apply_uniqueness(rows: pa.Table, contract: Contract) -> tuple[pa.Table, pa.Table]:
    """Return the rows with the first of equal values, and the others for the quarantine.

    Args:
        rows: all raw rows, whose ids may still be equal.
        contract: of the params.
    """
    columns = [name for name, rules in contract.columns.items() if rules.unique]
    return _divided(rows, [_Rule(name, "unique", _is_repeated) for name in columns])


def check_kept(contract: Contract, quarantine: pa.Table) -> None:
    """Check that no row breaks a contract that stops the run.

    Args:
        contract: of the params.
        quarantine: the refused rows.

    Raises:
        InputError: one does; the message counts them and shows the first.
    """
    broken = quarantine.filter(pc.starts_with(quarantine["reason"], f"{REASON}_"))
    if contract.on_break != "stop" or not broken.num_rows:
        return
    counts = broken["reason"].value_counts().to_pylist()
    listed = sorted(f"{count['values']} {count['counts']:,}" for count in counts)
    first = broken.slice(0, 1).to_pylist()[0]
    raise InputError(
        f"{broken.num_rows:,} rows break the contract: {', '.join(listed)}; "
        f"the first: {first['excerpt']}",
        where=first["origin"],
        remedy=f"correct the rows or {_KEY}, or set {_KEY}.on_break to quarantine",
    )


def check_columns(contract: Contract, wanted: Layout) -> None:
    """Check that a contract fits the raw table.

    Raises:
        ParamsError: it has a rule for a column that does not exist, or that does not fit.
    """
    names = [column.name for column in wanted.columns]
    for name in contract.columns:
        if name not in names:
            raise ParamsError(
                f"{name!r} is no column of the raw table{nearest(name, names)}: {', '.join(names)}",
                where=f"params.yaml: {_KEY}.columns.{name}",
                remedy="use the name of a role, not that of the source's column",
            )
    _rules(contract, wanted)


def _divided(rows: pa.Table, rules: Sequence[_Rule]) -> tuple[pa.Table, pa.Table]:
    """Return the rows that break no rule, and the others for the quarantine."""
    refused = []
    for rule in rules:
        broken = pc.fill_null(rule.check(rows[rule.column]), False)
        count = pc.sum(broken).as_py()
        if count:
            refused.append(_refused(rows.filter(broken), rule))
            rows = rows.filter(pc.invert(broken))
    return rows, pa.concat_tables([QUARANTINE.empty_table(), *refused])


def _refused(rows: pa.Table, rule: _Rule) -> pa.Table:
    """Return rows that break a rule, as rows of the quarantine."""
    excerpts = [f"{rule.column}: {_shown(value)}" for value in rows[rule.column].to_pylist()]
    columns = [
        rows["origin"].combine_chunks(),
        pa.array([rule.reason] * rows.num_rows, pa.string()),
        pa.array(excerpts, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=QUARANTINE)


def _shown(value: Any) -> str:
    """Return the start of a value, for a person."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return str(value)[:_EXCERPT]


def _rules(contract: Contract, wanted: Layout) -> list[_Rule]:
    """Return the rules of a contract but those of uniqueness, in the order of its columns.

    Raises:
        ParamsError: a rule does not fit its column.
    """
    by_name = {column.name: column for column in wanted.columns}
    rules = []
    for name, given in contract.columns.items():
        for rule, check in _checks(by_name[name], given).items():
            rules.append(_Rule(name, rule, check))
    return rules


def _checks(column: Column, given: ColumnRules) -> Mapping[str, Check]:
    """Return the checks of a column by the name of their rule.

    Raises:
        ParamsError: a rule does not fit the column.
    """
    checks: dict[str, Check] = {}
    if given.required:
        checks["required"] = pc.is_null
    if given.type:
        checks["type"] = _type_check(given.type, column)
    if given.allowed is not None:
        allowed = pa.array([_limit(column, value, "allowed") for value in given.allowed])
        checks["allowed"] = lambda values: pc.and_(
            pc.invert(pc.is_in(values, allowed.cast(values.type))), pc.is_valid(values)
        )
    for rule, bound in {"min": given.min, "max": given.max}.items():
        if bound is not None:
            checks[rule] = _bound_check(column, rule, bound, is_number=given.type is not None)
    text_checks = _text_checks(given)
    if text_checks and not pa.types.is_string(column.type):
        raise _misfit(column, next(iter(text_checks)), "holds no texts")
    return {**checks, **text_checks}


def _type_check(kind: str, column: Column) -> Check:
    """Return the check for whole numbers or numbers.

    Raises:
        ParamsError: the column holds neither texts nor numbers.
    """
    if pa.types.is_string(column.type):
        pattern = _TYPES[kind]
        return lambda values: pc.invert(
            pc.match_substring_regex(pc.utf8_trim_whitespace(values), pattern)
        )
    if not pa.types.is_floating(column.type) and not pa.types.is_integer(column.type):
        raise _misfit(column, "type", "holds neither texts nor numbers")
    if kind == "number":
        return lambda values: pc.is_nan(values)
    return lambda values: pc.not_equal(pc.floor(values), values)


def _bound_check(column: Column, rule: str, bound: float | str, *, is_number: bool) -> Check:
    """Return the check for values beyond a bound.

    Args:
        column: of the raw table.
        rule: min or max.
        bound: the least or the greatest value.
        is_number: whether a rule before has refused texts that are no numbers.

    Raises:
        ParamsError: the column has no order, or the bound is of another kind.
    """
    is_beyond = pc.less if rule == "min" else pc.greater
    if pa.types.is_string(column.type):
        if not is_number or isinstance(bound, str):
            raise _misfit(column, rule, "holds texts; set type to number, and a number here")
        return lambda values: is_beyond(
            pc.cast(pc.utf8_trim_whitespace(values), pa.float64()), float(bound)
        )
    if pa.types.is_binary(column.type):
        raise _misfit(column, rule, "holds pictures")
    limit = pa.scalar(_limit(column, bound, rule), column.type)
    return lambda values: is_beyond(values, limit)


def _text_checks(given: ColumnRules) -> dict[str, Check]:
    """Return the checks for the length and the pattern of texts by the name of their rule."""
    checks: dict[str, Check] = {}
    if given.min_length is not None:
        checks["min_length"] = lambda values: pc.less(pc.utf8_length(values), given.min_length)
    if given.max_length is not None:
        checks["max_length"] = lambda values: pc.greater(pc.utf8_length(values), given.max_length)
    if given.pattern is not None:
        pattern = whole_text(given.pattern)
        checks["pattern"] = lambda values: pc.invert(pc.match_substring_regex(values, pattern))
    return checks


def _limit(column: Column, value: Any, rule: str) -> Any:
    """Return a value of the params as one of the column.

    Raises:
        ParamsError: the column cannot hold it.
    """
    if pa.types.is_string(column.type):
        return whole_number(str(value))
    if column.field is None or pa.types.is_binary(column.type):
        raise _misfit(column, rule, "holds pictures")
    try:
        return column.field.normalize(value)
    except (NoValue, Reject):
        raise _misfit(column, rule, f"cannot hold {value!r}") from None


def _misfit(column: Column, rule: str, what: str) -> ParamsError:
    """Return the error for a rule that does not fit its column."""
    return ParamsError(
        f"the column {column.name!r} {what}",
        where=f"params.yaml: {_KEY}.columns.{column.name}.{rule}",
        remedy="leave the rule out, or correct its value",
    )


def _is_repeated(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a mask of the values that are equal to an earlier one; no value is equal to none."""
    positions = pa.array(range(len(values)), pa.int64())
    table = pa.table({"value": values, "position": positions})
    first = table.group_by("value").aggregate([("position", "min")])["position_min"]
    is_first = pc.is_in(positions, first.combine_chunks())
    return pa.chunked_array([pc.and_(pc.invert(is_first), pc.is_valid(values).combine_chunks())])
