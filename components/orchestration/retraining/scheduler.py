"""`gristmill schedule`: a retrain at set times, when the data are new, or when they have drifted and are new.

Waiting is by a clock that nobody can set: APScheduler's own loop sleeps until a wall time, so a clock set back by a day would stop it for that day. Of it
only the calendar is used.
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
from components.orchestration.retraining.retrain_records import RetrainLog, champion

_AGAIN_S = 600.0  # after a failure: the machine may be able by then, and a source that grows by the minute must not fail by the minute
_RESTLESS = 10  # looks, each of which found something else: it will not settle
DriftCheck = Callable[[], str | None]


def local_now() -> datetime:
    """Return the time on this machine's wall clock, in its time zone."""
    return datetime.now(local_zone())


@dataclass
class Memory:
    """What a scheduler must still know when it is started again."""

    path: Path
    facts: dict[str, str] = field(default_factory=dict)
    waits: bool = False  # for a disk that takes it

    def __post_init__(self) -> None:
        self.facts = read(self.path)

    def keep(self, **facts: str) -> None:
        """Write down, on the disk too; a full one gets it later."""
        self.facts |= facts
        try:
            write_atomic(self.path, to_json(self.facts))
            self.waits = False
        except EnvironmentFault as fault:
            if not self.waits:
                say(f"{fault.where}: {fault.what}; what it holds is known until this ends")
            self.waits = True

    def settle(self) -> None:
        """Write what the disk has not taken yet."""
        if self.waits:
            self.keep()


@dataclass
class OnCron:
    """Due at the times of a cron line; times that were missed are one."""

    cron: Cron
    memory: Memory
    clock: Callable[[], datetime] = local_now
    due: datetime | None = None  # when that was found

    def look(self) -> str | None:
        """Why a retrain is due, or None."""
        now = self.clock()
        told = self.memory.facts.get("cron_seen")
        seen = datetime.fromisoformat(told) if told else None
        if seen is None or seen.astimezone(UTC) > now.astimezone(
            UTC
        ):  # the first look of all; or somebody has set the clock back
            self.memory.keep(cron_seen=now.isoformat())
            return None
        due = self.cron.after(seen.astimezone(now.tzinfo))
        # Within one zone Python compares the wall clock alone, and an hour of it may stand twice.
        if due.astimezone(UTC) > now.astimezone(UTC):
            return None
        self.due = now
        return f"cron {self.cron.line}"

    def taken(self) -> None:
        """A retrain for it has ended; times that came meanwhile are still due."""
        self.memory.keep(cron_seen=(self.due or self.clock()).isoformat())


@dataclass
class OnNewData:
    """Due when data, code or params are others than at the last retrain, and have been the same for two looks: nobody is writing them any more. What never rests is due all the same."""

    memory: Memory
    digest: Callable[[], str | None]  # of what is new; None if nothing is
    atomic: Callable[[], bool] = lambda: (
        False
    )  # whether there is nothing to wait for: it comes whole
    before: str | None = None
    restless: int = 0  # looks in a row that found something else

    def look(self) -> str | None:
        """Why a retrain is due, or None."""
        return "new data" if self.settled() else None

    def settled(self) -> bool:
        """Whether what is new was the same at the look before, or will not be, and has not been tried."""
        found = self.digest()
        same, self.before = found == self.before, found
        self.restless = 0 if same or found is None else self.restless + 1
        return found not in (None, self.memory.facts.get("tried")) and (
            same or self.restless >= _RESTLESS or self.atomic()
        )

    def taken(self) -> None:
        """A retrain for it has ended, however."""
        self.restless = 0
        self.memory.keep(tried=self.before or "")


@dataclass
class OnDrift:
    """Due when there is an alarm about the champion, and something new. It counts until a retrain has ended, and after that while the drift stands: what is accepted later is tried, too, once."""

    news: OnNewData
    folder: Path  # of the pipeline's state: drift.json, monitor/latest.json
    champion: Callable[[], int | None]
    advice: Callable[[], str]  # what to do where there is nothing new
    seen: str | None = None  # when the alarm was raised for which a retrain is due

    def look(self) -> str | None:
        """Why a retrain is due, or None; says once, and once more after each attempt, that there is nothing to learn from."""
        alarm = read(self.folder / "drift.json")
        self.seen, memory = str(alarm.get("when")), self.news.memory
        if (
            not alarm
            or alarm.get("version") != self.champion()
            or (self.seen == memory.facts.get("drift") and not self._stands(alarm))
        ):
            return None
        due, fields = (
            self.news.settled(),
            ", ".join(map(str, alarm.get("fields", []))) or "the data",
        )
        about = f"version {alarm.get('version')} after {memory.facts.get('tried') or 'nothing'}"
        if self.news.before is None and memory.facts.get("told") != about:
            say(f"drift of {fields}, and nothing new to learn from: {self.advice()}")
            memory.keep(told=about)
        return f"drift of {fields}, and new data" if due else None

    def taken(self) -> None:
        """A retrain for it has ended, however."""
        self.news.taken()
        self.news.memory.keep(drift=self.seen or "")

    def _stands(self, alarm: Mapping[str, Any]) -> bool:
        """Whether the latest window had drifted, as `gristmill monitor` says by its exit code."""
        latest = read(self.folder / "monitor" / "latest.json")
        return latest.get("version") == alarm.get("version") and any(
            latest.get(kind, {}).get("drift") for kind in ("inputs", "accuracy")
        )


def read(path: Path) -> dict[str, Any]:
    """A file of facts; none where it is missing or half written."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def run_scheduler(root: Path, name: str, every: float, cron: Cron | None, on_drift: bool) -> None:
    """Look again and again until SIGTERM or Ctrl-C, which also stop a retrain under way.

    Args:
        root: of the project.
        name: of the pipeline.
        every: seconds between looks.
        cron: the times; None: when the data are new.
        on_drift: when they are new and there is an alarm of drift.

    Raises:
        EnvironmentFault: another scheduler of this pipeline.
    """
    ledger = RetrainLog(root, name)
    with only_one(ledger.folder / "schedule.lock", f"a scheduler of pipeline {name}"):
        memory = Memory(ledger.folder / "schedule.json")
        news = OnNewData(memory, lambda: fresh(root, name), lambda: pulled(root, name))
        rule: OnCron | OnNewData | OnDrift = (
            OnCron(cron, memory) if cron else _on_drift(root, name, news) if on_drift else news
        )
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        until = f"; next at {cron.after(local_now()):%Y-%m-%d %H:%M %Z}" if cron else ""
        print_line(f"watching {name}{until}; Ctrl-C ends it")
        rest = 0.0
        while not stop.wait(rest):
            rest = every
            memory.settle()
            try:
                why = rule.look()
            except GristmillError as error:  # the source is away, say; retrain itself records what is wrong when it is due
                say(f"cannot look: {error.where}: {error.what}")
                continue
            if why:
                say(f"retrain of {name}: {why}")
                code = run(root, name, why, stop)
                say(f"retrain of {name} ended with exit code {code}")
                rest = max(every, _AGAIN_S) if code and not isinstance(rule, OnCron) else every
                if not stop.is_set() and (
                    isinstance(rule, OnCron) or code != EnvironmentFault.exit_code
                ):  # for a machine that was not able the data are not to blame
                    rule.taken()
        say("stopped")


def _on_drift(root: Path, name: str, news: OnNewData) -> OnDrift:
    def words() -> str:
        from components.orchestration.drift.drift_advice import (
            advice,  # its imports are for an hour that may never come
        )

        return advice(root, name)

    return OnDrift(news, root / "data" / ".state" / name, lambda: champion(root, name), words)


def run(root: Path, name: str, why: str, stop: threading.Event) -> int:
    """A retrain in a process of its own, told to stop when we are. Returns its exit code."""
    words = [sys.executable, "-m", "components.cli", "retrain", name, "--trigger", why]
    process = subprocess.Popen(
        words,
        cwd=root,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    told = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        if stop.is_set() and not told:
            told = True
            process.terminate()


def say(text: str) -> None:
    """A line with the time; where it goes may be full, or gone."""
    with suppress(OSError):
        print_line(f"{local_now():%Y-%m-%d %H:%M:%S} {text}")
        sys.stdout.flush()
