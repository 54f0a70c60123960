"""Define the rows of classification on tables: inputs that the pipeline chooses, and a class."""

from __future__ import annotations

from components.tasks.base import Role
from components.tasks.shared.schema.classification.class_name import ClassName
from components.tasks.shared.schema.classification.rules import ClassTargets
from components.tasks.shared.schema.tables.table_schema import TableSchema

SCHEMA = TableSchema(Role("label", ClassName(), "target"), ClassTargets())
