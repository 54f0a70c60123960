"""kill -9 of a whole run in train and in tune: it goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.timeout(
    1800
)  # three real fits and three starts of Ray each; a busy machine takes many times the minute that this needs
SOURCE = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "ingest": {
        "source": {"kind": "files", "path": "docs/examples/reviews.csv"},
        "columns": {"text": "review", "label": "verdict"},
    },
    "train": {
        "epochs": 25,
        "patience": 25,
        "batch_size": 16,
        "checkpoint_steps": 7,
        "nets": {
            "textcnn": {"width": 16, "channels": 8, "kernels": [1, 2], "dropout": 0.3},
            "transformer": {
                "width": 16,
                "layers": 1,
                "heads": 2,
                "feedforward": 32,
                "dropout": 0.1,
            },
        },
    },
    "tune": {
        "trials": 6,
        "epochs": 12,
        "grace_epochs": 4,
        "space": {
            "learning_rate": {"loguniform": [0.0005, 0.005]},
            "nets.textcnn.dropout": {"uniform": [0.1, 0.5]},
        },
    },
}


class Project:
    """A small copy of the project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {
            **os.environ,
            "PYTHONPATH": str(root),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.env = {
            name: value
            for name, value in self.env.items()
            if not name.startswith(("RAY_", "GRISTMILL_", "DVC_"))
        }

    def dvc(self, *words: str) -> str:
        """Run dvc to its end; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *words],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def kill_when(self, words: list[str], ready: Callable[[], bool]) -> None:
        """Start dvc in a process group of its own and kill -9 all of that as soon as `ready`."""
        log = (self.root / "killed.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *words],
            cwd=self.root,
            env=self.env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + 600
        while not ready():
            assert process.poll() is None, (self.root / "killed.log").read_text()
            assert time.monotonic() < deadline, "the stage never got as far as it was to be killed"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def state(self, stage: str, pattern: str) -> list[Path]:
        """Files of the stage's state."""
        return sorted(self.root.glob(f"data/.state/{stage}/*/{pattern}"))

    def bundle(self, where: str) -> dict[str, Any]:
        """The card of a bundle: holds the hashes of all its files."""
        card: dict[str, Any] = json.loads(
            (self.root / "data/models" / where / "bundle.json").read_text()
        )
        return card


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("kills") / "p"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (SOURCE / name).is_file() and not name.startswith("data/") and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, root / name)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "copy"],
    ):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
    yaml = YAML()
    params = yaml.load(root / "params.yaml")
    for section, values in SMALL.items():
        params[section].update(values)
    yaml.dump(params, root / "params.yaml")
    made = Project(root)
    made.dvc("repro", "tokenize")
    yield made
    subprocess.run(
        [sys.executable, "-m", "components.cli", "down"],
        cwd=root,
        env=made.env,
        capture_output=True,
    )


def test_train_goes_on_inside_the_stage_to_the_same_bytes(project: Project) -> None:
    # given a train that is killed after some checkpoints
    project.kill_when(
        ["repro", "train"],
        lambda: any(
            int(re.sub(r"\D", "", path.stem)) > 150
            for path in project.state("train", "fit/checkpoints/step-*.pt")
        ),
    )
    assert not (project.root / "data/models/trained").exists(), (
        "a killed stage must leave no half of its outputs"
    )

    # when it is run again
    printed = project.dvc("repro", "train")

    # then it goes on from there and runs no earlier stage
    gone_on = re.search(r"going on at epoch (\d+), batch \d+ \(step (\d+)\)", printed)
    assert gone_on, printed
    assert int(gone_on[2]) > 140
    for stage in ("ingest", "clean", "augment", "tokenize"):
        assert f"Running stage '{stage}'" not in printed
    left = [path.name for path in project.state("train", "*")]
    assert left == ["result"], "of a finished stage only the result stays, until the next start"

    # and ends with the same bytes as an undisturbed run from scratch
    killed = {name: project.bundle(f"trained/{name}") for name in ("network", "classical")}
    printed = project.dvc("repro", "-f", "-s", "train")
    assert "going on at" not in printed
    assert {name: project.bundle(f"trained/{name}") for name in killed} == killed


def test_tune_runs_no_finished_trial_again(project: Project) -> None:
    # given a train, and a search that is killed when some trials have ended
    project.dvc("repro", "train")
    project.kill_when(
        ["repro", "-s", "tune"], lambda: len(project.state("tune", "trials/*/outcome.json")) >= 2
    )
    ended = {
        path: (
            path.with_name("rows.json").read_bytes(),
            path.with_name("rows.json").stat().st_mtime_ns,
        )
        for path in project.state("tune", "trials/*/outcome.json")
    }
    assert 2 <= len(ended) < 6

    # when it is begun again, and caught once more shortly before its end
    project.kill_when(
        ["repro", "-s", "tune"], lambda: len(project.state("tune", "trials/*/outcome.json")) == 6
    )

    # then the finished trials' figures were not written again
    assert {
        path: (
            path.with_name("rows.json").read_bytes(),
            path.with_name("rows.json").stat().st_mtime_ns,
        )
        for path in ended
    } == ended
    printed = project.dvc("repro", "tune")
    assert "6 of 6 trials are finished already" in printed
    report = json.loads((project.root / "data/reports/tune.json").read_text())
    assert (report["trials"], report["trials_failed"]) == (6, 0)

    # and MLflow has one run per trial with one point per epoch, and one run of the stage
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.root}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("default")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    trials = [run for run in runs if run.info.run_name.startswith("trial-")]
    assert sorted(run.info.run_name for run in trials) == [
        f"trial-{number:04d}" for number in range(6)
    ]
    for run in trials:
        steps = [
            point.step
            for point in client.get_metric_history(run.info.run_id, "validation_macro_f1")
        ]
        assert steps == list(range(1, len(steps) + 1))
    assert sum(run.info.run_name == "tune" for run in runs) == 1
