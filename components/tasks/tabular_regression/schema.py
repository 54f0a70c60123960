"""Define the rows of regression on tables: inputs that the pipeline chooses, and a number."""

from __future__ import annotations

from components.tasks.base import Role
from components.tasks.regression.targets.number_targets import NumberTargets
from components.tasks.regression.targets.target_number import TargetNumber
from components.tasks.tables.inputs.table_schema import TableSchema

SCHEMA = TableSchema(Role("target", TargetNumber(), "target"), NumberTargets())
