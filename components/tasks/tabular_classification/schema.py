"""Define the rows of classification on tables: inputs that the pipeline chooses, and a class."""

from __future__ import annotations

from components.tasks.base import Role
from components.tasks.classification.targets.class_name import ClassName
from components.tasks.classification.targets.rules import ClassTargets
from components.tasks.tables.inputs.table_schema import TableSchema

SCHEMA = TableSchema(Role("label", ClassName(), "target"), ClassTargets())
