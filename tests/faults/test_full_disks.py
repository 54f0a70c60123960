"""Full and read-only disks: each command ends with a sentence and its exit code, and works again later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.one_stage import OneStage

pytestmark = pytest.mark.timeout(1800)
# Mounts are made in a namespace of the command's own, and vanish with it.
NAMESPACE = """
set -e
case "$FAULT" in
  read-only)
    mount --bind "$PLACE" "$PLACE"
    mount -o remount,bind,ro "$PLACE" ;;
  full)
    mkdir "$COPY"
    if [ "$PLACE" != /dev/shm ]; then cp -a "$PLACE/." "$COPY"; fi
    size=$(du -sk "$COPY" | cut -f1)
    mount -t tmpfs -o "size=$((size + 64))k" tmpfs "$PLACE"
    cp -a "$COPY/." "$PLACE"
    rm -r "$COPY"
    cat /dev/zero > "$PLACE/filling" 2>/dev/null || true ;;
  tiny)
    mount -t tmpfs -o size=1m tmpfs "$PLACE" ;;
esac
exec "$@"
"""
NEW = ("new", "two", "--task", "text_classification", "--data", "docs/examples/reviews.csv", "-y")
STAGE = ("stage", "ingest", "pipelines/short/params.yaml")
RUN = ("run", "short")


@dataclass(frozen=True)
class Case:
    """A command on a broken disk, its exit code, and what it says."""

    fault: str
    place: str
    command: tuple[str, ...]
    code: int
    says: str = ""

    def __str__(self) -> str:
        return f"{self.fault} {self.place}: {' '.join(self.command[:2])}"


def on_broken(fault: str, place: str, *commands: tuple[str, ...]) -> list[Case]:
    """Return cases of commands that cannot do without a place."""
    says = {"read-only": "Read-only file system", "full": "No space left on device"}[fault]
    return [Case(fault, place, command, 4, says) for command in commands]


CASES = [
    *on_broken("read-only", "data", RUN, STAGE, NEW, ("up",), ("down",), ("retrain", "short")),
    *on_broken("read-only", "data", ("monitor", "short"), ("schedule", "short", "--on-new-data")),
    *on_broken("full", "data", RUN, STAGE, NEW, ("up",)),
    *on_broken("read-only", ".gristmill", NEW, ("keys", "add", "somebody")),
    *on_broken("full", ".gristmill", NEW, ("keys", "add", "somebody")),
    Case("read-only", ".dvc", RUN, 4, "Read-only file system"),
    Case("full", ".dvc", RUN, 4, "No space left on device"),
    Case("full", "data", ("clean-state",), 0),
    Case("full", "data", ("status",), 0),
    # Results never depend on MLflow.
    Case("read-only", "mlflow", STAGE, 0),
    Case("full", "mlflow", STAGE, 0),
    Case("read-only", "mlflow", ("history", "short"), 2, "no versions yet"),
    Case("full", "mlflow", ("status",), 0),
    # Little data needs neither Ray nor shared memory, and no temporary files.
    Case("full", "/dev/shm", STAGE, 0),
    Case("read-only", "/dev/shm", STAGE, 0),
    Case("full", "TMP", STAGE, 0),
    Case("read-only", "TMP", STAGE, 0),
    Case("tiny", "TMP", NEW, 0),
    Case("full", "HOME", STAGE, 0),
    Case("read-only", "HOME", STAGE, 0),
    Case("read-only", "HOME", NEW, 0),
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneStage]:
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("mounts are not allowed here")
    made = OneStage(tmp_path_factory.mktemp("disks"))
    for name in (".gristmill", "data"):
        (made.root / name).mkdir(exist_ok=True)
    (made.root / "mlflow" / "artifacts").mkdir(exist_ok=True)
    yield made
    made.run("components.cli", "down")
    assert not made.project.processes()


def broken(pipeline: OneStage, case: Case, folder: Path) -> tuple[int, str]:
    """Run a command of gristmill while a disk is broken."""
    places = {"TMP": folder / "tmp", "HOME": folder / "home"}
    for place in places.values():
        place.mkdir()
    env = pipeline.project.env | {
        "PLACE": str(places.get(case.place, pipeline.root / case.place)),
        "FAULT": case.fault,
        "COPY": str(folder / "copy"),
        "TMPDIR": str(places["TMP"]),
        "HOME": str(places["HOME"]),
    }
    if case.place != "mlflow":
        # As below gristmill run, whose end writes to MLflow: the stage itself does not.
        env["GRISTMILL_RUN"] = "run-of-the-test"
    words = ["unshare", "--mount", "sh", "-c", NAMESPACE, "sh", sys.executable]
    done = subprocess.run(
        [*words, "-m", "components.cli", *case.command],
        cwd=pipeline.root,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_broken_disk_is_told_in_a_sentence(
    pipeline: OneStage, case: Case, tmp_path: Path
) -> None:
    pipeline.grow()
    code, printed = broken(pipeline, case, tmp_path)
    assert code == case.code, printed
    assert case.says in printed
    assert "Traceback" not in printed
    if case.code == 4:
        assert "\n  -> " in printed or "To go on" in printed
        assert not (pipeline.root / "pipelines" / "two").exists()
    shutil.rmtree(pipeline.root / "pipelines" / "two", ignore_errors=True)


def test_a_full_disk_behind_the_output_is_told(pipeline: OneStage) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "components.cli", "tasks"],
            cwd=pipeline.root,
            env=pipeline.project.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 4 and "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_everything_works_when_the_disks_are_mended(pipeline: OneStage) -> None:
    pipeline.grow()
    for words in (("stage", *STAGE[1:]), NEW, ("status",), ("keys", "add", "somebody")):
        code, printed = pipeline.run("components.cli", *words)
        assert code == 0, printed
