"""One stage as one Ray task: params -> inputs -> component -> outputs, which appear whole or not at all."""

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
from components.core.job import Job
from components.orchestration import interrupt
from components.orchestration.git import Checkout, checkout, refusal_text
from components.orchestration.pipeline_params import Params, load
from components.orchestration.processes import identify
from components.orchestration.runner.resumable_state import (
    cache_folder,
    clear_others,
    note,
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

_SHORT_S = 20.0
# How dvc is called: by a person, and by `gristmill run`.
_DVC = ("dvc", "components.orchestration.runner.dvc_repro")


def run_stage(root: Path, name: str, params_file: str, fresh: bool = False) -> None:
    """Run a stage in its own process, as DVC calls it.

    A result that an earlier run computed, but that `dvc.lock` does not name, is taken as it is.

    Args:
        root: of the project, absolute.
        name: of the stage.
        params_file: relative to the root.
        fresh: discard resumable state first.

    Raises:
        GristmillError: whatever a person can mend.
    """
    from components.orchestration.locks import only_one
    from components.orchestration.runner.dvc_lock import save_lock
    from components.orchestration.runner.gitignore import check_not_in_git, ignore_outputs
    from components.orchestration.runner.in_process import runs_in_process
    from components.orchestration.runner.progress import Watcher

    started = time.monotonic()
    params = load(root / params_file, shown=params_file)
    interrupt.resume_with(repro(params, name))
    _end_with_dvc()
    stage, data = STAGES[name], root / params.pipeline.data
    inputs = {each: data / path for each, path in stage.inputs.items()}
    _check_inputs(root, params, name, inputs)
    outputs = {each: data / path for each, path in stage.outputs.items()}
    state, memo = state_folder(root, params, name, inputs), cache_folder(root, params, name)
    if fresh:
        _discard(state, memo)
    alone = runs_in_process(params, name, data, root)
    note(state, {"stage": name, "pipeline": params.name, "params": params_file})
    with only_one(data / ".state" / f"{name}.lock", f"stage {name} of pipeline {params.name}"):
        _check_outputs(root, params, name)
        check_not_in_git(root, params.pipeline.data, [name], again=repro(params, name))
        ignore_outputs(root, params.pipeline.data)
        save_lock(root, params)
        earlier, key = _earlier_result(root, params, name, state)
        job = _job(root, params, name, inputs=inputs, state=state, memo=memo)
        call = _Call(root, params, job, outputs, key, alone, Watcher(name))
        if earlier is not None and earlier.is_tracked:
            result = earlier
            _publish(call, result)
        else:
            result = _tracked(call, earlier)
    keep_only_result(state)
    clear_others(state)
    how = "without Ray" if alone else ""
    if earlier is not None:
        ended = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(result.ended))
        how = f"computed before: dvc.lock does not name the result of {ended} yet"
    call.watcher.done(time.monotonic() - started, result.work_s, how)


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
    alone: bool
    watcher: Watcher


def _tracked(call: _Call, result: Result | None) -> Result:
    """Compute a result, if there is none yet, and publish it, while MLflow follows."""
    from components.registry.tracking.runs import track

    root, params, job = call.root, call.params, call.job
    code = checkout(root)
    tags = run_tags(root, params, job.stage, code)
    with (
        call.watcher,
        track(
            root,
            params.name,
            job.stage,
            run_token(),
            job.journal.path,
            job.state / "mlflow.json",
            tags=tags,
            params=_flat(job.params.model_dump(mode="json"), f"{job.stage}."),
            show=call.watcher.show,
            defer=_deferral(),
        ) as tracker,
    ):
        if code.refusal and _first_of_run(root, "git-refused"):
            call.watcher.show({"kind": "warning", "text": refusal_text(code.refusal)})
        result = result or _compute(call, tags, tracker)
        _publish(call, result)
        files = call.outputs.values()
        tracker.log_files(*(path for path in files if path.suffix in (".json", ".csv", ".html")))
    result.mark_tracked()
    return result


def _earlier_result(
    root: Path, params: Params, stage: str, state: Path
) -> tuple[Result | None, str]:
    """Return the result of an earlier run that `dvc.lock` does not name, and the key of results."""
    if not os.environ.get("GRISTMILL_RUN"):
        # A release is not made up from a result that DVC has seen already.
        running = "" if STAGES[stage].registers else stage
        drop_locked_results(root, params, running=running)
    key = result_key(root, params, stage)
    discard_scratch(state)
    if _is_forced():
        discard_result(state)
    return find_result(state, key), key


def _compute(call: _Call, tags: Mapping[str, str], tracker: Tracker) -> Result:
    """Run the component of a stage, and keep what it wrote."""
    from components.orchestration.cluster.shared_storage import check_storage
    from components.orchestration.runner.in_process import execute_here

    job, stage = call.job, STAGES[call.job.stage]
    work = execute_here if call.alone else _run_as_task
    with _ray(call.root, job.stage, call.alone):
        if not call.alone:
            check_storage(call.params.cluster.storage, call.root)
        run_id = tracker.run_id() or "" if stage.registers else ""
        twins = make_twins(job.state, call.outputs)
        began = time.monotonic()
        try:
            work(replace(job, outputs=twins, tags={**tags, "run_id": run_id}))
            seconds = time.monotonic() - began
            return keep_result(job.state, call.key, call.root, call.outputs, seconds)
        finally:
            discard_scratch(job.state)


def _publish(call: _Call, result: Result) -> None:
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
    memo: Path | None,
) -> Job:
    """Return the job of a stage, without outputs and tags."""
    return Job(
        stage=stage,
        task=params.task,
        seed=params.seed,
        root=root,
        params=params.sections[stage],
        sections={each: params.sections[each] for each in STAGES[stage].sections},
        inputs=inputs,
        outputs={},
        state=state,
        cache=memo,
    )


def _check_inputs(root: Path, params: Params, stage: str, inputs: Mapping[str, Path]) -> None:
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

    DVC has deleted this stage's outputs already, but not those of the stages behind it.

    Raises:
        InputError: such a file lies in an output.
    """
    from components.orchestration.untracked_files import check_untracked

    check_untracked(
        root,
        params.name,
        params.pipeline.data,
        (root / params.pipeline.params).with_name("dvc.lock"),
        again=repro(params, stage),
        stages=list(STAGES)[list(STAGES).index(stage) :],
    )


def _discard(state: Path, memo: Path | None) -> None:
    """Delete the resumable state of a stage, and what it remembers of earlier runs."""
    for folder in (state, memo):
        if folder:
            remove_tree(folder.parent, within=folder.parent.parent)


@contextmanager
def _ray(root: Path, stage: str, alone: bool) -> Iterator[None]:
    """Connect to Ray while the block runs; for a stage that needs none only begin to start it."""
    from components.orchestration.cluster.local_cluster import attached, owner_of_stage
    from components.orchestration.runner.in_process import start_ray_early

    if alone:
        start_ray_early(stage, root, owner_of_stage())
        yield
        return
    with attached(root, owner_of_stage()):
        yield


def _run_as_task(job: Job) -> None:
    """One Ray task on the driver's own node: its paths are this machine's."""
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(execute)
    try:
        ray.get(task.remote(job))
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except RayError as error:  # the worker or its node has died: not the input's fault
        reason = str(error).strip().splitlines()[0][:200]
        remedy = "the same command goes on where it stopped; if it happens again, memory is short (gristmill doctor)"
        raise EnvironmentFault(
            f"the stage was cut off: {reason}", where=job.stage, remedy=remedy
        ) from None


def execute(job: Job) -> None:
    """The component, in a Ray worker."""
    importlib.import_module(f"components.stages.{job.stage}.stage").run(job)


def _deferral() -> float:
    """Return how long a stage does without MLflow, in seconds. `gristmill run` writes what waits when it ends; whoever calls DVC alone has it at once."""
    return _SHORT_S if os.environ.get("GRISTMILL_RUN") else 0.0


def run_token() -> str:
    """One name for all stages of a pipeline run: `gristmill run` gives one, else it is the dvc process above us."""
    given = os.environ.get("GRISTMILL_RUN")
    if given:
        return given
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
    process = identify(dvc.pid) if dvc else None
    if process is not None:
        interrupt.end_with(process)


def _is_forced() -> bool:
    """Return whether a person told dvc to run stages that have not changed: `dvc repro -f`."""
    dvc = _dvc_process()
    with suppress(psutil.Error):
        for word in dvc.cmdline() if dvc else ():
            is_short = word.startswith("-") and not word.startswith("--")
            if word == "--force" or (is_short and "f" in word):
                return True
    return False


def _first_of_run(root: Path, name: str) -> bool:
    """Return whether no stage of this run has come here before, and remember that one has."""
    marker = root / "data" / ".state" / name
    token = run_token()
    with suppress(OSError, ValueError):
        if marker.read_text(encoding="utf-8") == token:
            return False
    with suppress(OSError):
        marker.write_text(token, encoding="utf-8")
    return True


def run_tags(root: Path, params: Params, stage: str, code: Checkout) -> dict[str, str]:
    """What a run is tagged with: never part of a bundle, or every commit would re-run what follows."""
    lock = (root / params.pipeline.params).with_name("dvc.lock")
    tags = {
        "params_hash": params.digest_up_to(stage),
        "task": params.task,
        "git_commit": code.commit,
        "git_dirty": code.dirty,
        "dvc_lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "",
        "pipeline": params.name,
        "params_file": params.pipeline.params,
        "experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    manifest = root / params.pipeline.data / "clean" / "manifest.json"
    if stage not in ("ingest", "clean") and manifest.exists():
        tags["data_hash"] = hashlib.sha256(manifest.read_bytes()).hexdigest()
    return tags


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested params as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat


def repro(params: Params, stage: str) -> str:
    """The command that brings a stage of this pipeline up to date."""
    where = Path(params.pipeline.params).with_name("dvc.yaml").as_posix()
    return f"dvc repro {stage}" if where == "dvc.yaml" else f"dvc repro {where}:{stage}"
