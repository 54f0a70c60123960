"""Runs: the stage's process shows the journal and mirrors it into MLflow while the stage works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.registry.store.tracking_store import unavailable
from components.registry.tracking.mirror import Mirror, Subject, read_events
from components.registry.tracking.outbox import catch_up, oldest, store_journal

Show = Callable[[Mapping[str, Any]], None]


class Tracker:
    """Follows a journal in two threads.

    One thread shows events at once. The other logs, and may be as slow as the store is. A stage
    that ends well before `defer` seconds have passed never opens the store, which takes longer than
    such a stage. The outbox takes its journal.
    """

    def __init__(
        self,
        subject: Subject,
        journal: Path,
        state_file: Path,
        show: Show,
        patience: float,
        defer: float = 0.0,
    ) -> None:
        self._mirror = Mirror(subject, journal, state_file)
        self._journal = journal
        self._show = show
        self._patience = patience
        self._defer = defer
        # what an earlier life of the stage wrote was shown then
        self._shown = journal.stat().st_size if journal.is_file() else 0
        self._opened = threading.Event()
        self._ending = threading.Event()
        self._needed = threading.Event()
        self._showing = threading.Lock()
        self._status = "FAILED"
        self._files = list[Path]()
        self._asked = False
        self._warned = False
        self._written = False
        self._refused = False
        self._shower = threading.Thread(target=self._keep_showing, daemon=True)
        self._logger = threading.Thread(target=self._keep_logging, daemon=True)

    def run_id(self, timeout: float = 30.0) -> str | None:
        """Return the id of the stage's MLflow run.

        Args:
            timeout: how long to wait, in seconds.

        Returns:
            None if the store does not answer in time.
        """
        self._asked = True
        self._needed.set()
        deadline = time.monotonic() + timeout
        while not self._opened.wait(0.2):
            if not self._logger.is_alive() or time.monotonic() > deadline:
                return None
        return self._mirror.run

    def log_files(self, *paths: Path) -> None:
        """Attach small files to the stage's run.

        They must still be there when the context ends.
        """
        self._files += paths

    def start(self) -> None:
        """Begin to follow the journal."""
        self._shower.start()
        self._logger.start()

    def finish(self, status: str) -> None:
        """Show and log the rest, and set the status, in `patience` seconds at most.

        What the store did not receive goes to the outbox.

        Args:
            status: of the stage's run.
        """
        self._status = status
        self._ending.set()
        self._needed.set()
        self._shower.join()
        self._logger.join(self._patience)
        if self._logger.is_alive():
            self._mirror.abandoned = True
            self._warn("it did not answer in time")
        # a failed stage keeps its folder, and goes on with it
        if status == "FINISHED" and not self._written and not self._refused:
            try:
                store_journal(self._mirror, status, self._files)
            except OSError as error:
                self._notify({"kind": "say", "text": f"curves are lost: {error.strerror}"})

    def _keep_showing(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(0.2)
            more = True
            while more:
                events, end = read_events(self._journal, self._shown)
                more = end > self._shown
                self._shown = end
                for event in events:
                    if event.get("kind") in ("progress", "say"):
                        self._notify(event)

    def _keep_logging(self) -> None:
        """Log until the stage ends.

        Results never depend on MLflow: what it refuses is answered by a warning and, if that may
        help, by another try. One try comes after the end.
        """
        self._needed.wait(self._defer)
        if self._defer and self._ending.is_set() and self._status == "FINISHED" and not self._asked:
            return
        last = False
        while not last and not self._mirror.abandoned:
            last = self._ending.is_set()
            pause = 1.0
            try:
                self._log(last)
            except Exception as error:
                self._warn(f"{type(error).__name__}: {error}")
                if not unavailable(error):
                    self._refused = True
                    return
                pause = 5.0
            self._ending.wait(pause)

    def _log(self, last: bool) -> None:
        subject = self._mirror.subject
        if not self._opened.is_set():
            self._mirror.open(oldest(subject.root, subject.token))
            self._opened.set()
        while self._mirror.absorb():
            pass
        if self._defer and catch_up(subject.root):
            self._mirror.go_on()
        if last:
            for path in self._files:
                self._mirror.attach(path)
            # before the pipeline's run gets this stage's status
            catch_up(subject.root)
            self._mirror.close(self._status)
            self._written = True

    def _warn(self, reason: str) -> None:
        if self._warned:
            return
        self._warned = True
        first_line = reason.splitlines()[0][:300]
        text = f"MLflow: {first_line}. The stage goes on; what is missing there is written later."
        self._notify({"kind": "warning", "text": text})

    def _notify(self, event: Mapping[str, Any]) -> None:
        with self._showing:
            self._show(event)


@contextmanager
def track(
    root: Path,
    pipeline: str,
    stage: str,
    run_token: str,
    journal_path: Path,
    state_file: Path,
    *,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    show: Show,
    patience: float = 30.0,
    defer: float = 0.0,
) -> Iterator[Tracker]:
    """Mirror a stage's journal into MLflow while the body runs.

    No failure of MLflow reaches the body. The stage's run is a child of the pipeline run with this
    token. A killed stage that is begun again continues its run and keeps its parent, which the new
    token then names too.

    Args:
        root: the project.
        pipeline: names the experiment.
        stage: names the run.
        run_token: the same for all stages of one pipeline run.
        journal_path: of the journal that the stage writes.
        state_file: beside the journal in the stage's state folder, deleted with it when the stage
            is done.
        tags: for the run (git commit, hashes of DVC).
        params: that the run was made with.
        show: called from a thread with the journal's events of kind "progress" and "say", and with
            {"kind": "warning", "text"} at most once.
        patience: seconds to wait at the end for a store that does not answer.
        defer: seconds in which a stage that ends well leaves its journal to the outbox instead. A
            caller that sets it calls `catch_up` in the end.
    """
    tracker = Tracker(
        Subject(root, pipeline, stage, run_token, tags, params),
        journal_path,
        state_file,
        show,
        patience,
        defer,
    )
    tracker.start()
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)
