"""Order and marks of the tests.

Files that take minutes begin first. Otherwise one process would be left alone with them at the end,
while the others have nothing to do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from components.core.garbage import collect_rarely

# The longest by the wall begin first.
LONG = (
    "faults/test_kills.py",
    "faults/test_kills_of_runs.py",
    "faults/test_kills_of_decisions.py",
    "faults/test_full_disks.py",
    "faults/test_kept_results.py",
    "faults/test_interrupts.py",
    "commands/test_pipeline.py",
    "training/test_nodes.py",
    "tune/test_search.py",
    "orchestration/test_version_files_process.py",
    "structure/test_linters.py",
    "serving/test_deploy.py",
    "commands/test_bad_params.py",
    "registry/test_migration.py",
    "commands/test_bad_input.py",
    "orchestration/test_new_tables.py",
    "compress/test_recipe_runs.py",
    "commands/test_odd_input.py",
    "training/test_sharding.py",
    "models/test_padding.py",
    "orchestration/test_export.py",
    "orchestration/test_onnx_exports.py",
    "orchestration/test_new.py",
    "registry/test_review.py",
    "structure/test_task_in_a_folder.py",
    "orchestration/test_monitor.py",
    "orchestration/test_hostile_text.py",
    "orchestration/test_exchanged_bundles.py",
    "compress/test_recipes.py",
    "tables/test_table_models.py",
    "training/test_random_kills.py",
    "components/orchestration/test_closed_loop.py",
)
# Long tests of kills, lost nodes and broken disks: `make test-faults` runs them, `make test` does not.
FAULTS = (
    "tests/faults/",
    "orchestration/test_random_candidates.py",
    "orchestration/test_restart_of_service.py",
    "orchestration/test_service.py",
    "training/test_nodes.py",
    "training/test_random_kills.py",
    "tune/test_multi_worker_trial.py",
    "test_cluster.py::test_a_killed_supervisor_is_made_up_for_by_the_next_start",
    "test_runs.py::test_a_killed_stage_goes_on_with_its_run_and_no_point_is_there_twice",
    "test_altered_models.py::test_what_does_not_end_is_ended",
    "test_fit.py::test_a_killed_fit_ends_as_the_undisturbed_one",
    "test_release_events.py::test_a_kill_loses_no_message",
    "test_restore.py::test_a_kill_leaves_the_old_store_or_the_new_one_whole",
    "test_retrain.py::test_killed_in_its_first_stage_and_in_its_last_it_goes_on_and_releases_once",
    "test_retrain.py::test_what_is_stopped_or_killed_leaves_one_record_no_process_and_is_gone_on_from",
    "test_review.py::test_a_kill_between_record_and_move_is_mended_by_the_next_call",
    "test_review.py::test_releases_at_once_by_several_processes_all_stand_in_one_line",
    "test_batch.py::test_a_kill_in_the_middle_costs_no_finished_part",
    "test_population.py::test_the_worst_go_on_from_the_best_and_a_killed_search_comes_to_the_same",
    "test_search.py::test_a_trial_that_hangs_is_ended_and_burns_no_cpu",
    "test_search.py::test_a_trial_that_raises_is_recorded_and_the_search_goes_on",
    "test_search.py::test_a_trial_whose_worker_is_lost_is_begun_again",
    "test_single_worker.py::test_a_real_worker_that_is_killed_goes_on_at_its_last_checkpoint",
)

# Files whose tests reach a Ray with a token, from the test's own process. Ray keeps the first token,
# so they run in a process of their own: `make test-cluster`.
CLUSTER = (
    "orchestration/test_closed_loop.py",
    "orchestration/test_cluster.py",
    "orchestration/test_haproxy.py",
    "orchestration/test_pull_command.py",
    "orchestration/test_random_candidates.py",
    "orchestration/test_restart_of_service.py",
    "orchestration/test_retrain.py",
    "orchestration/test_service.py",
    "orchestration/test_storage.py",
)

# The stages have one thread too, see `execute_here`. Threads that wait for each other would take more
# CPU than the small sums of the tests. The processes that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Each dvc of a test would start a process that reports on it to DVC's makers.
os.environ["DVC_NO_ANALYTICS"] = "1"

# A pytest process holds millions of objects, and each full collection would visit them all.
collect_rarely()

# The bytecode of tests and modules is kept even where PYTHONDONTWRITEBYTECODE is set. The processes
# that tests start, and the next run, read it and compile nothing.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files unread that have no test with a mark that `-m` asks for."""
    if collection_path.suffix != ".py":
        return None
    asked = config.option.markexpr.split(" and ")
    path = collection_path.as_posix()
    for mark, names in (("faults", FAULTS), ("cluster", CLUSTER)):
        files = [name.partition("::")[0] for name in names]
        if mark in asked and not any(file in path for file in files):
            return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of faults and of clusters, and sort the files of LONG to the front."""
    for item in items:
        nodeid = item.nodeid
        if any(name in nodeid for name in CLUSTER):
            item.add_marker("cluster")
        if any(name in nodeid for name in FAULTS):
            item.add_marker("faults")
    paths = {item.path for item in items}
    order = {path: _order_of(path) for path in paths}
    items.sort(key=lambda item: order[item.path])


def _order_of(path: Path) -> int:
    """Return the index of a file in LONG, or a larger number."""
    matches = [index for index, name in enumerate(LONG) if path.as_posix().endswith(name)]
    return min(matches, default=len(LONG))
