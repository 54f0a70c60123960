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
from components.monitoring.drift import DriftResult, drift_results, outcome_test
from components.monitoring.feedback_store import FeedbackStore
from components.monitoring.monitor_folder import (
    FEEDBACK,
    INPUTS,
    LATEST,
    REQUESTS,
    Monitoring,
)
from components.monitoring.request_log import read_log
from components.orchestration.drift.drift_alerts import notify
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params
from components.tasks.base import TaskFeedback, evaluator

if TYPE_CHECKING:
    from rich.table import Table

DRIFT = "drift.json"
# The exit code of `gristmill monitor` after a drift.
DRIFTED = 5
# Replicas write the requests to the log within this time.
_WRITE_DELAY_S = 5.0
_HISTORY = 100
# Earlier versions whose position in the log is stored.
_VERSIONS = 50
Log = Callable[[str], None]
# The content of latest.json, see `look`.
State = dict[str, Any]


@dataclass(frozen=True)
class WindowCheck:
    """Holds the result of one window. Each window is compared once, so alerts do not multiply.

    Args:
        kind: "inputs" (with predictions) or the task's `TaskFeedback.outcome`.
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
    """Return the folder, the task and the params of a pipeline's monitoring.

    Args:
        root: of the project.
        params: of the pipeline.
    """
    return Monitoring(_state_folder(root, params) / "monitor", params.monitor, params.task)


def check_drift(root: Path, params: Params, log: Log) -> State:
    """Check the windows that have become full since the last check, and send alerts.

    Args:
        root: of the project.
        params: of the pipeline.
        log: prints one line.

    Returns:
        The content of latest.json: "version", "inputs" and the task's outcome (the latest check
        of each kind, if any), "waiting" (rows of the next windows), "windows", "alarms",
        "history", "before" (the positions of other versions in the log).

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: another check is under way, the registry does not answer, or the disk is
            full.
    """
    watch = monitoring(root, params)
    feedback = evaluator(params.task).feedback
    with only_one(watch.folder / "look.lock", f"a look at {params.name}", wait=60):
        version, profile = _champion(root, params)
        state = _latest(watch.folder)
        if state.get("version") != version:
            # The alert is about the version before.
            (_state_folder(root, params) / DRIFT).unlink(missing_ok=True)
            state = _turn(state, version, feedback)
        inputs = _input_checks(watch, version, profile, state)
        outcomes = _outcome_checks(watch, version, profile, state)
        for check in (*inputs, *outcomes):
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


def _until_key(feedback: TaskFeedback) -> str:
    """Return the key of the time of the last answer whose truth was tested."""
    return f"{feedback.noun}s_until"


def _first_position(feedback: TaskFeedback) -> State:
    """Return the fields of the state that are stored for earlier versions, at their start."""
    return {"until": 0.0, _until_key(feedback): 0.0, "windows": 0, "alarms": 0}


def _turn(state: State, version: int, feedback: TaskFeedback) -> State:
    """Return the state for another champion than that of the last check.

    A new version begins anew. A version that was champion before continues at its position.
    """
    earlier = [entry for entry in state.get("before", []) if entry["version"] != state["version"]]
    start = _first_position(feedback)
    if state:
        values = {name: state[name] for name in start}
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
        **start,
        **position,
        "history": [],
        "waiting": {},
        "before": others[-_VERSIONS:],
    }


def _input_checks(
    watch: Monitoring, version: int, profile: Mapping[str, Any], state: State
) -> list[WindowCheck]:
    """Check the full windows of inputs and predictions, oldest first."""
    size = watch.params.window
    checks = []
    feedback = evaluator(watch.task).feedback
    until = time.time() - _WRITE_DELAY_S
    rows = read_log(watch.folder / REQUESTS, str(version), state["until"], until)
    for start in range(0, rows.num_rows - size + 1, size):
        part = rows.slice(start, size)
        window = {name: part[name].to_pylist() for name in part.column_names}
        window |= _answer_features(feedback, window["prediction"], window["probability"])
        state["until"] = window["time"][-1]
        findings = drift_results(profile, window, watch.params.level)
        checks.append(WindowCheck(INPUTS, state["until"], findings))
    state["waiting"][INPUTS] = [rows.num_rows % size, size]
    return checks


def _answer_features(
    feedback: TaskFeedback, texts: Sequence[str], confidences: Sequence[float | None]
) -> dict[str, list[Any]]:
    """Return the features of logged answers as columns."""
    columns: dict[str, list[Any]] = {name: [] for name in feedback.features}
    for text, confidence in zip(texts, confidences, strict=True):
        for name, value in feedback.features_of(text, confidence).items():
            columns[name].append(value)
    return columns


def _outcome_checks(
    watch: Monitoring, version: int, profile: Mapping[str, Any], state: State
) -> list[WindowCheck]:
    """Check the full windows of answers with a truth that no person has rejected."""
    size = watch.params.outcome_window
    checks = []
    feedback = evaluator(watch.task).feedback
    until = _until_key(feedback)
    store = FeedbackStore(watch.folder / FEEDBACK, watch.params.feedback_rows)
    decisions = store.decided()
    entries = []
    for entry in store.entries():
        is_new = entry.version == str(version) and entry.when > state[until]
        if is_new and decisions.get(entry.key) != "rejected":
            entries.append(entry)
    for start in range(0, len(entries) - size + 1, size):
        part = entries[start : start + size]
        state[until] = part[-1].when
        pairs = [(entry.prediction, feedback.truth_text(entry.truth)) for entry in part]
        test = outcome_test(feedback, profile, pairs)
        findings = drift_results(profile, {}, watch.params.level, test)
        checks.append(WindowCheck(feedback.outcome, state[until], findings))
    state["waiting"][feedback.outcome] = [len(entries) % size, size]
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
        The exit code: 5 if the latest window of inputs or of outcomes has drifted, else 0.

    Raises:
        InputError: nothing was released yet.
        EnvironmentFault: see `look`.
    """
    from components.core.console import console

    state = check_drift(root, params, lambda text: console.print(text, soft_wrap=True))
    feedback = evaluator(params.task).feedback
    titles = {
        INPUTS: "inputs and predictions",
        feedback.outcome: f"{feedback.outcome} by {feedback.noun}s",
    }
    drifted: list[str] = []
    for kind, title in titles.items():
        _show_kind(kind, title, state)
        drifted += state.get(kind, {}).get("drift", [])
    was_checked = any(kind in state for kind in titles)
    console.print(
        f"{params.name} version {state['version']}: {_conclusion(drifted, was_checked)}; "
        f"{state['windows']} windows so far, {state['alarms']} with an alarm"
    )
    return DRIFTED if drifted else 0


def _conclusion(drifted: Sequence[str], was_checked: bool) -> str:
    if drifted:
        return f"drift of {', '.join(drifted)}"
    if was_checked:
        return "no drift"
    return "not enough was asked yet"


def _show_kind(kind: str, title: str, state: State) -> None:
    """Print the latest window of a kind."""
    from components.core.console import console, styled

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
