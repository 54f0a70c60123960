"""SIGTERM and Ctrl-C while a stage is in code that sees no signal: it ends soon, and says how to go on."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from components.orchestration import interrupt
from tests.faults.one_stage import OneStage

pytestmark = pytest.mark.timeout(900)
STAGE = ("components.cli", "stage", "ingest", "pipelines/short/params.yaml")
RUN = ("components.cli", "run", "short")
NUMPY = "numpy"
LOCK = "holds the lock of the interpreter"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> OneStage:
    return OneStage(tmp_path_factory.mktemp("interrupts"))


def wait_for_work(pipeline: OneStage, process: subprocess.Popen[str]) -> None:
    """Wait until the component runs."""
    deadline = time.monotonic() + 200
    while not pipeline.counts.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pipeline.counts.unlink()
    time.sleep(0.5)


@pytest.mark.parametrize(
    ("words", "number", "slow", "resume"),
    [
        (STAGE, signal.SIGTERM, NUMPY, "dvc repro pipelines/short/dvc.yaml:ingest"),
        (STAGE, signal.SIGINT, NUMPY, "dvc repro pipelines/short/dvc.yaml:ingest"),
        (RUN, signal.SIGTERM, NUMPY, "gristmill run short"),
        (RUN, signal.SIGINT, LOCK, "gristmill run short"),
    ],
)
def test_a_stage_in_long_code_ends_and_says_how_to_go_on(
    pipeline: OneStage, words: tuple[str, ...], number: signal.Signals, slow: str, resume: str
) -> None:
    process = pipeline.start(*words, SLOW=slow)
    wait_for_work(pipeline, process)
    began = time.monotonic()
    process.send_signal(number)
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == interrupt.EXIT_CODE, printed
    assert f"To go on: {resume}" in printed
    assert printed.count("To go on") == 1
    assert "Traceback" not in printed and "@     0x" not in printed
    assert not pipeline.project.processes()


# bash becomes the stage; dash waits for it.
@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_stage_ends_with_the_dvc_that_called_it(pipeline: OneStage, shell: str) -> None:
    words = ("dvc", "repro", "pipelines/short/dvc.yaml")
    process = pipeline.start(*words, SLOW=NUMPY, SHELL=shell)
    wait_for_work(pipeline, process)
    began = time.monotonic()
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert "@     0x" not in printed
    assert not pipeline.project.processes()


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_stage_ends_with_a_run_that_was_killed(pipeline: OneStage, shell: str) -> None:
    process = pipeline.start(*RUN, SLOW=NUMPY, SHELL=shell)
    wait_for_work(pipeline, process)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while pipeline.project.processes():
        assert time.monotonic() < deadline, pipeline.project.processes()
        time.sleep(0.2)


def test_a_stage_on_ray_ends_without_a_stack_trace(pipeline: OneStage) -> None:
    pipeline.project.edit("pipelines/short/params.yaml", {"cluster": {"in_process_rows": 0}})
    process = pipeline.start(*STAGE, SLOW=NUMPY)
    wait_for_work(pipeline, process)
    began = time.monotonic()
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == interrupt.EXIT_CODE, printed
    assert "To go on: dvc repro" in printed
    assert "@     0x" not in printed and "Traceback" not in printed
    deadline = time.monotonic() + 20
    while pipeline.project.processes():
        assert time.monotonic() < deadline, pipeline.project.processes()
        time.sleep(0.2)
