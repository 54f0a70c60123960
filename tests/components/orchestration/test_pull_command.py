"""`gristmill pull`, and who else pulls: a run and a retrain do, the copy in which a retrain runs does not. What was pulled is on the record. And where the memo lies."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EnvironmentFault, ParamsError
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import load
from components.orchestration.processes import wait_until
from components.orchestration.retraining.retrain import fresh, pulled, retrain
from components.orchestration.runner import pull as module
from components.orchestration.runner.pull import lock_of, pull_first, pull_now
from components.orchestration.runner.resumable_state import cache_folder
from components.orchestration.runner.run import run_pipeline
from components.stages.ingest import sql_source
from tests.commands.project import reviews
from tests.components.orchestration.retrain_project import DVC, WORK, Small

SHOP = "data/sources/shop"


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_FILE", "shop.db")
        yield


@pytest.fixture(scope="module")
def small(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A project whose source is a database of 40 reviews."""
    made = Small(tmp_path_factory.mktemp("pull") / "p", empty_store)
    (made.root / "dvc.yaml").write_text(DVC.replace("mine/rows.csv", SHOP), encoding="utf-8")
    (made.root / "work.py").write_text(
        WORK.replace("mine/rows.csv", f"{SHOP}/{sql_source.WATERMARK}"), encoding="utf-8"
    )
    made.edit("params.yaml", {"ingest": {"source": None}})
    made.edit(
        "params.yaml",
        {
            "ingest": {
                "source": {
                    "kind": "sql",
                    "path": SHOP,
                    "url": "sqlite:///${SHOP_FILE}",
                    "table": "reviews",
                    "cursor": "id",
                }
            }
        },
    )
    (made.root / ".gitignore").open("a").write("/shop.db\n")
    made.commit()
    with sqlite3.connect(made.root / "shop.db") as connection:
        connection.execute("CREATE TABLE reviews (id INTEGER, text TEXT, label TEXT)")
    add(made, range(40))
    return made


def add(small: Small, ids: Any) -> None:
    with sqlite3.connect(small.root / "shop.db") as connection:
        connection.executemany(
            "INSERT INTO reviews VALUES (?, ?, ?)",
            [(number, *row) for number, row in zip(ids, reviews(len(ids)), strict=True)],
        )


def test_a_retrain_pulls_first_and_its_record_says_how_far(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain(small.root, "default") == 0
    first = small.records()[-1]
    assert (first.outcome, first.rows, first.cursor) == ("promoted", 40, "39")
    assert fresh(small.root, "default") is None
    add(small, range(40, 43))
    assert fresh(small.root, "default") is not None and pulled(
        small.root, "default"
    )  # which the scheduler asks
    assert (small.root / SHOP / sql_source.WATERMARK).is_file()
    assert "pulled 3 new rows" in capsys.readouterr().out
    done = small.gristmill("history")
    assert "40 rows, up to 39" in done.out


def test_a_copy_asks_nobody(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pull", pytest.fail)
    params = load(small.root / "params.yaml")
    assert pull_first(small.root / ".dvc" / "tmp" / "retrain" / "default", params) is None


def test_one_at_a_time(small: Small) -> None:
    params = load(small.root / "params.yaml")
    shop = params.sections["ingest"].source  # type: ignore[attr-defined]
    (small.root / "other").symlink_to(small.root / SHOP)  # of another pipeline, say
    before = (small.root / SHOP / sql_source.WATERMARK).read_bytes()
    add(small, [50])
    with (
        only_one(lock_of(small.root, shop.model_copy(update={"path": "other"})), "x"),
        pytest.raises(EnvironmentFault, match=f"a pull into {SHOP} is under way"),
    ):
        pull_first(small.root, params)
    with (
        only_one(small.root / "data" / ".state" / "run.lock", "x"),
        pytest.raises(EnvironmentFault),
    ):
        run_pipeline(small.root, "default")
    assert (small.root / SHOP / sql_source.WATERMARK).read_bytes() == before


def test_no_rows_come_between_what_a_stage_reads_and_what_dvc_hashes(small: Small) -> None:
    params = load(small.root / "params.yaml")
    pull_first(small.root, params)
    add(small, [51])
    wait = "import pathlib, time; pathlib.Path('begun').touch(); [time.sleep(0.05) for _ in range(1200) if not pathlib.Path('end').exists()]"
    (small.root / "hold").mkdir()
    (small.root / "hold" / "dvc.yaml").write_text(
        json.dumps({"stages": {"hold": {"cmd": f'python -c "{wait}"', "deps": [f"../{SHOP}"]}}})
    )
    with subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "hold/dvc.yaml"],
        cwd=small.root,
        stdout=subprocess.DEVNULL,
    ) as dvc:
        assert wait_until(lambda: (small.root / "hold" / "begun").exists(), 60)
        with pytest.raises(
            EnvironmentFault, match=f"{SHOP}: DVC reads the folder: .*busy.*{dvc.pid}"
        ):
            pull_first(small.root, params)
        (small.root / "hold" / "end").touch()
    assert (
        dvc.returncode == 0
        and (made := pull_first(small.root, params)) is not None
        and made.new == 1
    )


def test_a_source_that_is_no_database(small: Small) -> None:
    file = small.root / "files.yaml"
    file.write_text((small.root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    small.edit("files.yaml", {"ingest": {"source": None}})
    small.edit("files.yaml", {"ingest": {"source": {"kind": "files", "path": "mine/rows.csv"}}})
    with pytest.raises(ParamsError, match="nothing to pull"):
        pull_now(small.root, load(file), False)


def test_the_memo_is_the_projects_wherever_a_stage_runs_and_of_one_state_of_the_code(
    small: Small,
) -> None:
    params = load(small.root / "params.yaml")
    folder = cache_folder(small.root, params, "clean")
    assert (
        folder is not None
        and folder.parent == small.root.resolve() / "data" / ".state" / "memo" / "clean"
    )
    copy = small.root / ".dvc" / "tmp" / "retrain" / "default"
    code = Path("components")
    (copy / code).parent.mkdir(parents=True)
    (copy / code).symlink_to(small.root / code)
    assert cache_folder(copy, params, "clean") == folder
    keys = {}
    for name in (
        "stages/clean/cleaning.py",
        "fields/text.py",
        "core/cache.py",
        "tasks/base.py",
        "tasks/text_classification/schema.py",
        "tasks/text_classification/evaluator.py",
        "stages/ingest/source_rows.py",
    ):
        file = small.root / code / name
        text = file.read_bytes()
        file.write_bytes(text + b"\n")
        keys[name] = cache_folder(small.root, params, "clean")
        file.write_bytes(text)
    others = ("tasks/text_classification/evaluator.py", "stages/ingest/source_rows.py")
    assert all((key == folder) == (name in others) for name, key in keys.items())
    assert len(set(keys.values())) == 6
    assert cache_folder(small.root, params, "train") is None
