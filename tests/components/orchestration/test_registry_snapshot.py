"""The look of a running service into a registry in which anything may stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault, InputError
from components.orchestration.service import registry_watch
from components.orchestration.service.registry_watch import Home, Registry
from components.registry.release.gates import GateParams, gate_rules
from components.registry.release.release_log import PLACE
from components.registry.versions.model_versions import Version
from components.registry.versions.reader import RegistrySnapshot
from components.serving.params import ServeParams


class Client:
    """Keeps tags as MLflow does, which refuses some."""

    def __init__(self) -> None:
        self.tags: list[tuple[str, str]] = []
        self.faults: list[Exception] = []

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.tags.append((version, value))


class FakeRegistry:
    """A registry that answers as it is told."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said, self.client = list[str](), Client()
        self.decided: list[str] = []
        self.asks: Callable[[], list[object]] = list
        self.champion: Callable[[], Version | None] = lambda: Version("default", 1, {}, "", "", ())
        monkeypatch.setattr(registry_watch, "apply_mlflow_requests", lambda *_: self.asks())
        monkeypatch.setattr(registry_watch, "read_snapshot", lambda *_: self.shelf())
        monkeypatch.setattr(registry_watch, "client", lambda _: self.client)
        monkeypatch.setattr("threading.Thread.start", lambda _: None)
        self.home = Home(root, "default", ServeParams())
        self.registry = Registry(
            self.home, gate_rules("text_classification", GateParams()), self.said.append
        )

    def shelf(self) -> RegistrySnapshot | None:
        """Return what the registry says, with as many releases as `decided` holds."""
        leading = self.champion()
        if leading is None:
            return None
        records = {f"{PLACE}{number}": text for number, text in enumerate(self.decided)}
        return RegistrySnapshot("default", {}, {"champion": leading.number}, [leading], records)


@pytest.fixture
def looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    return FakeRegistry(tmp_path, monkeypatch)


def raising(error: Exception) -> Callable[[], None]:
    """Make something that fails."""

    def fail() -> None:
        raise error

    return fail


FAULTS = [ValueError("no JSON"), KeyError("gates"), RecursionError("deep"), InputError("no such")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_request_that_cannot_be_read_does_not_hide_the_champion(
    looking: FakeRegistry, fault: Exception
) -> None:
    looking.asks = raising(fault)  # type: ignore[assignment]
    for _ in range(3):
        looking.registry.read_snapshot()
    assert looking.registry.leading is not None and looking.registry.leading.number == 1
    assert len(looking.said) == 1 and "cannot be read" in looking.said[0]
    looking.asks = list
    looking.registry.read_snapshot()
    assert looking.said[1:] == ["the registry answers again"]


@pytest.mark.parametrize(
    "fault", [*FAULTS, EnvironmentFault("away")], ids=lambda f: type(f).__name__
)
def test_a_champion_that_cannot_be_read_leaves_the_last_one(
    looking: FakeRegistry, fault: Exception
) -> None:
    looking.registry.read_snapshot()
    looking.champion = raising(fault)  # type: ignore[assignment]
    for _ in range(3):
        looking.registry.read_snapshot()
    assert looking.registry.leading is not None and looking.registry.leading.number == 1
    assert len(looking.said) == 1 and "what is served goes on" in looking.said[0]


def test_releases_and_rollbacks_are_counted_and_nothing_else(looking: FakeRegistry) -> None:
    def decision(kind: str) -> str:
        facts = {"version": 1, "before": None, "gates": [], "mode": "auto"}
        return json.dumps({**facts, "decision": kind, "who": "w", "why": "w", "when": "2026"})

    looking.registry.read_snapshot()
    assert looking.registry.releases == 0
    looking.decided = [decision("promoted"), decision("refused"), "no JSON"]
    looking.registry.read_snapshot()
    assert looking.registry.releases == 1
    looking.decided.append(decision("rolled back"))
    looking.registry.read_snapshot()
    assert looking.registry.releases == 2


def test_a_registry_that_is_away_is_said_once_though_every_step_meets_it(
    looking: FakeRegistry,
) -> None:
    away = raising(EnvironmentFault("MLflow does not answer"))
    looking.asks = looking.champion = away  # type: ignore[assignment]
    looking.registry.read_snapshot()
    assert looking.said == [
        "the registry does not answer, what is served goes on: MLflow does not answer"
    ]


def test_a_note_that_is_refused_does_not_hold_up_the_others(looking: FakeRegistry) -> None:
    looking.client.faults = [ValueError("no such version")]
    looking.home.record("1", "refused", "a\0b\ud800" + "x" * 100_000)
    looking.home.record("2", "serving", "well")
    looking.registry.read_snapshot()
    looking.registry.read_snapshot()
    assert [version for version, _ in looking.client.tags] == ["2"]


def test_a_note_waits_for_a_registry_that_is_away(looking: FakeRegistry) -> None:
    looking.client.faults = [EnvironmentFault("away"), EnvironmentFault("away")]
    looking.home.record("1", "refused", "a\0b\ud800" + "x" * 100_000)
    for _ in range(3):
        looking.registry.read_snapshot()
    ((version, text),) = looking.client.tags
    text.encode("utf-8")
    assert version == "1" and "\0" not in text and len(json.loads(text)["why"]) <= 1000


def test_an_error_in_following_is_no_end(looking: FakeRegistry) -> None:
    class Broken:
        def step(self, wanted: Version | None, releases: int | None) -> None:
            raise RuntimeError("of a kind that nobody thought of")

    told = registry_watch._step(Broken(), looking.registry)  # type: ignore[arg-type]
    assert told == "RuntimeError: of a kind that nobody thought of"
