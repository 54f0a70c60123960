"""Choose inputs and params for a user's table with classes to predict."""

from __future__ import annotations

from components.tasks.shared.defaults.tables.table_defaults import ClassTableDefaults

DEFAULTS = ClassTableDefaults("label", other_task="tabular_regression")
