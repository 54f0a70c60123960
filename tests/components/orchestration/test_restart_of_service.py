"""A service that starts again: with the champion, or with the copy that was served last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from candidate_scenario import WEIGHTS, Scene, register, untouched

from components.core.bundles import CARD
from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.orchestration.service import registry_watch
from components.orchestration.service.registry_watch import Home, begin
from components.registry.versions.model_versions import BUNDLE, Version
from components.serving.rollout.plan import ServedVersion


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(
        registry_watch, "run_preflight", lambda edition, latency_ms: untouched(edition)
    )
    return Scene(tmp_path / "project")


class Started:
    """Puts editions up, but not those of the versions in `fails`."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.tried = fails, list[str]()

    def __call__(self, edition: ServedVersion) -> str:
        self.tried.append(edition.version)
        assert (edition.bundle / CARD).is_file()
        if edition.version in self.fails:
            raise InputError("the model cannot be served: it is broken")
        return f"http://version-{edition.version}"


def again(scene: Scene, leading: Version | None, start: Started | None = None) -> tuple[str, ...]:
    """Start a service with new eyes; return what is served and what was refused for it."""
    scene.home = Home(scene.root, "default", scene.home.params)
    first, refused, url = begin(scene.home, leading, start or Started(), scene.said.append)
    assert url == f"http://version-{first.version}"
    told = scene.home.plan_files.plan()
    assert told is not None and told[0].stable == first
    return first.version, refused or ""


def test_the_champion_that_was_served_last_starts_from_its_copy(scene: Scene) -> None:
    version = replace(register(scene.root, 5), number=1)
    mine = replace(version, tags={BUNDLE: (scene.first.model.bundle + "0" * 52)}, source="/gone")
    assert again(scene, mine) == ("1", "") and scene.said == []


def test_another_champion_is_tried_out_and_served(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(
        registry_watch, "run_preflight", lambda edition, _: tried.append(edition.version)
    )
    assert again(scene, register(scene.root, 2)) == ("2", "")
    assert tried == ["2"]
    assert scene.home.last() is not None and scene.home.last().version == "2"


@pytest.mark.parametrize("number", [1, 2])
def test_a_champion_with_a_bad_tag_leaves_the_last_copy(scene: Scene, number: int) -> None:
    bad = replace(register(scene.root, 9), number=number)
    bad = replace(bad, tags=bad.tags | {BUNDLE: "/../../../.."})
    assert again(scene, bad) == ("1", str(number))
    assert len(scene.said) == 1 and "not a SHA-256" in scene.said[0]
    (note,) = scene.notes()
    assert (note["version"], note["state"]) == (str(number), "refused")
    assert scene.home.last() == scene.first


def test_a_champion_that_hangs_leaves_the_last_copy_and_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = scene.root / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text("import time; time.sleep(3)")
    monkeypatch.setenv("PYTHONPATH", str(slow))
    monkeypatch.setattr(registry_watch, "_START_S", 0.3)
    leading = register(scene.root, 2)
    assert again(scene, leading) == ("1", "")
    assert scene.notes()[0]["state"] == "waiting"
    # The same preparation goes on behind the start.
    under_way = scene.home._preparation
    assert under_way is not None and under_way.is_of(leading)
    assert scene.home.wait_for(leading, preflight=True).version == "2"


def test_a_champion_that_cannot_be_started_leaves_the_last_copy(scene: Scene) -> None:
    start = Started("2")
    assert again(scene, register(scene.root, 2), start) == ("1", "2")
    assert start.tried == ["2", "1"] and "it is broken" in scene.said[0]


def test_a_registry_that_is_away_leaves_the_last_copy(scene: Scene) -> None:
    assert again(scene, None) == ("1", "")
    assert "the registry does not say" in scene.said[0]


def test_a_copy_that_cannot_be_started_is_started_once(scene: Scene) -> None:
    start = Started("1")
    digest = scene.first.model.bundle + "0" * 52
    with pytest.raises(InputError, match="it is broken"):
        again(scene, Version("default", 1, {BUNDLE: digest}, "", "", ()), start)
    assert start.tried == ["1"]


def test_a_full_disk_does_not_keep_a_service_from_starting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise EnvironmentFault("cannot be written: No space left on device")

    monkeypatch.setattr("components.serving.rollout.plan_files.write_atomic", full)
    monkeypatch.setattr(registry_watch, "write_atomic", full)
    home = Home(scene.root, "default", scene.home.params)
    first, _, _ = begin(home, None, Started(), scene.said.append)
    assert first.version == "1" and "is not kept" in scene.said[-1]
    # An earlier plan must not be what the replicas begin with.
    assert home.plan_files.plan() is None


def edited(**changes: object) -> Callable[[Scene], None]:
    """Edit the file that names the copy."""

    def spoil(scene: Scene) -> None:
        facts = json.loads(scene.home.proven.read_text())
        model = facts["model"] | changes.pop("model", {})  # type: ignore[operator]
        scene.home.proven.write_text(json.dumps(facts | {"model": model} | changes))

    return spoil


def written(content: str) -> Callable[[Scene], None]:
    """Write something else into the file that names the copy."""
    return lambda scene: scene.home.proven.write_text(content) and None


def pipe(scene: Scene) -> None:
    scene.home.proven.unlink()
    os.mkfifo(scene.home.proven)


def copy_gone(scene: Scene) -> None:
    shutil.rmtree(scene.first.bundle)


def copy_altered(scene: Scene) -> None:
    (scene.first.bundle / WEIGHTS).write_bytes(b"x")


def copy_a_link(scene: Scene) -> None:
    aside = scene.root / "aside"
    scene.first.bundle.rename(aside)
    scene.first.bundle.mkdir()
    for path in aside.iterdir():
        (scene.first.bundle / path.name).symlink_to(path)


def copy_a_pipe(scene: Scene) -> None:
    (scene.first.bundle / CARD).unlink()
    os.mkfifo(scene.first.bundle / CARD)


SPOILED = {
    "truncated": written('{"bundle": "/x", "mod'),
    "empty": written(""),
    "nested": written("[" * 100_000),
    "of bytes": written("\0\1\2"),
    "a pipe": pipe,
    "of another pipeline": edited(model={"name": "digits"}),
    "of another bundle": edited(model={"bundle": "ab" * 6}),
    "of no bundle": edited(model={"bundle": ""}),
    "of other data": edited(model={"data_hash": "cd" * 32}),
    "a folder that climbs": edited(bundle="/x/.."),
    "a folder elsewhere": edited(bundle="/etc"),
    "a copy that is gone": copy_gone,
    "a copy that was altered": copy_altered,
    "a copy of links": copy_a_link,
    "a copy with a pipe": copy_a_pipe,
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_last_copy_that_cannot_be_used_is_said_and_the_champion_served(
    scene: Scene, name: str
) -> None:
    SPOILED[name](scene)
    assert again(scene, register(scene.root, 2)) == ("2", "")
    assert len(scene.said) == 1
    assert "proven.json" in scene.said[0] and "cannot be used" in scene.said[0]
    assert scene.home.last() is not None and scene.home.last().version == "2"


def test_neither_champion_nor_copy_is_an_error_with_both_reasons(scene: Scene) -> None:
    copy_altered(scene)
    bad = register(scene.root, 2, {"examples": "{"})
    with pytest.raises(GristmillError, match="tag examples"):
        again(scene, bad)
    assert "was altered" in scene.said[0]


def test_a_project_that_was_moved_starts_from_its_copy(scene: Scene, tmp_path: Path) -> None:
    scene.root.rename(tmp_path / "moved")
    scene.root = tmp_path / "moved"
    assert again(scene, None) == ("1", "")
    assert scene.home.last() is not None
    assert scene.home.last().bundle.is_relative_to(tmp_path / "moved")


def test_copies_of_other_versions_go_and_links_are_not_followed(scene: Scene) -> None:
    precious = scene.root / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (scene.home.folder / "link").symlink_to(precious)
    (scene.home.folder / "7-abcdefabcdef").mkdir()
    scene.home.persist(scene.first)
    left = {path.name for path in scene.home.folder.iterdir()} - {"board"}
    assert left == {scene.first.bundle.name, "proven.json"}
    assert (precious / "file").is_file()
