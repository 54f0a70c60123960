"""kill -9 between the end of a stage's work and DVC's lock: nothing is computed twice."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.faults.one_stage import OneStage

pytestmark = pytest.mark.timeout(7200)

MOMENTS = [
    # in the process of the stage, the first one while it has no run in MLflow yet
    "components.orchestration.runner.stage_results:keep_result:return:1",
    "components.orchestration.runner.stage_results:publish_result:call:1",
    "components.orchestration.runner.stage_results:_link_tree:return:1",
    "components.orchestration.untracked_files:record_outputs:return:1",
    "components.orchestration.runner.stage_results:_replace_all:call:1",
    "pathlib:replace:return:4",
    "components.orchestration.runner.stage_results:_replace_all:return:1",
    "components.registry.tracking.runs:finish:call:1",
    "components.registry.tracking.runs:finish:return:1",
    "components.orchestration.runner.stage_results:mark_tracked:return:1",
    "components.orchestration.runner.stage_results:keep_only_result:return:1",
    "components.orchestration.runner.resumable_state:clear_others:return:1",
    "components.orchestration.runner.progress:done:return:1",
    # in the process of DVC
    "dvc.stage.run:_run:return:1",
    "dvc.stage:save:call:1",
    "dvc.output:ignore:return:1",
    "dvc.stage:save_outs:return:1",
    "dvc.stage.cache:save:return:1",
    "dvc.output:commit:return:1",
    "dvc.stage:commit:return:1",
    "dvc.dvcfile:dump_stages:call:1",
    "dvc.utils.serialize._yaml:_dump:call:1",
]


DVC = ("components.orchestration.runner.dvc_entry_point", "repro", "pipelines/short/dvc.yaml")
# As below gristmill run, whose end writes to MLflow: here nothing does.
BELOW_RUN = {"GRISTMILL_RUN": "run-of-the-test"}


def lock(pipeline: OneStage) -> str:
    """Return what dvc.lock says of the stage."""
    path = pipeline.root / "pipelines" / "short" / "dvc.lock"
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]["ingest"]["outs"])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneStage]:
    made = OneStage(tmp_path_factory.mktemp("kept"))
    code, printed = made.run(*DVC, **BELOW_RUN)
    assert code == 0, printed
    assert made.computed() == 1
    yield made
    assert not made.project.processes()


def test_kills_before_the_lock_compute_nothing_twice(pipeline: OneStage) -> None:
    # given a source that has changed, and runs that are killed later and later
    pipeline.grow()
    before = lock(pipeline)
    for moment in MOMENTS:
        code, printed = pipeline.run(*DVC, **BELOW_RUN, KILL_AT=moment)
        assert code == -signal.SIGKILL, f"{moment} {printed}"
        # when DVC has not locked the result, then it is computed by the first of them alone
        assert pipeline.computed() == (1 if moment == MOMENTS[0] else 0), moment
        assert lock(pipeline) == before, moment
    # and the last run, which nobody kills, has it
    code, printed = pipeline.run(*DVC, **BELOW_RUN)
    assert code == 0, printed
    assert pipeline.computed() == 0
    assert lock(pipeline) != before
    manifest = json.loads((pipeline.root / "data/short/raw/manifest.json").read_text())
    assert manifest["rows"] == pipeline.rows


def test_a_bare_dvc_finds_the_result_and_the_next_start_drops_it(pipeline: OneStage) -> None:
    # given a killed run of dvc itself
    bare = ("dvc", "repro", "pipelines/short/dvc.yaml")
    pipeline.grow()
    code, _ = pipeline.run(*bare, KILL_AT="components.orchestration.runner.progress:done:return:1")
    assert (code, pipeline.computed()) == (-signal.SIGKILL, 1)
    # when it is run again, then the stage returns at once, and says why
    code, printed = pipeline.run(*bare)
    assert (code, pipeline.computed()) == (0, 0)
    assert "computed before: dvc.lock does not name the result of" in printed
    # and a person who asks for all work gets all work, which is not kept for ever
    code, _ = pipeline.run(*bare, "--force")
    assert (code, pipeline.computed()) == (0, 1)
    code, printed = pipeline.run("components.cli", "run", "short")
    assert not list(pipeline.root.glob("data/short/.state/ingest/*")), printed


def test_an_output_in_git_is_refused_before_the_work(pipeline: OneStage) -> None:
    pipeline.grow()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    add = [*git, "add", "--force", "data/short/raw"]
    subprocess.run(add, cwd=pipeline.root, check=True)
    for words in (("components.cli", "run", "short"), ("dvc", *DVC[1:])):
        code, printed = pipeline.run(*words)
        assert code != 0 and pipeline.computed() == 0
        assert "git rm -r -q --cached -- data/short/raw" in printed
    remedy = ["git", "rm", "-r", "-q", "--cached", "--", "data/short/raw"]
    subprocess.run(remedy, cwd=pipeline.root, check=True)
    code, printed = pipeline.run(*DVC, **BELOW_RUN)
    assert (code, pipeline.computed()) == (0, 1), printed
