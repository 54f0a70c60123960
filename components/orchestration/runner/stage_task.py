"""Run one stage: params -> inputs -> component -> outputs, which appear whole or not at all.

The component runs as one Ray task, or in this process.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from components.core.errors import EnvironmentFault, InputError
from components.core.files import remove_tree
from components.core.garbage import collect_rarely
from components.core.job import Job
from components.core.workspace import home
from components.orchestration import interrupt
from components.orchestration.git import Checkout, checkout, refusal_text
from components.orchestration.pipeline_params import Params, load
from components.orchestration.processes import identify
from components.orchestration.runner.resumable_state import (
    annotate,
    cache_folder,
    clear_others,
    state_folder,
)
from components.orchestration.runner.stage_results import (
    Result,
    discard_result,
    discard_scratch,
    drop_locked_results,
    find_result,
    keep_only_result,
    keep_result,
    make_twins,
    publish_result,
    result_key,
)
from components.orchestration.stage_files import STAGES

if TYPE_CHECKING:
    from components.orchestration.runner.progress import Watcher
    from components.registry.tracking.runs import Tracker

# Seconds that a stage of `gristmill run` does without MLflow. Its import alone takes 2 s.
_DEFERRAL_S = 60.0
# Characters of Ray's reason in a message.
_LONGEST = 200
# Suffixes of the outputs that MLflow gets.
_REPORTS = (".json", ".csv", ".html")
# Names of dvc in a command line: as a person calls it, and as `gristmill run` does.
_DVC = ("dvc", "components.orchestration.runner.dvc_entry_point")


def run_stage(root: Path, name: str, params_file: str, fresh: bool = False) -> None:
    """Run a stage in its own process, as DVC calls it.

    A result that an earlier run computed, but that `dvc.lock` does not name, is used unchanged.

    Args:
        root: of the project, absolute.
        name: of the stage.
        params_file: relative to the root.
        fresh: discard resumable state first.

    Raises:
        GristmillError: of any kind that a person can correct.
    """
    from components.orchestration.locks import only_one
    from components.orchestration.release_events import send_events
    from components.orchestration.runner.dvc_lock import save_lock
    from components.orchestration.runner.gitignore import check_not_in_git, ignore_outputs
    from components.orchestration.runner.in_process import NEEDS_RAY, runs_in_process
    from components.orchestration.runner.progress import Watcher

    started = time.monotonic()
    params = load(root / params_file, shown=params_file)
    command = repro(params, name)
    interrupt.resume_with(command)
    _end_with_dvc()
    data = root / params.pipeline.data
    inputs = _paths(data, STAGES[name].inputs)
    _check_inputs(root, params, name, inputs)
    outputs = _paths(data, STAGES[name].outputs)
    state = state_folder(root, params, name, inputs)
    cache = cache_folder(root, params, name)
    if fresh:
        _discard(state, cache)
    in_process = runs_in_process(params, name, data, root)
    annotate(state, {"stage": name, "pipeline": params.name, "params": params_file})
    with only_one(data / ".state" / f"{name}.lock", f"stage {name} of pipeline {params.name}"):
        _check_outputs(root, params, name)
        check_not_in_git(root, params.pipeline.data, [name], again=command)
        ignore_outputs(root, params.pipeline.data)
        save_lock(root, params)
        earlier, key = _earlier_result(root, params, name, state)
        call = _Call(
            root=root,
            params=params,
            job=_job(root, params, name, inputs=inputs, state=state, cache=cache),
            outputs=outputs,
            key=key,
            in_process=in_process,
            watcher=Watcher(name),
        )
        if STAGES[name].registers:
            send_events(root, params)
        result = _result(call, earlier)
        if STAGES[name].registers:
            send_events(root, params)
    keep_only_result(state)
    clear_others(state)
    how = _how(earlier, without_ray=in_process and name not in NEEDS_RAY)
    call.watcher.done(time.monotonic() - started, result.work_s, how)


def _paths(data: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """Return inputs or outputs: name -> absolute path."""
    return {name: data / path for name, path in names.items()}


def _how(earlier: Result | None, *, without_ray: bool) -> str:
    """Return how a stage ran, for its last line; "" where nothing is special."""
    if earlier is not None:
        ended = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(earlier.ended))
        return f"computed before: dvc.lock does not name the result of {ended} yet"
    return "without Ray" if without_ray else ""


@dataclass(frozen=True)
class _Call:
    """One call of a stage."""

    root: Path
    params: Params
    # without outputs and tags, which are added when temporary paths and the id of the run are known
    job: Job
    outputs: Mapping[str, Path]
    # of the result
    key: str
    in_process: bool
    watcher: Watcher


def _result(call: _Call, earlier: Result | None) -> Result:
    """Publish the result of a call, and return it.

    Args:
        call: of the stage.
        earlier: the result of an earlier run; None: the stage computes one.
    """
    if earlier is not None and earlier.is_tracked:
        _publish(call, earlier)
        return earlier
    return _tracked(call, earlier)


def _tracked(call: _Call, result: Result | None) -> Result:
    """Publish a result while MLflow records the run, and return it.

    Args:
        call: of the stage.
        result: of an earlier run; None: the stage computes one.
    """
    from components.registry.tracking.runs import track

    root = call.root
    job = call.job
    code = checkout(root)
    tags = run_tags(root, call.params, job.stage, code)
    tracking = track(
        root,
        call.params.name,
        job.stage,
        run_token(),
        job.journal.path,
        job.state / "mlflow.json",
        tags=tags,
        params=_flat(job.params.model_dump(mode="json"), f"{job.stage}."),
        show=call.watcher.show,
        defer=_deferral(),
    )
    with call.watcher, tracking as tracker:
        if code.refusal and _first_of_run(root, "git-refused"):
            call.watcher.show({"kind": "warning", "text": refusal_text(code.refusal)})
        result = result or _compute(call, tags, tracker)
        _publish(call, result)
        if job.stage == "ingest":
            _log_dataset(call)
        reports = [path for path in call.outputs.values() if path.suffix in _REPORTS]
        tracker.log_files(*reports)
    result.mark_tracked()
    return result


def _log_dataset(call: _Call) -> None:
    """Report the table that ingest wrote, for the runs in MLflow."""
    from components.orchestration.untracked_files import dvc_cache
    from components.registry.tracking.datasets import describe_table, mlflow_fields

    raw = call.outputs["raw"]
    place = home(call.root).resolve() / raw.relative_to(call.root)
    dataset = describe_table(raw, place, dvc_cache(call.root))
    call.job.journal.dataset(mlflow_fields(dataset))


def _earlier_result(
    root: Path, params: Params, stage: str, state: Path
) -> tuple[Result | None, str]:
    """Return the result of an earlier run that `dvc.lock` does not name, and the key of results."""
    if not os.environ.get("GRISTMILL_RUN"):
        # DVC knows the results of its lock. A release needs a new result, so none of these counts.
        running = "" if STAGES[stage].registers else stage
        drop_locked_results(root, params, running=running)
    key = result_key(root, params, stage)
    discard_scratch(state)
    if _is_forced():
        discard_result(state)
    return find_result(state, key), key


def _compute(call: _Call, tags: Mapping[str, str], tracker: Tracker) -> Result:
    """Run the component of a stage, and return what it wrote as a result.

    Args:
        call: of the stage.
        tags: of the run in MLflow.
        tracker: of that run.
    """
    from components.orchestration.cluster.shared_storage import check_storage
    from components.orchestration.runner.in_process import execute_here

    job = call.job
    work = execute_here if call.in_process else _run_as_task
    with _ray(call.root, job.stage, call.in_process):
        if not call.in_process:
            check_storage(call.params.cluster.storage, call.root)
        run_id = ""
        if STAGES[job.stage].registers:
            run_id = tracker.run_id() or ""
        twins = make_twins(job.state, call.outputs)
        began = time.monotonic()
        try:
            work(replace(job, outputs=twins, tags={**tags, "run_id": run_id}))
            seconds = time.monotonic() - began
            return keep_result(job.state, call.key, call.root, call.outputs, seconds)
        finally:
            discard_scratch(job.state)


def _publish(call: _Call, result: Result) -> None:
    """Give the files of a result their names in the workspace, and record them as a run's."""
    from components.orchestration.untracked_files import record_outputs

    def record(twins: Mapping[str, Path]) -> None:
        record_outputs(call.root, call.params.pipeline.data, call.job.stage, twins)

    publish_result(result, call.outputs, record)


def _job(
    root: Path,
    params: Params,
    stage: str,
    *,
    inputs: Mapping[str, Path],
    state: Path,
    cache: Path | None,
) -> Job:
    """Return the job of a stage, without outputs and tags.

    Args:
        root: of the project.
        params: of the pipeline.
        stage: its name.
        inputs: name -> absolute path.
        state: folder of the resumable state.
        cache: folder of results of single rows or files in earlier runs; None: the stage has none.
    """
    return Job(
        stage=stage,
        task=params.task,
        seed=params.seed,
        root=root,
        params=params.sections[stage],
        sections={section: params.sections[section] for section in STAGES[stage].sections},
        inputs=inputs,
        outputs={},
        state=state,
        cache=cache,
    )


def _check_inputs(
    root: Path,
    params: Params,
    stage: str,
    inputs: Mapping[str, Path],
) -> None:
    """Refuse to start a stage before the stages that write its inputs.

    Raises:
        InputError: an input is missing.
    """
    for path in inputs.values():
        if not path.exists():
            raise InputError(
                "is missing: an earlier stage writes it",
                where=str(path.relative_to(root)),
                remedy=repro(params, stage),
            )


def _check_outputs(root: Path, params: Params, stage: str) -> None:
    """Refuse to delete files that no run wrote.

    DVC has deleted this stage's outputs already, but not those of the later stages.

    Raises:
        InputError: such a file lies in an output.
    """
    from components.orchestration.untracked_files import check_untracked

    stages = list(STAGES)
    check_untracked(
        root,
        params.name,
        params.pipeline.data,
        (root / params.pipeline.params).with_name("dvc.lock"),
        again=repro(params, stage),
        stages=stages[stages.index(stage) :],
    )


def _discard(state: Path, cache: Path | None) -> None:
    """Delete the resumable state of a stage and its cache, for all keys."""
    for folder in (state, cache):
        if folder:
            remove_tree(folder.parent, within=folder.parent.parent)


@contextmanager
def _ray(root: Path, stage: str, in_process: bool) -> Iterator[None]:
    """Connect to Ray while the block runs.

    A stage that needs no Ray only begins to start it, for the next stage.
    """
    from components.orchestration.cluster.local_cluster import attached, owner_of_stage
    from components.orchestration.runner.in_process import NEEDS_RAY, start_ray_early

    if in_process and stage not in NEEDS_RAY:
        start_ray_early(stage, root, owner_of_stage())
        yield
        return
    with attached(root, owner_of_stage()):
        yield


def _run_as_task(job: Job) -> None:
    """Run the component as one Ray task, on the driver's node, because its paths lie there.

    Raises:
        EnvironmentFault: the worker or its node ended before the task did.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(execute)
    try:
        ray.get(task.remote(job))
    except RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, Exception) else error) from None
    # The worker or its node has ended, whatever the input was.
    except RayError as error:
        reason = str(error).strip().splitlines()[0][:_LONGEST]
        raise EnvironmentFault(
            f"the stage was cut off: {reason}",
            where=job.stage,
            remedy="the same command goes on where it stopped; "
            "if it happens again, memory is short (gristmill doctor)",
        ) from None


def execute(job: Job) -> None:
    """Run the component of a stage in a Ray worker.

    Args:
        job: of the stage.
    """
    collect_rarely()
    importlib.import_module(f"components.stages.{job.stage}.stage").run(job)


def _deferral() -> float:
    """Return for how long a stage does without MLflow, in seconds.

    `gristmill run` writes to MLflow at its end. A stage that dvc alone calls writes at once.
    """
    return _DEFERRAL_S if os.environ.get("GRISTMILL_RUN") else 0.0


def run_token() -> str:
    """Return one name for all stages of a pipeline run.

    `gristmill run` chooses one. Otherwise the dvc process above this one counts, or this process.
    """
    token = os.environ.get("GRISTMILL_RUN")
    if token:
        return token
    dvc = _dvc_process()
    if dvc is not None:
        return f"dvc-{dvc.pid}-{dvc.create_time():.0f}"
    return f"stage-{os.getpid()}-{psutil.Process().create_time():.0f}"


def _dvc_process() -> psutil.Process | None:
    """Return the dvc process above this one."""
    for parent in psutil.Process().parents():
        with suppress(psutil.Error):
            if any(Path(part).name in _DVC for part in parent.cmdline()[:4]):
                return parent
    return None


def _end_with_dvc() -> None:
    """End this process soon after the dvc that called it."""
    dvc = _dvc_process()
    if dvc is None:
        return
    process = identify(dvc.pid)
    if process is not None:
        interrupt.end_with(process)


def _is_forced() -> bool:
    """Return whether dvc is to run stages that have not changed: `dvc repro -f`."""
    dvc = _dvc_process()
    if dvc is None:
        return False
    with suppress(psutil.Error):
        for word in dvc.cmdline():
            is_short = word.startswith("-") and not word.startswith("--")
            if word == "--force" or (is_short and "f" in word):
                return True
    return False


def _first_of_run(root: Path, name: str) -> bool:
    """Return whether this is the first call in this run, and write that there was one.

    Args:
        root: of the project.
        name: of the marker file.
    """
    marker = root / "data" / ".state" / name
    token = run_token()
    with suppress(OSError, ValueError):
        if marker.read_text(encoding="utf-8") == token:
            return False
    with suppress(OSError):
        marker.write_text(token, encoding="utf-8")
    return True


def run_tags(
    root: Path,
    params: Params,
    stage: str,
    code: Checkout,
) -> dict[str, str]:
    """Return the tags of a run in MLflow.

    They are never part of a bundle. Otherwise each commit would run the later stages again.

    Args:
        root: of the project.
        params: of the pipeline.
        stage: its name.
        code: commit and changes of the project.
    """
    lock = (root / params.pipeline.params).with_name("dvc.lock")
    lock_hash = ""
    if lock.exists():
        lock_hash = hashlib.sha256(lock.read_bytes()).hexdigest()
    tags = {
        "params_hash": params.digest_up_to(stage),
        "task": params.task,
        "git_commit": code.commit,
        "git_dirty": code.dirty,
        "dvc_lock": lock_hash,
        "pipeline": params.name,
        "params_file": params.pipeline.params,
        "experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    manifest = root / params.pipeline.data / "clean" / "manifest.json"
    if stage not in ("ingest", "clean") and manifest.exists():
        tags["data_hash"] = hashlib.sha256(manifest.read_bytes()).hexdigest()
    return tags


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested params under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def repro(params: Params, stage: str) -> str:
    """Return the command that brings a stage of a pipeline up to date.

    Args:
        params: of the pipeline.
        stage: its name.
    """
    dvc_file = Path(params.pipeline.params).with_name("dvc.yaml").as_posix()
    if dvc_file == "dvc.yaml":
        return f"dvc repro {stage}"
    return f"dvc repro {dvc_file}:{stage}"
