"""Files of a project that commit e5f8103 wrote, before all code moved below components/."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from components.registry.release.retrain_record import retrains
from components.registry.versions.reader import read_snapshot
from tests.commands.project import Project

ARCHIVE = Path(__file__).parent / "earlier" / "project.tar.xz"
DVC_FILE = "pipelines/reviews/dvc.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A pipeline that was run, served, asked, labeled by clients and retrained."""
    project = Project(tmp_path_factory.mktemp("earlier") / "p")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(project.root, filter="data")
    subprocess.run(["git", "add", "-A"], cwd=project.root, check=True, capture_output=True)
    return project


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # the store, the release log and the records of retrains
        (("status",), "reviews   version 1, classical (fit), accuracy 0.4667"),
        (("review", "list", "reviews"), "refused"),
        (("review", "show", "reviews", "2"), "champion"),
        (("history", "reviews"), "gristmill serve stage"),
        (("trace", "reviews", "1"), "30c859902284"),
        # the bundle, as registered
        (("predict", "reviews", "room staff breakfast"), "reviews version 1, classical (fit)"),
        (("keys", "list"), "laptop"),
        # the request log and labels of clients
        (("feedback", "list", "reviews"), "3 wait"),
        (("monitor", "reviews"), "accuracy by labels: 3 of the 100 answers"),
    ],
)
def test_a_command_reads_them(project: Project, words: tuple[str, ...], expected: str) -> None:
    done = project.call(*words)
    assert done.code == 0, done.error
    assert expected in done.out


def test_the_record_of_a_retrain_is_read(project: Project) -> None:
    snapshot = read_snapshot(project.root, "reviews")
    assert snapshot is not None
    (record,) = [each for each in retrains(snapshot) if each.version == 2]
    assert record.outcome == "refused"


def test_the_stages_of_an_earlier_copy_are_refused_with_the_remedy(project: Project) -> None:
    lock = (project.root / "pipelines" / "reviews" / "dvc.lock").read_bytes()
    done = project.gristmill("run", "reviews")
    assert done.code == 2
    assert f"cp dvc.yaml {DVC_FILE}" in done.error
    assert (project.root / "pipelines" / "reviews" / "dvc.lock").read_bytes() == lock
    # after the remedy, DVC compares the lock with the new stages
    shutil.copyfile(project.root / "dvc.yaml", project.root / DVC_FILE)
    status = project.dvc("status", DVC_FILE)
    assert status.code == 0, status.error
    assert "components/stages/ingest" in status.out
