"""The quick reader sees what MLflow's own client sees: in SQLite, over REST, and by the client where it must."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_versions import make_bundle

from components.core.errors import InputError
from components.registry.release.gates import Gate, GateParams, gate_rules
from components.registry.release.promotion import approve, rollback
from components.registry.release.release_log import history
from components.registry.store import tracking_store
from components.registry.versions import reader
from components.registry.versions.model_versions import champion, register, verify
from components.registry.versions.reader import read_snapshot
from tests.components.registry.test_review import kept


@pytest.fixture(params=["sqlite", "rest"])
def filled(
    request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A store of either kind with two versions, released in turn, and one that was only registered."""
    if request.param == "rest":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("mlflow_server"))
    first, later = (
        [Gate("champion", passed, against=number)] for passed, number in ((None, None), (True, 1))
    )
    kept(root, 1, first, "+" * 60 + "-" * 40)
    kept(root, 2, later, "+" * 90 + "-" * 10)
    register(
        root, "default", make_bundle(root.parent / "third", 3), None, {"title": "第三"}, "a page"
    )
    for number in (1, 2):
        approve(
            root,
            "default",
            number,
            gate_rules("text_classification", GateParams()),
            who="李",
            why="好",
        )
    return root


def test_a_shelf_is_the_same_however_it_is_read(filled: Path) -> None:
    shelf = read_snapshot(filled, "default")
    assert shelf == reader._by_client(filled, "default") and shelf is not None
    assert [each.number for each in shelf.versions] == [1, 2, 3] and shelf.version(3).tags[
        "title"
    ] == "第三"
    assert shelf.version(2).aliases == ("champion",) and shelf.aliases == {
        "champion": 2,
        "previous": 1,
        "challenger": 3,
    }
    assert len(shelf.params) == 2 and [each.who for each in history(filled, "default")] == [
        "李",
        "李",
    ]
    # and what is built on it works there too: answers kept with versions, verified bundles, a rollback
    verify(filled, shelf.version(3))
    assert rollback(filled, "default", who="李", why="back").before == 2
    assert champion(filled, "default").number == 1  # type: ignore[union-attr]
    assert read_snapshot(filled, "nobody") is None
    with pytest.raises(InputError, match="has no version 9; there are 1 to 3"):
        shelf.version(9)


def test_reading_takes_no_heavy_library(root: Path) -> None:
    register(root, "default", make_bundle(root.parent / "b", 1), None, {})
    code = (
        "import sys; from pathlib import Path; "
        "from components.registry.versions.reader import read_snapshot; "
        "read_snapshot(Path(sys.argv[1]), 'default'); "
        "from components.registry.versions.model_versions import fetch_registered; "
        "fetch_registered(Path(sys.argv[1]), 'default', 1, Path(sys.argv[1]) / 'copy'); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    heavy = {"mlflow", "sqlalchemy", "torch", "ray", "pandas", "numpy", "fastapi"}
    assert not heavy & set(done.stdout.split())


def test_a_store_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert read_snapshot(tmp_path, "default") is None and not list(tmp_path.iterdir())
    assert tracking_store.database(tmp_path) is not None
