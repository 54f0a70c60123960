"""Where the monitoring of a pipeline keeps its files.

This module imports no web framework: commands that read the files start fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.monitoring.params import MonitorParams

LATEST = "latest.json"
REQUESTS = "requests"
FEEDBACK = "feedback"
# The kind of the checks of inputs and predictions.
INPUTS = "inputs"


@dataclass(frozen=True)
class Monitoring:
    """What replicas must know of a pipeline's monitoring.

    Args:
        folder: of the request log and the feedback. All nodes with replicas see it.
        params: of section `monitor`.
        task: its id.
    """

    folder: Path
    params: MonitorParams
    task: str
