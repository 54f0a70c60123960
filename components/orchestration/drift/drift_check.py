"""`gristmill monitor`: compare windows of logged answers with the training data.

The profile of the training data is in the champion's bundle. A running service makes the same check
every minute.
"""

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
from typing import TYPE_CHECKING, Any

from components.core.errors import GristmillError, InputError
from components.core.files import to_json, write_atomic
from components.monitoring.drift import DriftResult, drift_results
from components.monitoring.feedback_store import FeedbackStore
from components.monitoring.request_log import read_log
from components.orchestration.drift.drift_alerts import notify
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params
from components.serving.http.monitoring_routes import FEEDBACK, LATEST, REQUESTS, Monitoring

if TYPE_CHECKING:
    from rich.table import Table

DRIFT = "drift.json"
# The exit code of `gristmill monitor` after a drift.
DRIFTED = 5
# Replicas write the requests to the log within this time.
_SETTLE_S = 5.0
_HISTORY = 100
# Earlier versions whose position in the log is stored.
_VERSIONS = 50
# The fields of the state that are stored for earlier versions, with their first values.
_POSITION = {"until": 0.0, "labels_until": 0.0, "windows": 0, "alarms": 0}
_TITLES = {"inputs": "inputs and predictions", "accuracy": "accuracy by labels"}
Log = Callable[[str], None]
# The content of latest.json, see `look`.
State = dict[str, Any]


@dataclass(frozen=True)
class WindowCheck:
    """Holds the result of one window. Each window is compared once, so alerts do not multiply.

    Args:
        kind: "inputs" (with predictions) or "accuracy".
        until: the time of its last row, in seconds since 1970.
        findings: for each field.
    """

    kind: str
    until: float
    findings: Sequence[DriftResult]

    @property
    def drifted(self) -> list[str]:
        """Return the names of the fields that have drifted."""
        return [finding.field for finding in self.findings if finding.drifted]

    @property
    def when(self) -> str:
        """Return the time of the last row as ISO 8601, UTC."""
        return datetime.fromtimestamp(self.until, UTC).isoformat(timespec="seconds")


def monitoring(root: Path, params: Params) -> Monitoring:
    """Return the folder and the params of a pipeline's monitoring.

    Args:
        root: of the project.
        params: of the pipeline.
    """
    return Monitoring(_state_folder(root, params) / "monitor", params.monitor)


def check_drift(root: Path, params: Params, log: Log) -> State:
    """Check the windows that have become full since the last check, and send alerts.

    Args:
        root: of the project.
        params: of the pipeline.
        log: prints one line.

    Returns:
        The content of latest.json: "version", "inputs" and "accuracy" (the latest check of each
        kind, if any), "waiting" (rows of the next windows), "windows", "alarms", "history",
        "before" (the positions of other versions in the log).

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: another check is under way, the registry does not answer, or the disk is
            full.
    """
    watch = monitoring(root, params)
    with only_one(watch.folder / "look.lock", f"a look at {params.name}", wait=60):
        version, profile = _champion(root, params)
        state = _latest(watch.folder)
        if state.get("version") != version:
            # The alert is about the version before.
            (_state_folder(root, params) / DRIFT).unlink(missing_ok=True)
            state = _turn(state, version)
        inputs = _inputs(watch, version, profile, state)
        accuracy = _accuracy(watch, version, profile, state)
        for check in (*inputs, *accuracy):
            _add_to_state(state, check, params.monitor.level)
            if check.drifted:
                alert = _alert(check, version, params.monitor.level)
                write_atomic(_state_folder(root, params) / DRIFT, to_json(alert))
            notify(root, params, version, state["windows"], check.kind, check.findings, log)
        write_atomic(watch.folder / LATEST, to_json(state))
        return state


def _add_to_state(state: State, check: WindowCheck, level: float) -> None:
    state["windows"] += 1
    state["alarms"] += bool(check.drifted)
    state[check.kind] = {
        "when": check.when,
        "level": level,
        "drift": check.drifted,
        "findings": [finding.as_row() for finding in check.findings],
    }
    entry = {"kind": check.kind, "when": check.when, "drift": check.drifted}
    state["history"] = [*state["history"], entry][-_HISTORY:]


def _alert(check: WindowCheck, version: int, level: float) -> dict[str, Any]:
    """Return the content of drift.json."""
    changes = {finding.field: finding.change for finding in check.findings if finding.drifted}
    return {
        "when": check.when,
        "fields": check.drifted,
        "level": level,
        "version": version,
        "changes": changes,
    }


def _state_folder(root: Path, params: Params) -> Path:
    return root / "data" / ".state" / params.name


def _champion(root: Path, params: Params) -> tuple[int, Mapping[str, Any]]:
    """Return the number of the released version, and the profile of its training data."""
    from components.registry.versions.model_versions import champion

    released = champion(root, params.name)
    if released is None:
        command = "gristmill run" if params.name == "default" else f"gristmill run {params.name}"
        raise InputError(
            f"pipeline {params.name!r} has no champion yet", where="registry", remedy=command
        )
    return released.number, _profile(root, params.name, released.number)


@cache
def _profile(root: Path, pipeline: str, number: int) -> Mapping[str, Any]:
    from components.core.bundles import read_bundle
    from components.monitoring.profile_schema import profiler_of
    from components.registry.versions.model_versions import fetch_registered

    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        bundle = fetch_registered(root, pipeline, number, Path(scratch))
        card = read_bundle(bundle.folder, bundle.digest)[0]
        # Raises an error if the profile is malformed.
        profiler_of(card.task, card.profile)
        return card.profile


def _latest(folder: Path) -> State:
    """Return the state after the last check, or an empty one."""
    with suppress(OSError, ValueError):
        return dict(json.loads((folder / LATEST).read_text(encoding="utf-8")))
    return {}


def _turn(state: State, version: int) -> State:
    """Return the state for another champion than that of the last check.

    A new version begins anew. A version that was champion before continues at its position.
    """
    earlier = [entry for entry in state.get("before", []) if entry["version"] != state["version"]]
    if state:
        values = {name: state[name] for name in _POSITION}
        earlier.append({"version": state["version"], **values})
    position: State = {}
    # The champion of the last check stays the last one.
    others = []
    for entry in earlier:
        if entry["version"] != version:
            others.append(entry)
        elif not position:
            position = entry
    return {
        "version": version,
        **_POSITION,
        **position,
        "history": [],
        "waiting": {},
        "before": others[-_VERSIONS:],
    }


def _inputs(
    watch: Monitoring, version: int, profile: Mapping[str, Any], state: State
) -> list[WindowCheck]:
    """Check the full windows of inputs and predictions, oldest first."""
    size = watch.params.window
    checks = []
    settled = time.time() - _SETTLE_S
    rows = read_log(watch.folder / REQUESTS, str(version), state["until"], settled)
    for start in range(0, rows.num_rows - size + 1, size):
        part = rows.slice(start, size)
        window = {name: part[name].to_pylist() for name in part.column_names}
        window["prediction.label"] = window["prediction"]
        window["prediction.probability"] = window["probability"]
        state["until"] = window["time"][-1]
        findings = drift_results(profile, window, watch.params.level)
        checks.append(WindowCheck("inputs", state["until"], findings))
    state["waiting"]["inputs"] = [rows.num_rows % size, size]
    return checks


def _accuracy(
    watch: Monitoring, version: int, profile: Mapping[str, Any], state: State
) -> list[WindowCheck]:
    """Check the full windows of labeled answers, without labels that a person has rejected."""
    size = watch.params.labels
    checks = []
    store = FeedbackStore(watch.folder / FEEDBACK, watch.params.feedback_rows)
    decisions = store.decided()
    labels = []
    for label in store.labels():
        is_new = label.version == str(version) and label.when > state["labels_until"]
        if is_new and decisions.get(label.key) != "rejected":
            labels.append(label)
    for start in range(0, len(labels) - size + 1, size):
        part = labels[start : start + size]
        state["labels_until"] = part[-1].when
        right = sum(label.label == label.prediction for label in part)
        findings = drift_results(profile, {}, watch.params.level, (right, size))
        checks.append(WindowCheck("accuracy", state["labels_until"], findings))
    state["waiting"]["accuracy"] = [len(labels) % size, size]
    return checks


class Watchman(threading.Thread):
    """Checks for drift at intervals while a service runs.

    A problem is printed once and does not affect the service.

    Args:
        root: of the project.
        params: of the pipeline.
        log: prints one line.
    """

    def __init__(self, root: Path, params: Params, log: Log) -> None:
        super().__init__(name="monitor", daemon=True)
        self._root = root
        self._params = params
        self._log = log
        self._problem = ""

    def run(self) -> None:
        """Check until the process ends."""
        while True:
            time.sleep(self._params.monitor.every_s)
            problem = self._check()
            if problem and problem != self._problem:
                self._log(f"monitoring: {problem}")
            self._problem = problem

    def _check(self) -> str:
        """Check once. Return what went wrong, or an empty text."""
        try:
            check_drift(self._root, self._params, self._log)
        except GristmillError as error:
            return error.what
        # A bug in the check must not end the service.
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""


def show(root: Path, params: Params) -> int:
    """Check for drift and print a table for each kind of window.

    Args:
        root: of the project.
        params: of the pipeline.

    Returns:
        The exit code: 5 if the latest window of inputs or of labels has drifted, else 0.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: see `look`.
    """
    from components.core.console import console

    state = check_drift(root, params, lambda text: console.print(text, soft_wrap=True))
    drifted: list[str] = []
    for kind in _TITLES:
        _show_kind(kind, state)
        drifted += state.get(kind, {}).get("drift", [])
    console.print(
        f"{params.name} version {state['version']}: {_conclusion(state, drifted)}; "
        f"{state['windows']} windows so far, {state['alarms']} with an alarm"
    )
    return DRIFTED if drifted else 0


def _conclusion(state: State, drifted: Sequence[str]) -> str:
    if drifted:
        return f"drift of {', '.join(drifted)}"
    if any(kind in state for kind in _TITLES):
        return "no drift"
    return "not enough was asked yet"


def _show_kind(kind: str, state: State) -> None:
    """Print the latest window of a kind."""
    from components.core.console import console, styled

    title = _TITLES[kind]
    waiting, size = state["waiting"][kind]
    latest = state.get(kind)
    if latest is None:
        console.print(f"{title}: {waiting} of the {size} answers that a check needs")
        return
    window = f", window that ended {latest['when']}, level {latest['level']:g}"
    next_window = f"; {waiting} of {size} answers of the next"
    console.print(styled((title, "bold"), window, next_window))
    console.print(_findings_table(latest["findings"]))


def _findings_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    from components.core.console import styled

    table = Table(box=None, pad_edge=False)
    table.add_column("field", overflow="fold")
    table.add_column("rows", justify="right", overflow="fold")
    table.add_column("training -> now", overflow="fold")
    table.add_column("p (Holm)", justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for finding in findings:
        mark = ("drift", "bold red") if finding["drifted"] else ("as before", "green")
        table.add_row(
            finding["field"],
            f"{finding['rows']:,}",
            finding["change"],
            f"{finding['adjusted']:.2g}",
            styled(mark),
        )
    return table
