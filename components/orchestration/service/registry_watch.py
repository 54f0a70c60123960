"""The service of one pipeline beside its registry: who is champion, whose files, and where it is written down what became of them."""

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
from components.orchestration.service.candidate_process import Preparation
from components.registry.release.gates import GateParams
from components.registry.release.mlflow_requests import apply_mlflow_requests
from components.registry.release.release_log import MOVES, records
from components.registry.store.tracking_store import client, reached
from components.registry.validation import storable
from components.registry.versions.model_versions import BUNDLE, Version
from components.registry.versions.reader import read_snapshot
from components.serving.http.client import healthy
from components.serving.params import ServeParams
from components.serving.rollout import candidate
from components.serving.rollout.controller import RolloutController, describe
from components.serving.rollout.plan import Report, RolloutPlan, ServedVersion
from components.serving.rollout.plan_files import PlanFiles
from components.serving.rollout.preflight import run_preflight

_BUSY_S = 0.5
_START_S = 60.0
_PREPARE_S = 1800.0
_COPY = re.compile(r"\d+-[0-9a-f]{12}")


class Registry:
    """Looks into the registry, in a thread, for one that is away must not stop the watch over a release: turns what people asked for there into releases, asks who
    is champion, and writes down what became of versions.

    Args:
        home: of the service.
        limits: what an approval must pass.
        say: one line for whoever watches.
    """

    def __init__(self, home: Home, limits: GateParams, say: Callable[[str], None]) -> None:
        self.leading: Version | None = None
        # of the pipeline's releases and rollbacks, as the registry records them
        self.releases: int | None = None
        self._home, self._limits, self._say, self._trouble = home, limits, say, ""
        threading.Thread(target=self._run, name="registry", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.look()
            time.sleep(self._home.params.poll_s)

    def look(self) -> None:
        """Look once. A request that cannot be read does not hide who is champion."""
        steps = (self._pick_up, self._find_champion, self._home.write_notes)
        troubles = [trouble for step in steps if (trouble := self._attempt(step))]
        self._troubled("; ".join(dict.fromkeys(troubles)))

    def _attempt(self, step: Callable[[], None]) -> str:
        """Take a step. Returns what went wrong."""
        try:
            step()
        except EnvironmentFault as fault:
            return f"the registry does not answer, what is served goes on: {fault.what}"
        except Exception as error:
            return f"the registry cannot be read, what is served goes on: {describe(error)}"
        return ""

    def _pick_up(self) -> None:
        for made in apply_mlflow_requests(self._home.root, self._home.pipeline, self._limits):
            self._say(f"version {made.version}: {made.decision}, by {made.who}: {made.why}")

    def _find_champion(self) -> None:
        shelf = read_snapshot(self._home.root, self._home.pipeline)
        if shelf is None or "champion" not in shelf.aliases:
            return
        self.leading = shelf.version(shelf.aliases["champion"])
        self.releases = sum(made.decision in MOVES for made in records(shelf))

    def _troubled(self, text: str) -> None:
        if text != self._trouble:
            self._say(text or "the registry answers again")
        self._trouble = text


class Home:
    """`data/.state/service/<pipeline>`: the service's own copies of bundles, whatever becomes of the registry's, and the plan that replicas start with.

    Args:
        root: of the project.
        pipeline: names application and registered model.
        params: section `serve`.
    """

    def __init__(self, root: Path, pipeline: str, params: ServeParams) -> None:
        self.root, self.pipeline, self.params = root, pipeline, params
        self.folder = root / "data" / ".state" / "service" / pipeline
        self.proven = self.folder / "proven.json"  # what was served last, for the next start
        self.board = PlanFiles(self.folder / "board")
        self._notes: deque[tuple[str, str]] = deque()
        self._preparation: Preparation | None = None

    def prepare(self, version: Version, *, preflight: bool = True) -> ServedVersion | None:
        """See `components.serving.rollout.controller.Service`.

        Args:
            version: as the registry has it.
            preflight: try it out, apart from all traffic.
        """
        if self._preparation and not self._preparation.is_of(version):
            self._preparation.cancel()
            self._preparation = None
        if self._preparation is None:
            tried = self._try_out if preflight else None
            self._preparation = Preparation(self.root, version, self.folder, tried, _PREPARE_S)
        try:
            edition = self._preparation.result()
        except GristmillError:
            self._preparation = None
            raise
        if edition:
            self._preparation = None
        return edition

    def wait_for(
        self, version: Version, *, preflight: bool, patience_s: float | None = None
    ) -> ServedVersion:
        """Prepare a version and wait until that is done.

        Args:
            version: as the registry has it.
            preflight: try it out.
            patience_s: None: as long as a preparation may take. It goes on behind that.

        Raises:
            InputError: it cannot be served.
            EnvironmentFault: not now, or not in that time.
        """
        began = time.monotonic()
        while (edition := self.prepare(version, preflight=preflight)) is None:
            if patience_s is not None and time.monotonic() - began > patience_s:
                raise EnvironmentFault(
                    f"version {version.number} was not prepared within {patience_s:.0f} s"
                )
            time.sleep(0.05)
        return edition

    def _try_out(self, edition: ServedVersion) -> None:
        run_preflight(edition, self.params.canary.latency_ms)

    def publish(self, plan: RolloutPlan) -> Sequence[Report]:
        """See `components.serving.rollout.controller.Service`."""
        self.post(plan)
        return self.board.reports()

    def post(self, plan: RolloutPlan) -> None:
        """Tell the replicas a plan; a full disk delays that."""
        with suppress(OSError, EnvironmentFault):
            self.board.post(plan)

    def persist(self, edition: ServedVersion) -> None:
        """See `components.serving.rollout.controller.Service`; copies of other versions go."""
        write_atomic(self.proven, edition.model_dump_json())
        for other in self.folder.iterdir():
            if other.is_dir() and other not in (edition.bundle, self.board.folder):
                remove_tree(other, within=self.folder)

    def last(self) -> ServedVersion | None:
        """Return what was kept last, once its copy is verified; None if nothing ever was.

        Only the name of its folder is taken from the file, so that a project may be moved.

        Raises:
            InputError: the file or the copy is not what was kept.
        """
        if not os.path.lexists(self.proven):
            return None
        try:
            if not self.proven.is_file():
                raise InputError("it is no regular file")
            edition = ServedVersion.model_validate_json(self.proven.read_bytes())
            model, name = edition.model, edition.bundle.name
            if model.name != self.pipeline or not _COPY.fullmatch(name):
                raise InputError(f"it is of {model.name!r}, copy {name!r}")
            copy = self.folder / name
            card = candidate.verify(copy, model.bundle)
            if not model.bundle or card.data_hash != model.data_hash:
                raise InputError("its data hash is not that of the copy", where=str(copy))
        except Exception as error:
            why = describe(candidate.as_fault(error))
            raise InputError(
                f"the copy that was served last cannot be used: {why}",
                where=str(self.proven),
                remedy=f"the next champion that is served replaces it; or remove {self.proven}",
            ) from None
        return edition.model_copy(update={"bundle": copy})

    def record(
        self, version: str, state: Literal["serving", "refused", "waiting"], why: str
    ) -> None:
        """See `components.serving.rollout.controller.Service`: kept until the registry answers."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        told = {"state": state, "why": storable(why), "when": when}
        self._notes.append((version, json.dumps(told, ensure_ascii=False)))

    def write_notes(self) -> None:
        """Tag versions with what became of them.

        Raises:
            EnvironmentFault: the registry does not answer.
            Exception: it refuses a note, which is dropped.
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
    say: Callable[[str], None],
) -> tuple[ServedVersion, str | None, str]:
    """Put the champion up; what was served last, if that is not to be had.

    Args:
        leading: None: the registry does not answer.
        start: puts an edition up and returns its URL.

    Returns:
        What is served, the version that was refused for it, the URL.

    Raises:
        InputError, EnvironmentFault: neither can be served.
    """
    known = _last(home, say)
    home.board.clear()
    first, refused = None, None
    try:
        first = _champion(home, leading, known)
        url = _start(home, first, start)
    except GristmillError as error:
        if known is None or first is known:
            raise
        why = describe(error)
        say(f"version {known.version} is served, as before, not the champion: {why}")
        first = known
        if leading:
            refused = _refused(home, leading, error)
        url = _start(home, first, start)
    try:
        home.persist(first)
    except (EnvironmentFault, OSError) as error:
        say(f"version {first.version} answers, but is not kept: {describe(error)}")
    return first, refused, url


def _last(home: Home, say: Callable[[str], None]) -> ServedVersion | None:
    """Return what was kept last; what is no longer usable is said and passed over."""
    try:
        return home.last()
    except InputError as error:
        say(str(error))
        return None


def _champion(home: Home, leading: Version | None, known: ServedVersion | None) -> ServedVersion:
    """Return the champion's copy; one that was never proven is tried out where there is another.

    Raises:
        InputError, EnvironmentFault: it cannot be had.
    """
    if leading is None:
        raise EnvironmentFault(
            "the registry does not say who it is",
            where=f"pipeline {home.pipeline}",
            remedy="gristmill doctor",
        )
    if known is None:
        return home.wait_for(leading, preflight=False)
    if (known.version, known.model.bundle) == (
        str(leading.number),
        leading.tags.get(BUNDLE, "")[: len(known.model.bundle)],
    ):
        return known
    return home.wait_for(leading, preflight=True, patience_s=_START_S)


def _refused(home: Home, leading: Version, error: GristmillError) -> str | None:
    """Write down why the champion is not served.

    Returns:
        Its number, if it is not to be tried again.
    """
    number = str(leading.number)
    if isinstance(error, EnvironmentFault):
        home.record(number, "waiting", describe(error))
        return None
    home.record(number, "refused", describe(error))
    return number


def _start(home: Home, edition: ServedVersion, start: Callable[[ServedVersion], str]) -> str:
    home.post(RolloutPlan(stable=edition))
    return start(edition)


def lead(
    home: Home,
    first: ServedVersion,
    refused: str | None,
    url: str,
    limits: GateParams,
    say: Callable[[str], None],
) -> None:
    """Follow the champion until this process is told to stop."""
    registry = Registry(home, limits, say)
    follower = RolloutController(first, home, home.params.canary, say)
    follower.refused = refused
    up, trouble = True, ""
    while True:
        before, trouble = trouble, _step(follower, registry)
        if trouble not in ("", before):
            say(f"what is served goes on, but the champion is not followed: {trouble}")
        answers = healthy(url) is not None
        if answers != up:
            say(
                f"{url} answers again"
                if answers
                else f"nothing answers at {url}: Ray Serve starts its proxy or replicas anew"
            )
        up = answers
        time.sleep(_BUSY_S if follower.busy or not up else min(1.0, home.params.poll_s))


def _step(follower: RolloutController, registry: Registry) -> str:
    """Take a step. Returns what went wrong: no mistake in following ends the service."""
    try:
        follower.step(registry.leading, registry.releases)
    except Exception as error:
        return describe(error)
    return ""
