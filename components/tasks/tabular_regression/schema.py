"""Define the rows of regression on tables: inputs that the pipeline chooses, and a number."""

from __future__ import annotations

from components.tasks.base import Role
from components.tasks.shared.schema.regression.number_targets import NumberTargets
from components.tasks.shared.schema.regression.target_number import TargetNumber
from components.tasks.shared.schema.tables.table_schema import TableSchema

SCHEMA = TableSchema(Role("target", TargetNumber(), "target"), NumberTargets())
