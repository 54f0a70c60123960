"""The service of one pipeline beside its registry: who is champion, whose files, and where it is written down what became of them."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from components.core.bundles import CARD, read_bundle
from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.files import sha256, write_atomic
from components.registry.gates import GateParams
from components.registry.review import pick_up
from components.registry.store import client, reached
from components.registry.versions import BUNDLE, Version, champion, fetch
from components.serve.ask import healthy
from components.serve.board import Board
from components.serve.follow import Follower
from components.serve.params import ServeParams
from components.serve.plan import Edition, Plan, Report
from components.serve.stage import info
from components.serve.trial import try_out

_BUSY_S = 0.5


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
        self._home, self._limits, self._say, self._trouble = home, limits, say, ""
        threading.Thread(target=self._run, name="registry", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._look()
            except EnvironmentFault as fault:
                self._troubled(
                    f"the registry does not answer, what is served goes on: {fault.what}"
                )
            except GristmillError as error:
                self._troubled(str(error))
            else:
                self._troubled("")
            time.sleep(self._home.params.poll_s)

    def _look(self) -> None:
        for made in pick_up(self._home.root, self._home.pipeline, self._limits):
            self._say(f"version {made.version}: {made.decision}, by {made.who}: {made.why}")
        self.leading = champion(self._home.root, self._home.pipeline) or self.leading
        self._home.write_notes()

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
        self.board = Board(self.folder / "board")
        self._notes: deque[tuple[str, str]] = deque()

    def prepare(self, version: Version) -> Edition:
        """See `components.serve.follow.Service`."""
        wanted = version.tags.get(BUNDLE, "")
        copy = self.folder / f"{version.number}-{wanted[:12]}"
        if not (copy / CARD).is_file():
            with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
                part = copy.with_name(f".{copy.name}.part")
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(
                    fetch(self.root, self.pipeline, version.number, Path(scratch)), part
                )
                shutil.rmtree(copy, ignore_errors=True)
                part.rename(copy)
        try:
            if sha256(copy / CARD) != wanted:
                raise InputError(
                    f"its {CARD} is not the one that was registered: the SHA-256 differs",
                    where=version.source,
                    remedy="take another version: gristmill status",
                )
            read_bundle(copy)
        except InputError:
            shutil.rmtree(copy)  # the next time it is fetched anew
            raise
        return Edition(
            bundle=copy,
            model=info(
                self.pipeline, version.number, copy, json.loads(version.tags.get("examples", "[]"))
            ),
        )

    def try_out(self, edition: Edition) -> None:
        """See `components.serve.follow.Service`."""
        try_out(edition, self.params.canary.latency_ms)

    def tell(self, plan: Plan) -> Sequence[Report]:
        """See `components.serve.follow.Service`."""
        with suppress(OSError, EnvironmentFault):  # a full disk delays a release
            self.board.post(plan)
        return self.board.reports()

    def keep(self, edition: Edition) -> None:
        """See `components.serve.follow.Service`; copies of other versions go."""
        write_atomic(self.proven, edition.model_dump_json())
        for other in self.folder.iterdir():
            if other.is_dir() and other not in (edition.bundle, self.board.folder):
                shutil.rmtree(other, ignore_errors=True)

    def last(self) -> Edition | None:
        """What was kept last, if anything."""
        try:
            return Edition.model_validate_json(self.proven.read_bytes())
        except (OSError, ValueError):
            return None

    def record(self, version: str, state: str, why: str) -> None:
        """See `components.serve.follow.Service`: kept until the registry answers."""
        told = {"state": state, "why": why, "when": datetime.now(UTC).isoformat(timespec="seconds")}
        self._notes.append((version, json.dumps(told, ensure_ascii=False)))

    def write_notes(self) -> None:
        """Tag versions with what became of them.

        Raises:
            EnvironmentFault: the registry does not answer.
        """
        while self._notes:
            with reached(self.root):
                client(self.root).set_model_version_tag(
                    self.pipeline, self._notes[0][0], "service", self._notes[0][1]
                )
            self._notes.popleft()


def begin(
    home: Home, leading: Version | None, start: Callable[[Edition], str], say: Callable[[str], None]
) -> tuple[Edition, str | None, str]:
    """Put the champion up; what was served last, if that is not to be had.

    Args:
        leading: None: the registry does not answer.
        start: puts an edition up and returns its URL.

    Returns:
        What is served, the version that was refused for it, the URL.

    Raises:
        InputError, EnvironmentFault: neither can be served.
    """
    known = home.last()
    home.board.clear()
    try:
        if leading is None:
            raise EnvironmentFault(
                "the registry does not answer", where=home.pipeline, remedy="gristmill doctor"
            )
        first, refused = home.prepare(leading), None
        home.board.post(Plan(stable=first))
        url = start(first)
    except GristmillError as error:
        if known is None or (leading and known.version == str(leading.number)):
            raise
        say(
            f"version {known.version} is served, as before, for the champion is not to be had: {error.what}"
        )
        first, refused = (
            known,
            str(leading.number) if leading and isinstance(error, InputError) else None,
        )
        home.board.post(Plan(stable=first))
        url = start(first)
    home.keep(first)
    return first, refused, url


def lead(
    home: Home,
    first: Edition,
    refused: str | None,
    url: str,
    limits: GateParams,
    say: Callable[[str], None],
) -> None:
    """Follow the champion until this process is told to stop."""
    registry = Registry(home, limits, say)
    follower = Follower(first, home, home.params.canary, say)
    follower.refused = refused
    up = True
    while True:
        follower.tick(registry.leading)
        answers = healthy(url) is not None
        if answers != up:
            say(
                f"{url} answers again"
                if answers
                else f"nothing answers at {url}: Ray Serve starts its proxy or replicas anew"
            )
        up = answers
        time.sleep(_BUSY_S if follower.busy or not up else min(1.0, home.params.poll_s))
