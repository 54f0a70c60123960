"""Ways in which a candidate can fail, each while another version is in service."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from candidate_scenario import (
    WEIGHTS,
    Direct,
    Scene,
    card_with,
    register,
    tree,
    untouched,
    with_card,
)

from components.core.bundles import CARD
from components.core.errors import EnvironmentFault, InputError
from components.orchestration.service import registry_watch
from components.registry.versions.model_versions import BUNDLE, Version
from components.serving.rollout import version_files
from components.serving.rollout.controller import describe
from components.serving.rollout.plan import ServedVersion


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project, in which no preflight is run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(
        registry_watch, "run_preflight", lambda edition, latency_ms: untouched(edition)
    )
    (tmp_path / "project" / "data" / "raw").mkdir(parents=True)
    (tmp_path / "project" / "data" / "raw" / "precious.csv").write_text("a,b\n")
    return tmp_path / "project"


@pytest.fixture
def scene(folder: Path) -> Scene:
    """A service that prepares candidates in a child process."""
    return Scene(folder)


@pytest.fixture
def direct_scene(folder: Path) -> Scene:
    """A service that prepares candidates in this process, which takes a tenth of the time."""
    return Scene(folder, Direct)


def tagged(tag: str, value: str) -> Callable[[Path], Version]:
    """Make a good version with one tag edited."""
    return lambda root: register(root, 2, {tag: value})


def without(tag: str) -> Callable[[Path], Version]:
    """Make a good version with one tag taken away."""

    def make(root: Path) -> Version:
        version = register(root, 2)
        tags = {key: value for key, value in version.tags.items() if key != tag}
        return replace(version, tags=tags)

    return make


def sourced(source: str) -> Callable[[Path], Version]:
    """Make a good version whose source says something else."""
    return lambda root: replace(register(root, 2), source=source.replace("ROOT", str(root)))


def spoiled(spoil: Callable[[Path], object]) -> Callable[[Path], Version]:
    """Make a good version and do something to its folder in the artifact store."""

    def make(root: Path) -> Version:
        version = register(root, 2)
        spoil(Path(version.source))
        return version

    return make


def carded(content: bytes) -> Callable[[Path], Version]:
    """Make a version whose registered hash is that of a bad card."""
    return lambda root: with_card(root, 2, content)


def replaced(name: str, put: Callable[[Path], object]) -> Callable[[Path], Version]:
    """Make a good version with something else in the place of a file."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return spoiled(spoil)


def sparse(path: Path) -> None:
    """Make a file that is larger than any disk here and takes no room."""
    with path.open("wb") as stream:
        stream.truncate(1 << 42)


def gone(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def a_file(folder: Path) -> None:
    gone(folder)
    folder.write_text("no folder")


class Case(NamedTuple):
    """What is wrong, and what must be said of it."""

    make: Callable[[Path], Version]
    reason: str
    state: str = "refused"


NESTED = "[" * 100_000
CASES = {
    # tags
    "no hash": Case(without(BUNDLE), "not a SHA-256"),
    "empty hash": Case(tagged(BUNDLE, ""), "not a SHA-256"),
    "hash that climbs": Case(tagged(BUNDLE, "/../../../.."), "not a SHA-256"),
    "hash that climbs less": Case(tagged(BUNDLE, "/../.."), "not a SHA-256"),
    "hash that is absolute": Case(tagged(BUNDLE, "/etc"), "not a SHA-256"),
    "short hash": Case(tagged(BUNDLE, "ab" * 6), "not a SHA-256"),
    "hash in capitals": Case(tagged(BUNDLE, "AB" * 32), "not a SHA-256"),
    "hash with a line behind it": Case(tagged(BUNDLE, "ab" * 32 + "\n"), "not a SHA-256"),
    "hash with NUL": Case(tagged(BUNDLE, "\0" * 64), "not a SHA-256"),
    "hash of surrogates": Case(tagged(BUNDLE, "\ud800" * 64), "not a SHA-256"),
    "hash of a megabyte": Case(tagged(BUNDLE, "a" * 1_000_000), "not a SHA-256"),
    "hash with markup": Case(tagged(BUNDLE, "[red]\x1b[31m"), "not a SHA-256"),
    "hash of another bundle": Case(tagged(BUNDLE, "ab" * 32), "source"),
    "examples that are no JSON": Case(tagged("examples", "{"), "tag examples"),
    "examples that are empty": Case(tagged("examples", ""), "tag examples"),
    "examples that are texts": Case(tagged("examples", '["good"]'), "list of objects"),
    "examples that are an object": Case(tagged("examples", '{"a": 1}'), "tag examples"),
    "examples of a megabyte": Case(
        tagged("examples", json.dumps([{"text": "x" * 1_000_000}])), "tag examples"
    ),
    "examples that nest": Case(tagged("examples", NESTED), "tag examples"),
    "examples that nest a little": Case(tagged("examples", "[" * 100 + "]" * 100), "tag examples"),
    "examples with NaN": Case(tagged("examples", '[{"a": NaN}]'), "tag examples"),
    "examples with surrogates": Case(tagged("examples", '[{"a": "\\ud800"}]'), "tag examples"),
    "examples with a long number": Case(
        tagged("examples", '[{"a": ' + "9" * 9999 + "}]"), "tag examples"
    ),
    # sources
    "source that is the root": Case(sourced("/"), "has the source"),
    "source elsewhere": Case(sourced("/etc"), "has the source"),
    "source that is empty": Case(sourced(""), "has the source"),
    "source that climbs": Case(sourced("ROOT/x/../../bundles/aaaaaaaaaaaa"), "has the source"),
    "source with NUL": Case(sourced("/a\0b/bundles/aaaaaaaaaaaa"), "has the source"),
    "source of another kind": Case(sourced("runs:/abc/model"), "has the source"),
    "source that is gone": Case(spoiled(gone), "are gone"),
    "source that is a file": Case(spoiled(a_file), "are gone"),
    # files
    "a pipe beside the files": Case(
        spoiled(lambda folder: os.mkfifo(folder / "pipe")), "no regular file"
    ),
    "a pipe for the card": Case(replaced(CARD, os.mkfifo), "no regular file"),
    "a pipe for the weights": Case(replaced(WEIGHTS, os.mkfifo), "no regular file"),
    "a link to nothing": Case(
        spoiled(lambda folder: (folder / "link").symlink_to("/nowhere")), "No such file"
    ),
    "a link to itself": Case(
        spoiled(lambda folder: (folder / "link").symlink_to("link")), "symbolic links"
    ),
    "a link to a device": Case(
        replaced(WEIGHTS, lambda path: path.symlink_to("/dev/zero")), "no regular file"
    ),
    "a link to a folder": Case(
        spoiled(lambda folder: (folder / "up").symlink_to(folder.parent)), "no regular file"
    ),
    "a folder for the weights": Case(replaced(WEIGHTS, Path.mkdir), WEIGHTS),
    "no weights": Case(spoiled(lambda folder: (folder / WEIGHTS).unlink()), WEIGHTS),
    "other weights": Case(replaced(WEIGHTS, lambda path: path.write_bytes(b"x")), "was altered"),
    "weights of four terabytes": Case(replaced(WEIGHTS, sparse), "are free", "waiting"),
    "another card": Case(
        replaced(CARD, lambda path: path.write_bytes(card_with(seed=2))), "SHA-256"
    ),
    # cards whose hash is the registered one
    "card without a data hash": Case(carded(card_with(data_hash=None)), "data_hash"),
    "card that nests": Case(carded(NESTED.encode()), ""),
    "card with files as pairs": Case(carded(card_with(files=[[1, "x"]])), ""),
    "card with files as text": Case(carded(card_with(files="x")), ""),
    "card with files outside": Case(carded(card_with(files={"../x": "ab" * 32})), ""),
    "card of another format": Case(carded(card_with(format=99)), "format"),
    "card that is a list": Case(carded(b"[]"), ""),
    "card that is a number": Case(carded(b"1"), ""),
    "card that is empty": Case(carded(b""), ""),
    "card of bytes": Case(carded(b"\0\xff\xfe" * 100), ""),
}


def check(scene: Scene, version: Version, reason: str, state: str) -> None:
    """Offer a version that must fail, and look at all that must be as it was."""
    service = scene.home.folder
    before = tree(scene.root.parent, besides=service)
    scene.offer(version)
    assert scene.served == ("1", None)
    (note,) = scene.notes()
    assert (note["version"], note["state"]) == ("2", state)
    assert reason in note["why"], note["why"]
    assert len(scene.said) == 1 and "version 1 goes on" in scene.said[0]
    # Asked again and again, it says and writes nothing more.
    for _ in range(20):
        scene.now += 0.01
        scene.follower.step(version)
    assert (len(scene.said), len(scene.notes())) == (1, 1)
    assert tree(scene.root.parent, besides=service) == before
    kept = {path.name for path in service.iterdir()} - {"board", "proven.json"}
    assert kept == {scene.first.bundle.name}
    assert scene.home.last() == scene.first


@pytest.mark.parametrize("name", CASES)
def test_a_candidate_that_fails_leaves_the_version_in_service(
    direct_scene: Scene, name: str
) -> None:
    case = CASES[name]
    check(direct_scene, case.make(direct_scene.root), case.reason, case.state)


# Cases whose text, size or kind of error could be lost between the two processes.
THROUGH_A_CHILD = (
    "hash of surrogates",
    "hash of a megabyte",
    "hash with markup",
    "weights of four terabytes",
    "card that nests",
)


@pytest.mark.parametrize("name", THROUGH_A_CHILD)
def test_a_child_process_gives_the_same_reason(scene: Scene, name: str) -> None:
    case = CASES[name]
    check(scene, case.make(scene.root), case.reason, case.state)


def test_at_least_thirty_ways_are_tried() -> None:
    assert len(CASES) + len(FAULTS) + len(TRIALS) >= 60


# What happens inside of the process that copies: code that runs as it starts.
COPYING = "import shutil\ndef copy(*_): {fault}\nshutil.copyfileobj = copy\n"
FAULTS = {
    "disk full": ("raise OSError(28, 'No space left on device')", "No space left", "waiting"),
    "quota": ("raise OSError(122, 'Disk quota exceeded')", "quota", "waiting"),
    "disk broken": ("raise OSError(5, 'Input/output error')", "Input/output", "waiting"),
    "network away": ("raise OSError(116, 'Stale file handle')", "Stale", "waiting"),
    "no right to read": ("raise PermissionError(13, 'Permission denied')", "denied", "refused"),
    "copying": ("raise shutil.Error([('a', 'b', 'c')])", "Error", "refused"),
    "no memory": ("raise MemoryError", "MemoryError", "refused"),
    "recursion": ("raise RecursionError('too deep')", "too deep", "refused"),
    "panic": ("raise BaseException('panicked')", "panicked", "refused"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "signal 9", "refused"),
    "crash": ("import os; os.abort()", "signal 6", "refused"),
    "exit": ("import os; os._exit(0)", "exit code 0", "refused"),
    "print": ("print('{\"edition\": 1}'); raise ValueError('x' * 10_000)", "ValueError", "refused"),
}


def inject(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Let something happen in each child process that copies."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(COPYING.replace("{fault}", fault))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    # The tree of the project must stay as it was, so no __pycache__ may appear in the folder.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_while_it_is_copied_leaves_the_version_in_service(
    scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, reason, state = FAULTS[name]
    inject(scene.root / "faults", monkeypatch, fault)
    check(scene, register(scene.root, 2), reason, state)


def test_a_hang_while_it_is_copied_is_ended_and_tried_again_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(scene.root / "faults", monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(registry_watch, "_PREPARE_S", 2.0)
    version = register(scene.root, 2)
    scene.follower.step(version)
    preparation = scene.home._preparation
    assert preparation is not None
    scene.offer(version)
    assert scene.notes()[0]["state"] == "waiting" and "within 2 s" in scene.notes()[0]["why"]
    child = preparation._child
    assert child is not None and child.wait(20) == -9
    # The disk answers again, and the pause is over.
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr(registry_watch, "_PREPARE_S", 60.0)
    scene.now += 10
    scene.home._notes.clear()
    scene.offer(version)
    assert scene.served == ("1", "2")


def raising(error: Exception) -> Callable[[ServedVersion, float], None]:
    """Make a trial that ends in an error."""

    def run_preflight(edition: ServedVersion, latency_ms: float) -> None:
        raise error

    return run_preflight


TRIALS = {
    "dies": (InputError("it takes its process down"), "process down", "refused"),
    "hangs": (InputError("it does not load and answer within 120 s"), "120 s", "refused"),
    "mixes": (InputError("it answers the same question otherwise"), "otherwise", "refused"),
    "no process": (EnvironmentFault("no process can be had"), "no process", "waiting"),
    "unknown": (RuntimeError("of a kind that nobody thought of"), "RuntimeError", "refused"),
}


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_that_fails_leaves_the_version_in_service(
    scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, reason, state = TRIALS[name]
    monkeypatch.setattr(registry_watch, "run_preflight", raising(error))
    version = register(scene.root, 2)
    scene.offer(version)
    (note,) = scene.notes()
    assert scene.served == ("1", None) and note["state"] == state and reason in note["why"]


def test_a_folder_of_the_service_that_cannot_be_used_is_waited_for(scene: Scene) -> None:
    aside = scene.home.folder.with_name("aside")
    scene.home.folder.rename(aside)
    scene.home.folder.write_text("a file is in the way")
    version = register(scene.root, 2)
    scene.offer(version)
    assert (scene.served, scene.notes()[0]["state"]) == (("1", None), "waiting")
    scene.home.folder.unlink()
    aside.rename(scene.home.folder)
    scene.home._notes.clear()
    scene.now += 10
    scene.offer(version)
    assert scene.served == ("1", "2")


def test_a_good_version_behind_a_bad_one_is_loaded(scene: Scene) -> None:
    scene.offer(tagged(BUNDLE, "/../../../..")(scene.root))
    scene.home._notes.clear()
    scene.offer(register(scene.root, 3))
    assert scene.served == ("1", "3")


def test_a_version_that_the_registry_no_longer_names_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(scene.root / "faults", monkeypatch, "import time; time.sleep(600)")
    scene.follower.step(register(scene.root, 2))
    given_up = scene.home._preparation
    assert given_up is not None
    monkeypatch.delenv("PYTHONPATH")
    scene.offer(register(scene.root, 3))
    assert scene.served == ("1", "3")
    assert given_up._child is None or given_up._child.wait(20) == -9


def test_a_copy_that_was_altered_is_made_anew(scene: Scene) -> None:
    version = register(scene.root, 2)
    copy = scene.home.wait_for(version, preflight=False).bundle
    (copy / WEIGHTS).write_bytes(b"x")
    assert scene.home.wait_for(version, preflight=False).bundle == copy
    assert (copy / WEIGHTS).read_bytes() == b"\1" * 64


def test_links_to_regular_files_are_copied_as_files(scene: Scene) -> None:
    version = register(scene.root, 2)
    cached = scene.root / "cached"
    weights = Path(version.source) / WEIGHTS
    weights.rename(cached)
    weights.symlink_to(cached)
    copy = scene.home.wait_for(version, preflight=False).bundle
    assert not (copy / WEIGHTS).is_symlink()
    assert (copy / WEIGHTS).read_bytes() == cached.read_bytes()


def test_a_folder_registered_by_its_uri_is_read_like_the_folder(scene: Scene) -> None:
    version = register(scene.root, 2)
    version = replace(version, source=Path(version.source).as_uri())
    assert scene.home.wait_for(version, preflight=False).version == "2"


def test_a_disk_that_fills_while_a_copy_is_made_has_one_message() -> None:
    messages = {
        describe(
            version_files.as_fault(
                OSError(errno.ENOSPC, "No space left on device", f"/s/.{name}.part/bundle/weights")
            )
        )
        for name in ("abc123", "xyz789")
    }
    assert len(messages) == 1
    assert "/s/bundle/weights" in messages.pop()
