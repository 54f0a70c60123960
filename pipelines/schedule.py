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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from components.core.errors import EnvironmentFault, GristmillError
from components.core.files import to_json, write_atomic
from pipelines.cron import Cron
from pipelines.ledger import Ledger
from pipelines.lock import only_one
from pipelines.processes import end_with_parent
from pipelines.retrain import fresh

_AGAIN_S = 600.0  # after the machine was not able, for which the data are not to blame
Look = Callable[[], str | None]


def local_now() -> datetime:
    """The wall clock."""
    return datetime.now().astimezone()


@dataclass
class Memory:
    """What a scheduler must still know when it is started again."""

    path: Path
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with suppress(OSError, ValueError):
            self.facts = json.loads(self.path.read_text(encoding="utf-8"))

    def keep(self, **facts: str) -> None:
        """Write down, on the disk too."""
        self.facts |= facts
        write_atomic(self.path, to_json(self.facts))


@dataclass
class At:
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
        if seen is None or seen > now:  # the first look of all; or somebody has set the clock back
            self.memory.keep(cron_seen=now.isoformat())
            return None
        if self.cron.after(seen.astimezone(now.tzinfo)) > now:
            return None
        self.due = now
        return f"cron {self.cron.line}"

    def taken(self) -> None:
        """A retrain for it has ended; times that came meanwhile are still due."""
        self.memory.keep(cron_seen=(self.due or self.clock()).isoformat())


@dataclass
class OnNews:
    """Due when data, code or params are others than at the last retrain, and have been the same for two looks: nobody is writing them any more."""

    memory: Memory
    digest: Callable[[], str | None]  # of what is new; None if nothing is
    drift: Path | None = None  # an alert without which nothing is due
    before: str | None = None

    def look(self) -> str | None:
        """Why a retrain is due, or None."""
        alert = self._alert()
        if self.drift and (alert is None or str(alert.get("when")) == self.memory.facts.get("drift")):
            return None
        found = self.digest()
        settled, self.before = found == self.before, found
        if found is None or not settled or found == self.memory.facts.get("tried"):
            return None
        return f"drift of {', '.join(map(str, alert.get('fields', []))) or 'the data'}, and new data" if alert else "new data"

    def taken(self) -> None:
        """A retrain for it has ended, however."""
        alert = self._alert()
        self.memory.keep(tried=self.before or "", **({"drift": str(alert.get("when"))} if alert else {}))

    def _alert(self) -> dict[str, Any] | None:
        if self.drift is not None:
            with suppress(OSError, ValueError):
                found = json.loads(self.drift.read_text(encoding="utf-8"))
                return found if isinstance(found, dict) else None
        return None


def keep_watch(root: Path, name: str, every: float, cron: Cron | None, on_drift: bool) -> None:
    """Look again and again until SIGTERM or Ctrl-C, which also stop a retrain under way.

    Args:
        root: of the project.
        name: of the pipeline.
        every: seconds between looks.
        cron: the times; None: when the data are new.
        on_drift: and an alert of drift is there.

    Raises:
        EnvironmentFault: another scheduler of this pipeline.
    """
    ledger = Ledger(root, name)
    with only_one(ledger.folder / "schedule.lock", f"a scheduler of pipeline {name}"):
        memory = Memory(ledger.folder / "schedule.json")
        alert = root / "data" / ".state" / name / "drift.json" if on_drift else None
        rule: At | OnNews = At(cron, memory) if cron else OnNews(memory, lambda: fresh(root, name), alert)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        until = f"; next at {cron.after(local_now()):%Y-%m-%d %H:%M %Z}" if cron else ""
        typer.echo(f"watching {name}{until}; Ctrl-C ends it")
        rest = 0.0
        while not stop.wait(rest):
            rest = every
            try:
                why = rule.look()
            except GristmillError as error:  # the source is away, say; retrain itself records what is wrong when it is due
                say(f"cannot look: {error.where}: {error.what}")
                continue
            if why:
                say(f"retrain of {name}: {why}")
                code = run(root, name, why, stop)
                say(f"retrain of {name} ended with exit code {code}")
                if code == EnvironmentFault.exit_code and isinstance(rule, OnNews):
                    rest = max(every, _AGAIN_S)
                elif not stop.is_set():
                    rule.taken()
        say("stopped")


def run(root: Path, name: str, why: str, stop: threading.Event) -> int:
    """A retrain in a process of its own, told to stop when we are. Returns its exit code."""
    words = [sys.executable, "-m", "pipelines.cli", "retrain", name, "--trigger", why]
    process = subprocess.Popen(words, cwd=root, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_parent)
    told = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
        if stop.is_set() and not told:
            told = True
            process.terminate()


def say(text: str) -> None:
    """A line with the time."""
    typer.echo(f"{local_now():%Y-%m-%d %H:%M:%S} {text}")
    sys.stdout.flush()
