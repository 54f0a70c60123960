"""Random tags, cards and folders: nothing outside of the service's folder changes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from candidate_scenario import WEIGHTS, Direct, Scene, card_with, register, tree, with_card
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.core.bundles import CARD
from components.core.errors import GristmillError
from components.registry.versions.model_versions import BUNDLE
from components.serving.rollout import version_files

PIECES = ["..", ".", "/", "\\", "~", "*", "\0", "bundles", "%2e%2e", "a" * 300, "ab" * 6, "[", " "]
names = st.lists(st.sampled_from(PIECES), max_size=6).map("/".join) | st.text(max_size=80)
texts = names | st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
examples = st.text(max_size=40) | values.map(json.dumps)
FIELDS = ["task", "config", "classes", "seed", "data_hash", "origin", "files", "format", "extra"]
cards = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3).map(
        lambda changes: card_with(**changes)
    ),
    st.dictionaries(names, texts, max_size=3).map(lambda files: card_with(files=files)),
)


def touch(path: Path) -> None:
    # A pipe that lies there already is not waited for.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644)
    os.write(descriptor, b"x" * 100)
    os.close(descriptor)


PUT: list[Any] = [
    touch,
    os.mkfifo,
    Path.mkdir,
    lambda path: path.symlink_to("/nowhere"),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to(".."),
    lambda path: path.symlink_to(path.name),
    lambda path: os.truncate(path, 1 << 42),
    lambda path: path.chmod(0),
]
entries = st.lists(
    st.tuples(
        st.sampled_from([CARD, WEIGHTS, "encoder/words.json", "encoder", "other", "\udcff"]),
        st.booleans(),
        st.sampled_from(PUT),
    ),
    max_size=4,
)
tags = st.fixed_dictionaries({}, optional={BUNDLE: texts, "examples": examples, "gates": names})
sources = st.none() | names | names.map(lambda name: f"ROOT/{name}") | st.just("ROOT")


def spoil(folder: Path, changes: list[Any]) -> None:
    """Put something else in the place of files, or beside them."""
    for name, removed, put in changes:
        path = folder / name
        with suppress(OSError):
            if removed and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif removed:
                path.unlink()
            put(path)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(tags=tags, card=st.none() | cards, source=sources, changes=entries)
def test_nothing_outside_changes_and_the_follower_goes_on(
    tags: dict[str, str], card: bytes | None, source: str | None, changes: list[Any]
) -> None:
    with tempfile.TemporaryDirectory(prefix="gm-") as folder:
        scene = Scene(Path(folder) / "project", Direct)
        made = with_card(scene.root, 2, card) if card is not None else register(scene.root, 2)
        spoil(Path(made.source), changes)
        version = replace(made, tags=made.tags | tags)
        if source is not None:
            version = replace(version, source=source.replace("ROOT", str(scene.root)))
        before = tree(Path(folder), besides=scene.home.folder)
        for _ in range(3):
            scene.now += 1
            scene.follower.step(version)
        assert tree(Path(folder), besides=scene.home.folder) == before
        assert scene.served in (("1", None), ("1", "2"))
        assert scene.home.last() == scene.first
        if scene.served == ("1", None):
            assert {note["state"] for note in scene.notes()} <= {"refused", "waiting"}
            assert len(scene.notes()) == len(scene.said) == 1
            scene.offer_good()


@given(value=texts)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_faults_of_all_kinds_become_one_of_the_family(value: str) -> None:
    for error in (ValueError(value), OSError(28, value), KeyError(value), BaseException(value)):
        fault = version_files.as_fault(error)
        assert isinstance(fault, GristmillError)
        fault.what.encode("utf-8")
