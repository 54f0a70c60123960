"""Choose the column to predict by its name, as far as its values and the other names allow it."""

from __future__ import annotations

from components.tasks.base import SourceStats
from components.tasks.shared.defaults.tables.column_kinds import ColumnValues, guess_column

# Names that say that a column is to be predicted.
TARGET_NAMES = frozenset(("target", "label", "labels", "outcome", "标签", "类别", "目标", "目标值"))
# Names that often say so: y is a coordinate in other tables, and class a feature of passengers.
_BARE = frozenset(("y", "class"))
# Last words of names that people predict. One such column is a guess, several are doubtful, and so
# is one beside a bare name.
_OUTCOMES = frozenset(
    (
        *("price", "cost", "costs", "charges", "salary", "income", "revenue", "sales", "profit"),
        *("demand", "consumption", "churn", "churned", "exited", "attrition", "default", "fraud"),
        *("survived", "survival", "died", "deceased", "diagnosis", "disease", "species"),
        *("quality", "rating", "score", "grade", "result", "status", "approved", "clicked"),
        *("converted", "purchased", "subscribed", "价格", "总价", "房价", "售价"),
        *("销量", "销售额", "工资", "薪资", "收入", "结果", "评分", "等级", "是否流失"),
    )
)
_KINDS = ("number", "category")


def likely_targets(source: SourceStats, role: str) -> list[str]:
    """Return the columns that may be the one to predict, or none where no name says so.

    Several columns mean that the guess would be doubtful.

    Args:
        source: of the user.
        role: the name of the task's target, under which `ingest` reads a column anyway.
    """
    if role in source.columns:
        return [role]
    named = [name for name in source.columns if name.casefold() in TARGET_NAMES]
    usable = [name for name in named if _is_usable(source, name)]
    if named:
        return usable or named
    bare = []
    for name in source.columns:
        is_bare = name.casefold() in _BARE and not _is_coordinate(source, name)
        if is_bare and _is_usable(source, name):
            bare.append(name)
    outcomes = [name for name in source.columns if _is_outcome(source, name)]
    return [*bare, *outcomes]


def is_sure(name: str, role: str) -> bool:
    """Return whether a name says that a column is to be predicted, whatever the other columns hold.

    Args:
        name: of the column.
        role: the name of the task's target.
    """
    return name == role or name.casefold() in TARGET_NAMES | _BARE


def _is_coordinate(source: SourceStats, name: str) -> bool:
    """Return whether a column y stands beside columns x and z."""
    names = {other.casefold() for other in source.columns}
    return name.casefold() == "y" and {"x", "z"} <= names


def _is_outcome(source: SourceStats, name: str) -> bool:
    """Return whether a column is named as what people predict, and can be predicted."""
    words = ColumnValues(source.columns[name]).words
    is_named = name in _OUTCOMES or bool(words and words[-1] in _OUTCOMES)
    return is_named and _is_usable(source, name)


def _is_usable(source: SourceStats, name: str) -> bool:
    """Return whether the values of a column are numbers or categories that vary."""
    return guess_column(source.columns[name], source.rows).kind in _KINDS
