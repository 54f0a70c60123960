"""Read, encode and answer in exported folders, without gristmill. See `orchestration/export`."""

from components.tasks.shared.standalone.classification.class_answers import ANSWER_FIELDS, answer_of
from components.tasks.shared.standalone.tables.table_rows import (
    QUERY,
    USAGE,
    RowFeatures,
    requirements,
    unsupported,
)

__all__ = [
    "ANSWER_FIELDS",
    "QUERY",
    "USAGE",
    "answer_of",
    "open_rows",
    "requirements",
    "unsupported",
]
open_rows = RowFeatures
