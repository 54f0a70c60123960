"""A folder in which a service and its replicas meet: the plan that all follow, and a report from each. Files, so that whoever starts later or again finds them."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

from components.core.files import write_atomic
from components.serving.rollout.canary import Tally
from components.serving.rollout.plan import Report, RolloutPlan

_PLAN, _REPORT = "plan.json", "replica-"
_FRESH_S = 10.0  # replicas report every half second; a machine may be busy


class PlanFiles:
    """Both sides of it.

    Args:
        folder: one that all nodes with replicas see.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._posted = ""

    def clear(self) -> None:
        """Forget the plan and the replicas of an earlier service."""
        (self.folder / _PLAN).unlink(missing_ok=True)
        for path in self.folder.glob(f"{_REPORT}*"):
            path.unlink(missing_ok=True)

    def post(self, plan: RolloutPlan) -> None:
        """Tell a plan, or tell it again, which says that it is still watched."""
        path, text = self.folder / _PLAN, plan.model_dump_json()
        if text == self._posted and path.is_file():
            os.utime(path)
        else:
            write_atomic(path, text)
        self._posted = text

    def plan(self) -> tuple[RolloutPlan, float] | None:
        """What is told, and the seconds since; None before anything is."""
        path = self.folder / _PLAN
        try:
            return RolloutPlan.model_validate_json(
                path.read_bytes()
            ), time.time() - path.stat().st_mtime
        except (OSError, ValueError):
            return None

    def report(self, report: Report) -> None:
        """Tell how a replica follows."""
        path = self.folder / f"{_REPORT}{report.replica}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(report)), encoding="utf-8")
        part.replace(path)

    def reports(self) -> list[Report]:
        """What the replicas have told just now; those that no longer tell anything have ended."""
        found = []
        for path in self.folder.glob(f"{_REPORT}*.json"):
            try:
                if time.time() - path.stat().st_mtime > _FRESH_S:
                    path.unlink()
                    continue
                found.append(_report(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue
        return found


def _report(text: str) -> Report:
    """Parse what `Board.report` wrote."""
    facts = json.loads(text)
    tallies = {version: Tally(**tally) for version, tally in facts["tallies"].items()}
    return Report(**{**facts, "tallies": tallies})
