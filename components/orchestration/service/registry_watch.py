"""The service of one pipeline and its registry.

The service finds the champion in the registry, copies its files, and records there which versions
it serves.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.files import remove_tree, write_atomic
from components.orchestration.service.version_files_process import Preparation
from components.registry.release.gates import GateRules
from components.registry.release.mlflow_requests import apply_mlflow_requests
from components.registry.release.release_log import MOVES, records
from components.registry.store.tracking_store import client, reached
from components.registry.validation import storable
from components.registry.versions.model_versions import BUNDLE, Version
from components.registry.versions.reader import read_snapshot
from components.serving.http.client import healthy
from components.serving.params import ServeParams
from components.serving.rollout import version_files
from components.serving.rollout.controller import RolloutController, describe
from components.serving.rollout.plan import Report, RolloutPlan, ServedVersion
from components.serving.rollout.plan_files import PlanFiles
from components.serving.rollout.preflight import run_preflight

_BUSY_S = 0.5
_START_S = 60.0
_PREPARE_S = 1800.0
_COPY = re.compile(r"\d+-[0-9a-f]{12}")


class Registry:
    """Reads the registry in a thread, so that the watch over a release goes on without it.

    It turns the requests of people there into releases, finds the champion, and records the state
    of versions.

    Args:
        home: of the service.
        rules: that an approval must pass.
        log: prints one line.
    """

    def __init__(self, home: Home, rules: GateRules, log: Callable[[str], None]) -> None:
        self.leading: Version | None = None
        # The number of the pipeline's releases and rollbacks in the registry.
        self.releases: int | None = None
        self._home = home
        self._rules = rules
        self._log = log
        self._problem = ""
        threading.Thread(target=self._run, name="registry", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.read_snapshot()
            time.sleep(self._home.params.poll_s)

    def read_snapshot(self) -> None:
        """Read the registry once. A request that cannot be read does not hide the champion."""
        steps = (self._apply_requests, self._find_champion, self._home.write_notes)
        problems = [self._attempt(step) for step in steps]
        self._report("; ".join(dict.fromkeys(filter(None, problems))))

    def _attempt(self, step: Callable[[], None]) -> str:
        """Take a step. Return what went wrong, or an empty text."""
        try:
            step()
        except EnvironmentFault as fault:
            return f"the registry does not answer, what is served goes on: {fault.what}"
        except Exception as error:
            return f"the registry cannot be read, what is served goes on: {describe(error)}"
        return ""

    def _apply_requests(self) -> None:
        releases = apply_mlflow_requests(self._home.root, self._home.pipeline, self._rules)
        for release in releases:
            self._log(
                f"version {release.version}: {release.decision}, by {release.who}: {release.why}"
            )

    def _find_champion(self) -> None:
        snapshot = read_snapshot(self._home.root, self._home.pipeline)
        if snapshot is None or "champion" not in snapshot.aliases:
            return
        self.leading = snapshot.version(snapshot.aliases["champion"])
        self.releases = sum(release.decision in MOVES for release in records(snapshot))

    def _report(self, problem: str) -> None:
        """Print a problem when it begins and when it ends."""
        if problem != self._problem:
            self._log(problem or "the registry answers again")
        self._problem = problem


class Home:
    """Stores the files of a service in `data/.state/service/<pipeline>`.

    They are the service's copies of bundles, which do not depend on those of the registry, and the
    plan that replicas start with.

    Args:
        root: of the project.
        pipeline: the name of the application and of the registered model.
        params: section `serve`.
    """

    def __init__(self, root: Path, pipeline: str, params: ServeParams) -> None:
        self.root = root
        self.pipeline = pipeline
        self.params = params
        self.folder = root / "data" / ".state" / "service" / pipeline
        # The version that was served last, for the next start.
        self.proven = self.folder / "proven.json"
        self.plan_files = PlanFiles(self.folder / "board")
        self._notes: deque[tuple[str, str]] = deque()
        self._preparation: Preparation | None = None

    def prepare(self, version: Version, *, preflight: bool = True) -> ServedVersion | None:
        """Return the copy of a version, see `components.serving.rollout.controller.Service`.

        Args:
            version: as the registry has it.
            preflight: whether the copy answers test requests first.

        Returns:
            The copy. None: it is not ready yet.

        Raises:
            InputError: the version cannot be served.
            EnvironmentFault: it cannot be served now.
        """
        if self._preparation and not self._preparation.is_of(version):
            self._preparation.cancel()
            self._preparation = None
        if self._preparation is None:
            check = self._run_preflight if preflight else None
            self._preparation = Preparation(self.root, version, self.folder, check, _PREPARE_S)
        try:
            served = self._preparation.result()
        except GristmillError:
            self._preparation = None
            raise
        if served:
            self._preparation = None
        return served

    def wait_for(
        self, version: Version, *, preflight: bool, patience_s: float | None = None
    ) -> ServedVersion:
        """Prepare a version and return its copy.

        Args:
            version: as the registry has it.
            preflight: whether the copy answers test requests first.
            patience_s: the longest wait, in seconds; the preparation continues after it. None: as
                long as a preparation may take.

        Raises:
            InputError: the version cannot be served.
            EnvironmentFault: it cannot be served now, or was not ready in that time.
        """
        began = time.monotonic()
        while True:
            served = self.prepare(version, preflight=preflight)
            if served is not None:
                return served
            if patience_s is not None and time.monotonic() - began > patience_s:
                raise EnvironmentFault(
                    f"version {version.number} was not prepared within {patience_s:.0f} s"
                )
            time.sleep(0.05)

    def _run_preflight(self, served: ServedVersion) -> None:
        run_preflight(served, self.params.canary.latency_ms)

    def publish(self, plan: RolloutPlan) -> Sequence[Report]:
        """Write a plan for the replicas and return their latest reports.

        Args:
            plan: see `components.serving.rollout.controller.Service`.
        """
        self.post(plan)
        return self.plan_files.reports()

    def post(self, plan: RolloutPlan) -> None:
        """Write a plan for the replicas. With a full disk they get it later.

        Args:
            plan: what to serve.
        """
        with suppress(OSError, EnvironmentFault):
            self.plan_files.post(plan)

    def persist(self, edition: ServedVersion) -> None:
        """Record the version for the next start, and delete the copies of other versions.

        Args:
            edition: the version, see `components.serving.rollout.controller.Service`.

        Raises:
            EnvironmentFault: the disk is full.
        """
        write_atomic(self.proven, edition.model_dump_json())
        for other in self.folder.iterdir():
            if other.is_dir() and other not in (edition.bundle, self.plan_files.folder):
                remove_tree(other, within=self.folder)

    def last(self) -> ServedVersion | None:
        """Return the version that `keep` recorded, once its copy is verified.

        Only the name of its folder is read from the file, so that a project may be moved.

        Returns:
            The version. None: no version was recorded.

        Raises:
            InputError: the file or the copy was changed.
        """
        if not os.path.lexists(self.proven):
            return None
        try:
            return self._read_proven()
        except Exception as error:
            reason = describe(version_files.as_fault(error))
            raise InputError(
                f"the copy that was served last cannot be used: {reason}",
                where=str(self.proven),
                remedy=f"the next champion that is served replaces it; or remove {self.proven}",
            ) from None

    def _read_proven(self) -> ServedVersion:
        """Return the recorded version with the path of its copy, after a check of both."""
        if not self.proven.is_file():
            raise InputError("it is no regular file")
        served = ServedVersion.model_validate_json(self.proven.read_bytes())
        model = served.model
        name = served.bundle.name
        if model.name != self.pipeline or not _COPY.fullmatch(name):
            raise InputError(f"it is of {model.name!r}, copy {name!r}")
        copy = self.folder / name
        card = version_files.verify(copy, model.bundle)
        if not model.bundle or card.data_hash != model.data_hash:
            raise InputError("its data hash is not that of the copy", where=str(copy))
        return served.model_copy(update={"bundle": copy})

    def record(
        self, version: str, state: Literal["serving", "refused", "waiting"], why: str
    ) -> None:
        """Note the state of a version until the registry answers.

        Args:
            version: its number.
            state: what the service does with it.
            why: the reason.
        """
        when = datetime.now(UTC).isoformat(timespec="seconds")
        note = {"state": state, "why": storable(why), "when": when}
        self._notes.append((version, json.dumps(note, ensure_ascii=False)))

    def write_notes(self) -> None:
        """Tag the versions in the registry with their states.

        Raises:
            EnvironmentFault: the registry does not answer.
            Exception: the registry refuses a note, which is dropped.
        """
        while self._notes:
            number, text = self._notes[0]
            try:
                with reached(self.root):
                    client(self.root).set_model_version_tag(self.pipeline, number, "service", text)
            except EnvironmentFault:
                raise
            except Exception:
                self._notes.popleft()
                raise
            self._notes.popleft()


def begin(
    home: Home,
    leading: Version | None,
    start: Callable[[ServedVersion], str],
    log: Callable[[str], None],
) -> tuple[ServedVersion, str | None, str]:
    """Start to serve the champion, or the last version if the champion cannot be served.

    Args:
        home: of the service.
        leading: the champion. None: the registry does not answer.
        start: serves a version and returns its URL.
        log: prints one line.

    Returns:
        The version that is served, the number of the version that was refused, and the URL.

    Raises:
        InputError, EnvironmentFault: neither can be served.
    """
    last = _last(home, log)
    home.plan_files.clear()
    first = None
    refused = None
    try:
        first = _champion(home, leading, last)
        url = _start(home, first, start)
    except GristmillError as error:
        if last is None or first is last:
            raise
        reason = describe(error)
        log(f"version {last.version} is served, as before, not the champion: {reason}")
        first = last
        if leading:
            refused = _record_refusal(home, leading, error)
        url = _start(home, first, start)
    _keep(home, first, log)
    return first, refused, url


def _keep(home: Home, served: ServedVersion, log: Callable[[str], None]) -> None:
    try:
        home.persist(served)
    except (EnvironmentFault, OSError) as error:
        log(f"version {served.version} answers, but is not kept: {describe(error)}")


def _last(home: Home, log: Callable[[str], None]) -> ServedVersion | None:
    """Return the version that was served last. Print why it cannot be used any more."""
    try:
        return home.last()
    except InputError as error:
        log(str(error))
        return None


def _champion(home: Home, leading: Version | None, last: ServedVersion | None) -> ServedVersion:
    """Return the champion's copy. If another version can be served, the copy passes a preflight.

    Raises:
        InputError, EnvironmentFault: the champion cannot be served.
    """
    if leading is None:
        raise EnvironmentFault(
            "the registry does not say who it is",
            where=f"pipeline {home.pipeline}",
            remedy="gristmill doctor",
        )
    if last is None:
        return home.wait_for(leading, preflight=False)
    bundle = last.model.bundle
    same_bundle = leading.tags.get(BUNDLE, "")[: len(bundle)] == bundle
    if same_bundle and last.version == str(leading.number):
        return last
    return home.wait_for(leading, preflight=True, patience_s=_START_S)


def _record_refusal(home: Home, leading: Version, error: GristmillError) -> str | None:
    """Record why the champion is not served.

    Returns:
        Its number, if the service does not try it again.
    """
    number = str(leading.number)
    if isinstance(error, EnvironmentFault):
        home.record(number, "waiting", describe(error))
        return None
    home.record(number, "refused", describe(error))
    return number


def _start(home: Home, served: ServedVersion, start: Callable[[ServedVersion], str]) -> str:
    home.post(RolloutPlan(stable=served))
    return start(served)


def lead(
    home: Home,
    first: ServedVersion,
    refused: str | None,
    url: str,
    rules: GateRules,
    log: Callable[[str], None],
) -> None:
    """Follow the champion until this process is stopped.

    Args:
        home: of the service.
        first: the version that is served now.
        refused: the number of the version that was refused for it.
        url: of the service.
        rules: that an approval must pass.
        log: prints one line.
    """
    registry = Registry(home, rules, log)
    controller = RolloutController(first, home, home.params.canary, log)
    controller.refused = refused
    is_up = True
    problem = ""
    while True:
        before = problem
        problem = _step(controller, registry)
        if problem not in ("", before):
            log(f"what is served goes on, but the champion is not followed: {problem}")
        is_up = _check_health(url, is_up, log)
        pause = min(1.0, home.params.poll_s)
        if controller.busy or not is_up:
            pause = _BUSY_S
        time.sleep(pause)


def _check_health(url: str, was_up: bool, log: Callable[[str], None]) -> bool:
    """Return whether the service answers. Print a change."""
    is_up = healthy(url) is not None
    if is_up and not was_up:
        log(f"{url} answers again")
    elif was_up and not is_up:
        log(f"nothing answers at {url}: Ray Serve starts its proxy or replicas anew")
    return is_up


def _step(controller: RolloutController, registry: Registry) -> str:
    """Take a step of a release. Return what went wrong: no error here ends the service."""
    try:
        controller.step(registry.leading, registry.releases)
    except Exception as error:
        return describe(error)
    return ""
