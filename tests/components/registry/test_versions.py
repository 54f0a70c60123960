from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.core.bundles import read_bundle
from components.core.errors import InputError
from components.registry.release.promotion import release
from components.registry.store import tracking_store
from components.registry.versions.model_versions import champion, fetch, register


def test_a_bundle_is_registered_once_however_often_the_stage_runs(root: Path, bundle: Path) -> None:
    first = register(root, "default", bundle, None, {"data_hash": "d", "git_commit": "a"}, "a card")
    again = register(root, "default", bundle, None, {"data_hash": "d", "git_commit": "b"})
    assert (first.number, again.number) == (1, 1)
    assert again.tags == {
        "data_hash": "d",
        "git_commit": "b",
        "bundle_sha256": first.tags["bundle_sha256"],
    }
    assert len(tracking_store.client(root).search_model_versions("name = 'default'")) == 1
    assert tracking_store.client(root).get_model_version("default", "1").description == "a card"


def test_another_bundle_is_another_version_and_takes_over_as_challenger(
    root: Path, bundle: Path, other_bundle: Path
) -> None:
    run = (
        tracking_store.client(root)
        .create_run(tracking_store.experiment(tracking_store.client(root), root, "default"))
        .info.run_id
    )
    first, second = (
        register(root, "default", folder, run, {}) for folder in (bundle, other_bundle)
    )
    assert (first.number, second.number, second.aliases) == (1, 2, ("challenger",))
    # both lie with the same run, neither over the other
    assert first.run_id == second.run_id == run
    assert [read_bundle(Path(version.source))[0].seed for version in (first, second)] == [1, 2]


def test_the_champion_is_not_its_own_challenger(root: Path, bundle: Path) -> None:
    release(
        root,
        "default",
        register(root, "default", bundle, None, {}).number,
        [],
        mode="auto",
        who="test",
        why="first",
    )
    assert register(root, "default", bundle, None, {}).aliases == ("champion",)


def test_pipelines_have_models_of_their_own(root: Path, bundle: Path) -> None:
    release(
        root,
        "digits",
        register(root, "digits", bundle, None, {}).number,
        [],
        mode="auto",
        who="test",
        why="first",
    )
    assert register(root, "default", bundle, None, {}).number == 1
    assert champion(root, "default") is None
    found = champion(root, "digits")
    assert found and (found.pipeline, found.number) == ("digits", 1)


def test_a_fetched_bundle_is_the_registered_one_byte_for_byte(
    root: Path, bundle: Path, tmp_path: Path
) -> None:
    version = register(root, "default", bundle, None, {})
    for which in ("challenger", version.number, str(version.number)):
        folder = fetch(root, "default", which, tmp_path / "into")
        assert read_bundle(folder) == read_bundle(bundle)


def test_what_is_not_there_is_said_with_the_remedy(
    root: Path, bundle: Path, tmp_path: Path
) -> None:
    version = register(root, "default", bundle, None, {})
    for pipeline, which in (("default", "champion"), ("default", 7), ("nobody", "champion")):
        with pytest.raises(InputError, match="gristmill status"):
            fetch(root, pipeline, which, tmp_path)
    shutil.rmtree(version.source)
    with pytest.raises(InputError, match="are gone"):
        fetch(root, "default", version.number, tmp_path)


def test_asking_for_a_champion_makes_no_database(tmp_path: Path) -> None:
    assert champion(tmp_path, "default") is None
    assert list(tmp_path.iterdir()) == []
