"""`gristmill monitor`, and the same look taken every minute by a running service: windows of logged answers against the profile in the champion's bundle."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from components.core.errors import GristmillError, InputError
from components.core.files import to_json, write_atomic
from components.monitoring.drift import Finding, compare
from components.monitoring.feedback import FeedbackStore
from components.monitoring.request_log import read_log
from components.orchestration.drift.drift_alerts import tell
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params
from components.serving.http.monitoring_routes import FEEDBACK, LATEST, REQUESTS, Monitoring

DRIFT = "drift.json"
DRIFTED = 5  # exit code of `gristmill monitor`
_SETTLE_S = 5.0  # replicas write what they have been asked within this time
_HISTORY = 100
_VERSIONS = 50  # of which it is known how far they were looked at
Say = Callable[[str], None]


@dataclass(frozen=True)
class WindowCheck:
    """One window of one kind, compared once and never again: looking more often raises no more alarms."""

    kind: str  # "inputs" (and predictions) or "accuracy"
    until: float  # time of its last row, in seconds since 1970
    findings: Sequence[Finding]

    @property
    def drifted(self) -> list[str]:
        """Fields that have."""
        return [each.field for each in self.findings if each.drifted]


def monitoring(root: Path, params: Params) -> Monitoring:
    """Where a pipeline's service is watched."""
    return Monitoring(_home(root, params) / "monitor", params.monitor)


def look(root: Path, params: Params, say: Say) -> dict[str, Any]:
    """Compare the windows that have become full since the last look, tell of alarms, and write down what was found.

    Returns:
        The content of latest.json: "version", "inputs" and "accuracy" (the latest look of each kind, if any), "waiting" (rows of the next windows), "windows", "alarms", "history",
        "before" (how far other versions were looked at).

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: another look is under way, the registry does not answer, the disk is full.
    """
    watch = monitoring(root, params)
    with only_one(watch.folder / "look.lock", f"a look at {params.name}", wait=60):
        version, profile = _champion(root, params)
        told = _latest(watch.folder)
        if told.get("version") != version:
            (_home(root, params) / DRIFT).unlink(
                missing_ok=True
            )  # what was said of the version before is no word on this one
            told = _turn(told, version)
        for found in (
            *_inputs(watch, version, profile, told),
            *_accuracy(watch, version, profile, told),
        ):
            told["windows"] += 1
            told["alarms"] += bool(found.drifted)
            told[found.kind] = {
                "when": _when(found.until),
                "level": params.monitor.level,
                "drift": found.drifted,
                "findings": [each.as_row() for each in found.findings],
            }
            told["history"] = [
                *told["history"],
                {"kind": found.kind, "when": _when(found.until), "drift": found.drifted},
            ][-_HISTORY:]
            if found.drifted:
                changes = {each.field: each.change for each in found.findings if each.drifted}
                alarm = {
                    "when": _when(found.until),
                    "fields": found.drifted,
                    "level": params.monitor.level,
                    "version": version,
                    "changes": changes,
                }
                write_atomic(_home(root, params) / DRIFT, to_json(alarm))
            tell(root, params, version, told["windows"], found.kind, found.findings, say)
        write_atomic(watch.folder / LATEST, to_json(told))
        return told


def _home(root: Path, params: Params) -> Path:
    return root / "data" / ".state" / params.name


def _champion(root: Path, params: Params) -> tuple[int, Mapping[str, Any]]:
    """The released version and what its bundle says of training."""
    from components.registry.versions.model_versions import champion

    leading = champion(root, params.name)
    if leading is None:
        again = "gristmill run" if params.name == "default" else f"gristmill run {params.name}"
        raise InputError(
            f"pipeline {params.name!r} has no champion yet", where="registry", remedy=again
        )
    return leading.number, _profile(root, params.name, leading.number)


@cache
def _profile(root: Path, pipeline: str, number: int) -> Mapping[str, Any]:
    from components.core.bundles import read_bundle
    from components.monitoring.profile_schema import profiler_of
    from components.registry.versions.model_versions import fetch_registered

    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        bundle = fetch_registered(root, pipeline, number, Path(scratch))
        card = read_bundle(bundle.folder, bundle.digest)[0]
        profiler_of(card.task, card.profile)
        return card.profile


def _latest(folder: Path) -> dict[str, Any]:
    """What the last look left."""
    with suppress(OSError, ValueError):
        return dict(json.loads((folder / LATEST).read_text(encoding="utf-8")))
    return {}


def _turn(told: dict[str, Any], version: int) -> dict[str, Any]:
    """The state of another champion than that of the last look: a new one begins anew, one that comes back goes on where it was."""
    marks = {"until": 0.0, "labels_until": 0.0, "windows": 0, "alarms": 0}
    before = [each for each in told.get("before", []) if each["version"] != told["version"]]
    before += [{"version": told["version"], **{name: told[name] for name in marks}}] if told else []
    known: dict[str, Any] = next((each for each in before if each["version"] == version), {})
    others = [
        each for each in before if each["version"] != version
    ]  # the one that has left last is the last
    return {
        "version": version,
        **marks,
        **known,
        "history": [],
        "waiting": {},
        "before": others[-_VERSIONS:],
    }


def _inputs(
    watch: Monitoring, version: int, profile: Mapping[str, Any], told: dict[str, Any]
) -> list[WindowCheck]:
    """Windows of inputs and predictions, oldest first."""
    size, found = watch.params.window, []
    rows = read_log(watch.folder / REQUESTS, str(version), told["until"], time.time() - _SETTLE_S)
    for start in range(0, rows.num_rows - size + 1, size):
        part = rows.slice(start, size)
        window = {name: part[name].to_pylist() for name in part.column_names}
        window |= {
            f"prediction.{name}": window[column]
            for name, column in (("label", "prediction"), ("probability", "probability"))
        }
        told["until"] = window["time"][-1]
        found.append(
            WindowCheck("inputs", told["until"], compare(profile, window, watch.params.level))
        )
    told["waiting"]["inputs"] = [rows.num_rows % size, size]
    return found


def _accuracy(
    watch: Monitoring, version: int, profile: Mapping[str, Any], told: dict[str, Any]
) -> list[WindowCheck]:
    """Windows of labeled answers, without those whose label a person has rejected."""
    size, box, found = (
        watch.params.labels,
        FeedbackStore(watch.folder / FEEDBACK, watch.params.feedback_rows),
        [],
    )
    decided = box.decided()
    labels = [
        each
        for each in box.labels()
        if each.version == str(version)
        and each.when > told["labels_until"]
        and decided.get(each.key) != "rejected"
    ]
    for start in range(0, len(labels) - size + 1, size):
        part = labels[start : start + size]
        told["labels_until"] = part[-1].when
        right = sum(each.label == each.prediction for each in part)
        found.append(
            WindowCheck(
                "accuracy",
                told["labels_until"],
                compare(profile, {}, watch.params.level, (right, size)),
            )
        )
    told["waiting"]["accuracy"] = [len(labels) % size, size]
    return found


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Watchman(threading.Thread):
    """Looks every so often while a service runs; what goes wrong is said once and never reaches the service.

    Args:
        root: the project.
        params: of the pipeline.
        say: one line for whoever watches.
    """

    def __init__(self, root: Path, params: Params, say: Say) -> None:
        super().__init__(name="monitor", daemon=True)
        self._root, self._params, self._say, self._trouble = root, params, say, ""

    def run(self) -> None:
        """Until the process ends."""
        while True:
            time.sleep(self._params.monitor.every_s)
            trouble = ""
            try:
                look(self._root, self._params, self._say)
            except GristmillError as error:
                trouble = error.what
            except Exception as error:  # our own mistake: the service goes on
                trouble = f"{type(error).__name__}: {error}"
            if trouble and trouble != self._trouble:
                self._say(f"monitoring: {trouble}")
            self._trouble = trouble


def show(root: Path, params: Params) -> int:
    """Look, and print a table. Returns the exit code: 5 where the latest window of inputs or of labels had drifted, else 0."""
    from rich.table import Table

    from components.core.console import console, styled

    told = look(root, params, lambda text: console.print(text, soft_wrap=True))
    what = {"inputs": "inputs and predictions", "accuracy": "accuracy by labels"}
    for kind, title in what.items():
        waits, size = told["waiting"][kind]
        latest = told.get(kind)
        if latest is None:
            console.print(
                f"{title}: {waits} of the {size} answers of a window; nothing is said of fewer"
            )
            continue
        table = Table(box=None, pad_edge=False)
        for name in ("field", "rows", "training -> now", "p (Holm)", ""):
            table.add_column(
                name, justify="right" if name in ("rows", "p (Holm)") else "left", overflow="fold"
            )
        for each in latest["findings"]:
            mark = ("drift", "bold red") if each["drifted"] else ("as before", "green")
            table.add_row(
                each["field"],
                f"{each['rows']:,}",
                each["change"],
                f"{each['adjusted']:.2g}",
                styled(mark),
            )
        window = f", window that ended {latest['when']}, level {latest['level']:g}"
        next_window = f"; {waits} of {size} answers of the next"
        console.print(styled((title, "bold"), window, next_window))
        console.print(table)
    drifted = [field for kind in what for field in told.get(kind, {}).get("drift", [])]
    said = (
        f"drift of {', '.join(drifted)}"
        if drifted
        else "no drift"
        if any(kind in told for kind in what)
        else "not enough was asked yet"
    )
    console.print(
        f"{params.name} version {told['version']}: {said}; {told['windows']} windows so far, {told['alarms']} with an alarm"
    )
    return DRIFTED if drifted else 0
