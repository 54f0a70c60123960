"""kill -9 of whole runs inside every stage: the next run goes on, and the results are the same."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.commands.project import SMALL, Project, reviews
from tests.faults.kill_hook import install_hook, start_group

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(1800)]
ROWS = 300
PATIENCE_S = 120.0
RUN = ("components.cli", "run", "whole")
PUBLISH = "components.orchestration.runner.stage_results:publish_result"
# Where a kill comes, in the order of the stages. A stage whose work has ended is not run again.
MOMENTS = [
    "components.stages.ingest.stage:run:call:1",
    f"{PUBLISH}:call:1",
    "components.stages.clean.stage:run:return:1",
    "components.stages.augment.stage:run:call:1",
    "components.stages.tokenize.stage:run:return:1",
    "components.stages.train.stage:run:call:1",
    "components.stages.tune.stage:run:return:1",
    "components.stages.compress.stage:run:call:1",
    "components.stages.evaluate.stage:run:call:1",
    "components.stages.serve.stage:run:return:1",
]
# Names of values that differ between two undisturbed runs too.
MEASURED = (
    "_ms",
    "choice",
    "cpu_s",
    "latency",
    "largest_difference",
    "peak_memory",
    "per_s",
    "second",
    "throughput",
    "time",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("runs")
    project = Project(folder / "p")
    project.write("data/sources/whole.csv", reviews(ROWS))
    trained = {"train": {**SMALL["train"], "architecture": "textcnn"}}
    project.pipeline("whole", "data/sources/whole.csv", trained, columns={"label": "label"})
    install_hook(project, folder / "hook")
    yield project
    project.gristmill("down")


@pytest.fixture(scope="module")
def undisturbed(project: Project) -> dict[str, Any]:
    """The results of a run that nobody kills, after which the project is as it was before."""
    done = project.gristmill("run", "whole")
    assert done.code == 0, done.out + done.error
    assert versions(project) == [1]
    results = results_of(project)
    board = results["reports/leaderboard.json"]["candidates"]
    scores = sorted(row["validation"]["macro_f1"] for row in board)
    assert scores[-1] > scores[-2], "latency decides between equals: take another seed"
    wait_for_end(project)
    for path in ("data/whole", "data/.state", ".dvc/cache", ".dvc/tmp", "mlflow"):
        shutil.rmtree(project.root / path, ignore_errors=True)
    (project.root / "pipelines/whole/dvc.lock").unlink()
    subprocess.run(["git", "checkout", "--quiet", "mlflow"], cwd=project.root, check=True)
    return results


def wait_for_end(project: Project) -> None:
    """Wait until no process of the project is left."""
    deadline = time.monotonic() + PATIENCE_S
    while project.processes():
        assert time.monotonic() < deadline, project.processes()
        time.sleep(0.1)


def versions(project: Project) -> list[int]:
    """Return the registered versions, read by a connection that ends with the call."""
    with closing(sqlite3.connect(project.root / "mlflow/mlflow.db")) as store:
        rows = store.execute("SELECT version FROM model_versions WHERE name = 'whole'")
        return [int(version) for (version,) in rows]


def figures(value: Any) -> Any:
    """A report without what was measured with a clock."""
    if isinstance(value, dict):
        names = [name for name in value if not any(word in name for word in MEASURED)]
        return {name: figures(value[name]) for name in names}
    if isinstance(value, list):
        return [figures(each) for each in value]
    return value


def results_of(project: Project) -> dict[str, Any]:
    """Hashes of all outputs; the figures of reports, which are measured with a clock in part."""
    results: dict[str, Any] = {}
    for name, digest in project.hashes("data/whole").items():
        path = project.root / "data/whole" / name
        if name.startswith(".state/"):
            continue
        if name.startswith("reports/answers/") or not name.startswith("reports/"):
            results[name] = digest
        elif path.suffix == ".json":
            results[name] = figures(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as stream:
                results[name] = figures(list(csv.DictReader(stream)))
        else:
            # A page with plots of latency.
            results[name] = "is there"
    return results


def kill_at(project: Project, moment: str) -> None:
    """Run until the moment at which the hook kills the group of the run."""
    process = start_group(project, *RUN, KILL_AT=moment)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, f"{moment} {printed}"
    wait_for_end(project)


def test_killed_runs_end_as_an_undisturbed_one(
    project: Project, undisturbed: dict[str, Any]
) -> None:
    # given runs that are killed one after the other, further and further on
    for moment in MOMENTS:
        kill_at(project, moment)
    # when nobody kills the next one
    done = project.gristmill("run", "whole")
    assert done.code == 0, done.out + done.error
    # then the results are those of the undisturbed run, to the last byte; the run that was killed
    # at the end of serve has released the version, and the next one finds it in service
    results = results_of(project)
    release = results["reports/serve.json"]
    assert release == undisturbed["reports/serve.json"] | {
        "decision": "unchanged",
        "champion_before": 1,
        # Beside a champion, other gates apply.
        "gates": release["gates"],
    }
    assert set(release["gates"].values()) <= {"passed", "not applicable"}
    assert results | {"reports/serve.json": undisturbed["reports/serve.json"]} == undisturbed
    # and one version is registered
    assert versions(project) == [1]
    assert "model    whole version 1: unchanged" in done.out
    wait_for_end(project)


def test_the_next_run_has_nothing_to_do(project: Project) -> None:
    done = project.gristmill("run", "whole")
    assert done.code == 0, done.error
    assert "Running stage" not in done.out
    left = [path.name for path in Path(project.root / "data/whole/.state").glob("*/*/out")]
    assert left == []
