"""A service of paper with the real follower, the real copies and the real child process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.bundles import CARD, Card, write_bundle
from components.core.files import sha256
from components.orchestration.processes import wait_until
from components.orchestration.service.registry_watch import Home
from components.orchestration.service.version_files_process import _scratch
from components.registry.versions.model_versions import BUNDLE, Version
from components.serving.params import ServeParams
from components.serving.rollout import version_files
from components.serving.rollout.controller import RolloutController
from components.serving.rollout.plan import ServedVersion

HASH = "ab" * 32
WEIGHTS = "weights.safetensors"


def register(root: Path, number: int, tags: Mapping[str, str] | None = None) -> Version:
    """Lay a bundle down where the registry would, without the three seconds of MLflow."""
    draft = root / "drafts" / str(number)
    card = Card(
        "task", "numpy", "linear", {}, {"classes": ["a"]}, number, HASH, "cd" * 32, ["train"]
    )
    write_bundle(draft, card, {WEIGHTS: b"\1" * 64, "encoder/words.json": b"{}"})
    return adopt(root, draft, number, tags)


def adopt(root: Path, draft: Path, number: int, tags: Mapping[str, str] | None = None) -> Version:
    """Register a folder as it is, with the hash of whatever card it has."""
    digest = sha256(draft / CARD)
    source = root / "mlflow" / "artifacts" / str(number) / "bundles" / digest[:12]
    source.parent.mkdir(parents=True)
    draft.rename(source)
    known = {BUNDLE: digest, "examples": '[{"text": "good"}]', **(tags or {})}
    return Version("default", number, known, str(source), "run", ())


def with_card(root: Path, number: int, content: bytes) -> Version:
    """Register a bundle whose card was exchanged, so that only its content is wrong."""
    draft = root / "drafts" / str(number)
    draft.mkdir(parents=True)
    (draft / WEIGHTS).write_bytes(b"\1" * 64)
    (draft / CARD).write_bytes(content)
    return adopt(root, draft, number)


def card_with(**changes: Any) -> bytes:
    """Return the bytes of a good card with some values exchanged."""
    facts = {
        "task": "task",
        "runtime": "numpy",
        "architecture": "linear",
        "config": {},
        "classes": ["a"],
        "seed": 1,
        "data_hash": HASH,
        "params_hash": "cd" * 32,
        "origin": ["train"],
        "profile": {},
        "versions": {},
        "format": 1,
        "files": {WEIGHTS: hashlib.sha256(b"\1" * 64).hexdigest()},
    }
    return json.dumps(facts | changes).encode()


class Direct(Home):
    """Prepares in this process, by what the child runs."""

    def prepare(self, version: Version, *, preflight: bool = True) -> ServedVersion | None:
        """Do at once what a preparation does in a thread and a child."""
        try:
            with _scratch(self.folder) as part:
                return version_files.prepare(self.root, version, self.folder, Path(part))
        except Exception as error:
            raise version_files.as_fault(error) from None


class Scene:
    """Version 1 in service, and a follower of the registry; time passes when it is told to."""

    def __init__(self, root: Path, kind: type[Home] = Home) -> None:
        self.root, self.said, self.now = root, list[str](), 0.0
        self.home = kind(root, "default", ServeParams())
        first = Direct(root, "default", ServeParams())
        self.first = first.wait_for(register(root, 1), preflight=False)
        self.home.persist(self.first)
        self.follower = self.restart()

    def restart(self) -> RolloutController:
        """Begin to follow anew with the version in service."""
        params = self.home.params.canary
        return RolloutController(self.first, self.home, params, self.said.append, lambda: self.now)

    def offer(self, version: Version, seconds: float = 60) -> None:
        """Name a version champion, until it is decided what becomes of it."""

        def is_decided() -> bool:
            self.now += 0.1
            self.follower.step(version)
            return bool(self.home._notes) or self.follower.busy

        assert wait_until(is_decided, seconds), "neither loaded nor refused"

    def offer_good(self) -> None:
        """Name a version that has no fault: it must be taken up."""
        self.home._notes.clear()
        self.offer(register(self.root, 3))
        assert self.served == ("1", "3")

    @property
    def served(self) -> tuple[str, str | None]:
        """The version in service, and the one that is on its way."""
        plan = self.follower.plan
        return plan.stable.version, plan.canary and plan.canary.version

    def notes(self) -> list[dict[str, str]]:
        """What is to be written on versions."""
        return [json.loads(text) | {"version": number} for number, text in self.home._notes]


def tree(folder: Path, besides: Path) -> dict[str, tuple[int, int]]:
    """Return mode and time of change of all that lies in a folder, but not in another one."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_relative_to(besides):
            state = path.lstat()
            found[str(path)] = (state.st_mode, state.st_mtime_ns)
    return found


def untouched(edition: ServedVersion) -> None:
    """Nothing to try a copy out with."""
