"""Choose inputs and params for a user's table with numbers to predict."""

from __future__ import annotations

from components.tasks.shared.defaults.tables.table_defaults import NumberTableDefaults

DEFAULTS = NumberTableDefaults("target", other_task="tabular_classification")
