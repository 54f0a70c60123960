"""Files through which a service and its replicas communicate.

The service writes the plan that all replicas follow. Each replica writes a report. A replica that
starts later, or again, finds the plan in its file.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

from components.core.files import write_atomic
from components.serving.rollout.canary_check import Tally
from components.serving.rollout.plan import Report, RolloutPlan

_PLAN = "plan.json"
_REPORT = "replica-"
# replicas report every half second, but a machine may be busy
_FRESH_S = 10.0


class PlanFiles:
    """Reads and writes the files of both sides.

    Args:
        folder: one that all nodes with replicas see.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._posted = ""

    def clear(self) -> None:
        """Delete the plan and the reports of an earlier service."""
        (self.folder / _PLAN).unlink(missing_ok=True)
        for path in self.folder.glob(f"{_REPORT}*"):
            path.unlink(missing_ok=True)

    def post(self, plan: RolloutPlan) -> None:
        """Write a plan. The same plan again shows that the service still watches it."""
        path = self.folder / _PLAN
        text = plan.model_dump_json(by_alias=True)
        if text == self._posted and path.is_file():
            os.utime(path)
        else:
            write_atomic(path, text)
        self._posted = text

    def plan(self) -> tuple[RolloutPlan, float] | None:
        """Return the plan, and the seconds since it was written last; None before the first."""
        path = self.folder / _PLAN
        try:
            plan = RolloutPlan.model_validate_json(path.read_bytes())
            return plan, time.time() - path.stat().st_mtime
        except (OSError, ValueError):
            return None

    def report(self, report: Report) -> None:
        """Write the report of a replica."""
        path = self.folder / f"{_REPORT}{report.replica}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(report)), encoding="utf-8")
        part.replace(path)

    def reports(self) -> list[Report]:
        """Return the recent reports; a replica without a recent report has ended."""
        reports = []
        for path in self.folder.glob(f"{_REPORT}*.json"):
            try:
                if time.time() - path.stat().st_mtime > _FRESH_S:
                    path.unlink()
                    continue
                reports.append(_parse_report(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue
        return reports


def _parse_report(text: str) -> Report:
    """Parse what `PlanFiles.report` wrote."""
    fields = json.loads(text)
    tallies = {version: Tally(**tally) for version, tally in fields["tallies"].items()}
    return Report(**{**fields, "tallies": tallies})
