"""`gristmill schedule`: retrain at set times, on new data, or on drift with new data.

The waits use a clock that nobody can set. APScheduler's own loop sleeps until a wall time, so it
would stop for a day after the clock was set back by a day. Only its calendar is used.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError
from components.core.files import to_json, write_atomic
from components.core.terminal import print_line
from components.orchestration.locks import only_one
from components.orchestration.processes import end_with_parent
from components.orchestration.retraining.cron import Cron, local_zone
from components.orchestration.retraining.retrain import fresh, pulled
from components.orchestration.retraining.retrain_log import RetrainLog, champion

# Seconds between attempts after a failure. The machine may have recovered by then. A source that
# grows each minute must not fail each minute.
_AGAIN_S = 600.0
# After as many checks with different results in a row, the source is expected to change for ever.
_RESTLESS = 10
DriftCheck = Callable[[], str | None]


def local_now() -> datetime:
    """Return the time on this machine's wall clock, in its time zone."""
    return datetime.now(local_zone())


@dataclass
class Memory:
    """Stores the state that a scheduler needs after a restart.

    Args:
        path: of the file.
        values: the state: name -> value.
        waits: whether the disk has not stored the latest state yet.
    """

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    waits: bool = False

    def __post_init__(self) -> None:
        self.values = read(self.path)

    def update(self, **values: str) -> None:
        """Change the state and write the file. With a full disk the file is written later.

        Args:
            values: name -> new value.
        """
        self.values |= values
        try:
            write_atomic(self.path, to_json(self.values))
            self.waits = False
        except EnvironmentFault as fault:
            if not self.waits:
                log(f"{fault.where}: {fault.what}; what it holds is known until this ends")
            self.waits = True

    def flush(self) -> None:
        """Write the state that the disk has not stored yet."""
        if self.waits:
            self.update()


@dataclass
class OnCron:
    """Makes a retrain due at the times of a cron line. Missed times count as one.

    Args:
        cron: the line.
        memory: of the scheduler.
        clock: returns the time in this machine's time zone.
        due: when a retrain was last found due.
    """

    cron: Cron
    memory: Memory
    clock: Callable[[], datetime] = local_now
    due: datetime | None = None

    def due_reason(self) -> str | None:
        """Return why a retrain is due, or None."""
        now = self.clock()
        stored = self.memory.values.get("cron_seen")
        seen = datetime.fromisoformat(stored) if stored else None
        # This is the first check ever, or the clock was set back.
        if seen is None or seen.astimezone(UTC) > now.astimezone(UTC):
            self.memory.update(cron_seen=now.isoformat())
            return None
        due = self.cron.after(seen.astimezone(now.tzinfo))
        # Within one zone Python compares the wall clock alone, and an hour of it may stand twice.
        if due.astimezone(UTC) > now.astimezone(UTC):
            return None
        self.due = now
        return f"cron {self.cron.line}"

    def mark_ended(self) -> None:
        """Record that the retrain has ended. Times that came meanwhile are still due."""
        moment = self.due or self.clock()
        self.memory.update(cron_seen=moment.isoformat())


def _never() -> bool:
    return False


@dataclass
class OnNewData:
    """Makes a retrain due when data, code or params are new and are no longer being written.

    They must be the same in two checks. A source that always changes is due after some checks.

    Args:
        memory: of the scheduler.
        digest: returns a digest of what is new, or None.
        atomic: returns whether the source changes all at once, so that one check is enough.
        before: the digest at the check before.
        restless: checks in a row with different digests.
    """

    memory: Memory
    digest: Callable[[], str | None]
    atomic: Callable[[], bool] = _never
    before: str | None = None
    restless: int = 0

    def due_reason(self) -> str | None:
        """Return why a retrain is due, or None."""
        if self.is_due():
            return "new data"
        return None

    def is_due(self) -> bool:
        """Return whether there is something new that was not tried and is no longer written."""
        digest = self.digest()
        is_same = digest == self.before
        self.before = digest
        if is_same or digest is None:
            self.restless = 0
        else:
            self.restless += 1
        if digest in (None, self.memory.values.get("tried")):
            return False
        return is_same or self.restless >= _RESTLESS or self.atomic()

    def mark_ended(self) -> None:
        """Record that the retrain has ended, with any outcome."""
        self.restless = 0
        self.memory.update(tried=self.before or "")


@dataclass
class OnDrift:
    """Makes a retrain due when the champion has a drift alert and there is something new.

    An alert counts until a retrain has ended. While the drift lasts, data that are accepted later
    are tried once, too.

    Args:
        news: tells whether something is new.
        folder: of the pipeline's state, with drift.json and monitor/latest.json.
        champion: returns the number of the champion.
        advice: returns what to do if nothing is new.
        seen: when the alert was raised for which a retrain is due.
    """

    news: OnNewData
    folder: Path
    champion: Callable[[], int | None]
    advice: Callable[[], str]
    seen: str | None = None

    def due_reason(self) -> str | None:
        """Return why a retrain is due, or None.

        If there is nothing new, print it once, and once again after each attempt.
        """
        memory = self.news.memory
        alert = read(self.folder / "drift.json")
        self.seen = str(alert.get("when"))
        if not alert or alert.get("version") != self.champion():
            return None
        if self.seen == memory.values.get("drift") and not self._lasts(alert):
            return None
        is_new = self.news.is_due()
        fields = ", ".join(map(str, alert.get("fields", []))) or "the data"
        about = f"version {alert.get('version')} after {memory.values.get('tried') or 'nothing'}"
        if self.news.before is None and memory.values.get("told") != about:
            log(f"drift of {fields}, and nothing new to learn from: {self.advice()}")
            memory.update(told=about)
        if not is_new:
            return None
        return f"drift of {fields}, and new data"

    def mark_ended(self) -> None:
        """Record that the retrain has ended, with any outcome."""
        self.news.mark_ended()
        self.news.memory.update(drift=self.seen or "")

    def _lasts(self, alert: Mapping[str, Any]) -> bool:
        """Return whether the latest window has drifted, as the exit code of `gristmill monitor`."""
        latest = read(self.folder / "monitor" / "latest.json")
        if latest.get("version") != alert.get("version"):
            return False
        # The checks of each kind are mappings, beside numbers and lists.
        checks = [value for value in latest.values() if isinstance(value, Mapping)]
        return any(check.get("drift") for check in checks)


Rule = OnCron | OnNewData | OnDrift


def read(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, or an empty one if it is missing or damaged.

    Args:
        path: of the file.
    """
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def run_scheduler(
    root: Path,
    name: str,
    every: float,
    cron: Cron | None,
    on_drift: bool,
) -> None:
    """Check and retrain until SIGTERM or Ctrl-C, which also stop the current retrain.

    Args:
        root: of the project.
        name: of the pipeline.
        every: seconds between checks.
        cron: the times. None: when the data are new.
        on_drift: when the data are new and there is a drift alert.

    Raises:
        EnvironmentFault: another scheduler of this pipeline runs.
    """
    records = RetrainLog(root, name)
    with only_one(records.folder / "schedule.lock", f"a scheduler of pipeline {name}"):
        memory = Memory(records.folder / "schedule.json")
        rule = _rule(root, name, memory, cron, on_drift)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        until = f"; next at {cron.after(local_now()):%Y-%m-%d %H:%M %Z}" if cron else ""
        print_line(f"watching {name}{until}; Ctrl-C ends it")
        pause = 0.0
        while not stop.wait(pause):
            memory.flush()
            code = _check(root, name, rule, stop)
            pause = every
            # The next time of a cron line is far enough.
            if code and not isinstance(rule, OnCron):
                pause = max(every, _AGAIN_S)
        log("stopped")


def _rule(
    root: Path,
    name: str,
    memory: Memory,
    cron: Cron | None,
    on_drift: bool,
) -> Rule:
    if cron:
        return OnCron(cron, memory)
    news = OnNewData(memory, lambda: fresh(root, name), lambda: pulled(root, name))
    if on_drift:
        return _on_drift(root, name, news)
    return news


def _check(root: Path, name: str, rule: Rule, stop: threading.Event) -> int:
    """Retrain if it is due. Return the exit code of the retrain, or 0."""
    try:
        why = rule.due_reason()
    # The source may be away. When a retrain is due, it records itself what is wrong.
    except GristmillError as error:
        log(f"cannot look: {error.where}: {error.what}")
        return 0
    if not why:
        return 0
    log(f"retrain of {name}: {why}")
    code = run(root, name, why, stop)
    log(f"retrain of {name} ended with exit code {code}")
    # With a fault of the machine the data were not tried.
    was_tried = isinstance(rule, OnCron) or code != EnvironmentFault.exit_code
    if was_tried and not stop.is_set():
        rule.mark_ended()
    return code


def _on_drift(root: Path, name: str, news: OnNewData) -> OnDrift:
    def advise() -> str:
        # Its imports take memory, and most schedulers never need it.
        from components.orchestration.drift.drift_advice import advice

        return advice(root, name)

    return OnDrift(
        news=news,
        folder=root / "data" / ".state" / name,
        champion=lambda: champion(root, name),
        advice=advise,
    )


def run(root: Path, name: str, why: str, stop: threading.Event) -> int:
    """Run a retrain in another process, and end it when this one is stopped.

    Args:
        root: of the project.
        name: of the pipeline.
        why: the trigger, for the record.
        stop: set when this process is stopped.

    Returns:
        The exit code of the retrain.
    """
    words = [sys.executable, "-m", "components.cli", "retrain", name, "--trigger", why]
    process = subprocess.Popen(
        words,
        cwd=root,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    is_terminated = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        if stop.is_set() and not is_terminated:
            is_terminated = True
            process.terminate()


def log(text: str) -> None:
    """Print a line with the time. The output may be full, or closed.

    Args:
        text: of the line.
    """
    with suppress(OSError):
        print_line(f"{local_now():%Y-%m-%d %H:%M:%S} {text}")
        sys.stdout.flush()
