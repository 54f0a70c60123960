"""`gristmill retrain`: run a pipeline on new data, in a copy of the project, through the gates.

It is safe under cron: it does nothing, or all of it, or records why it did not.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256 as digest_of
from pathlib import Path
from typing import Any

from components.core.errors import EnvironmentFault, GristmillError, InputError
from components.core.files import sha256, write_atomic
from components.core.tables import MANIFEST
from components.core.terminal import print_line
from components.orchestration import webhooks
from components.orchestration.locks import only_one
from components.orchestration.pipeline_params import Params, load
from components.orchestration.processes import end_with_parent, identify
from components.orchestration.project import pipeline_files
from components.orchestration.release_events import send_events
from components.orchestration.retraining import project_copy, stored_split
from components.orchestration.retraining.pipeline_inputs import read_inputs
from components.orchestration.retraining.pipeline_output import PipelineResult, follow
from components.orchestration.retraining.retrain_log import (
    RetrainLog,
    champion,
    end,
    new_record,
    now,
)
from components.orchestration.retraining.run_record import RUN
from components.orchestration.runner.pull import pull_first
from components.orchestration.runner.run import RESUME_COMMAND
from components.orchestration.runner.summary import report_path, review_command
from components.orchestration.stage_files import REPORT
from components.registry.release.retrain_record import (
    DONE,
    RetrainRecord,
    completed_retrain,
    last_done,
    retrains,
    truncate_columns,
)
from components.registry.versions.reader import RegistrySnapshot, read_snapshot
from components.stages.ingest.params import IngestParams, Mlflow, Sql
from components.stages.ingest.survey import changes

_NOTHING = "nothing new since the {what} of {began} ({outcome}): the same data, code and params"
_NEEDS_REVIEW = ("waiting", "refused", "rejected")
# The exit code of a process that SIGINT ended.
_INTERRUPTED = 130


def retrain(
    root: Path,
    name: str,
    trigger: str = "by hand",
    accept_source: bool = False,
) -> int:
    """Run a pipeline on its source if the source, the code or the params are new.

    Args:
        root: of the project; its working tree stays as it is.
        name: of the pipeline.
        trigger: the reason, for the record.
        accept_source: use the source even if it has shrunk or its columns have changed.

    Returns:
        The exit code.

    Raises:
        ParamsError: params.yaml is wrong.
        InputError: the source is away, has shrunk, or its columns have changed.
        EnvironmentFault: another retrain is under way, too little disk, no git, the registry does
            not answer.
    """
    file = pipeline_files(root, name)[0]
    params = load(file, shown=file.relative_to(root).as_posix())
    with only_one(root / "data" / ".state" / "retrain.lock", "a retrain of this project"):
        send_events(root, params)
        log = RetrainLog(root, name)
        _report_killed(params, log)
        snapshot = read_snapshot(root, name)
        attempt = _Attempt(
            root=root,
            params=params,
            log=log,
            snapshot=snapshot,
            past=retrains(snapshot) if snapshot else [],
            record=_draft(params, trigger, snapshot),
        )
        try:
            return attempt.run(accept_source)
        except Exception as error:
            attempt.record_failure(error)
            raise


def fresh(root: Path, name: str) -> str | None:
    """Return a digest of the inputs of a retrain. None: nothing is new.

    Args:
        root: of the project.
        name: of the pipeline.

    Raises:
        GristmillError: the params, the source or the registry cannot be read.
    """
    file = pipeline_files(root, name)[0]
    params = load(file, shown=file.relative_to(root).as_posix())
    pull_first(root, params)
    draft = _draft(params, trigger="", snapshot=None)
    record, _, _ = read_inputs(root, params, draft)
    snapshot = read_snapshot(root, name)
    if snapshot and completed_retrain(retrains(snapshot), record.inputs):
        return None
    return digest_of("\n".join(record.inputs).encode()).hexdigest()


def pulled(root: Path, name: str) -> bool:
    """Return whether the source is pulled. Each pull is complete.

    Args:
        root: of the project.
        name: of the pipeline.

    Raises:
        ParamsError: params.yaml is wrong.
    """
    params = load(pipeline_files(root, name)[0])
    ingest: IngestParams = params.sections["ingest"]  # type: ignore[assignment]
    return isinstance(ingest.source, (Sql, Mlflow))


def keep_report(root: Path, copy: Path, params: Params, record: RetrainRecord) -> str | None:
    """Copy the report of a retrain to the project before the copy of the project is deleted.

    Args:
        root: of the project.
        copy: of the project, in which the retrain ran.
        params: of the pipeline.
        record: of the retrain.

    Returns:
        The path of the report relative to the project. None: the retrain has written no report, or
        it cannot be copied. A model is valid without its report.
    """
    report = copy / params.pipeline.data / REPORT
    if not record.version or not report.is_file():
        return None
    relative = report_path(params.name, record.version)
    try:
        content = report.read_bytes()
        target = root / relative
        if target.is_file() and target.read_bytes() != content:
            # A report of an earlier retrain, or one that a person edited, is not replaced.
            relative = f"{relative.removesuffix('.html')}-{record.id}.html"
        write_atomic(root / relative, content)
    except (OSError, EnvironmentFault) as error:
        print_line(f"the report could not be kept: {error}", err=True)
        return None
    return relative


def summary_line(name: str, record: RetrainRecord) -> str:
    """Return one line on how a retrain ended.

    Args:
        name: of the pipeline.
        record: of the retrain.
    """
    outcome = record.outcome
    if record.version:
        outcome = f"version {record.version}: {outcome}"
    if record.detail:
        outcome += f" ({record.detail})"
    seconds = sum(record.seconds.values())
    return f"retrain of {name}: {outcome}; {_champion_sentence(record)}; {seconds:.0f} s"


def _champion_sentence(record: RetrainRecord) -> str:
    if not record.after:
        return "there is no champion"
    if record.after == record.before:
        return f"version {record.after} stays champion"
    return f"champion is version {record.after} now"


@dataclass
class _Attempt:
    """Runs one retrain and records how it ended.

    Args:
        root: of the project.
        params: of the pipeline.
        log: of the pipeline's retrains.
        snapshot: the registry's records of the pipeline; None: there are none.
        past: the retrains before this one, oldest first.
        record: of this retrain, as far as it has come.
    """

    root: Path
    params: Params
    log: RetrainLog
    snapshot: RegistrySnapshot | None
    past: Sequence[RetrainRecord]
    record: RetrainRecord

    def run(self, accept_source: bool) -> int:
        """Check the inputs, then run the pipeline. Return the exit code.

        Args:
            accept_source: use the source even if it has shrunk or its columns have changed.
        """
        pull_first(self.root, self.params)
        self.record, survey, left_out = read_inputs(self.root, self.params, self.record)
        previous = completed_retrain(self.past, self.record.inputs)
        if previous:
            print_line(
                _NOTHING.format(
                    what=_kind(previous), began=previous.began, outcome=previous.outcome
                )
            )
            return 0
        self._report_left_out(left_out)
        last = last_done(self.past)
        if last and not accept_source:
            _check_source(self.params, last, self.record)
        if self.snapshot is None or not self.snapshot.versions:
            print_line(
                f"pipeline {self.params.name} has no model yet: this retrain trains from nothing, "
                "and there is no champion to compare with"
            )
        project_copy.check_disk(self.root, self.params, survey.bytes)
        split = stored_split.find_split(self.root, self.params, self.log.folder, self.snapshot)
        self.record = replace(self.record, split=split.stem if split else "")
        self.log.begin(self.record)
        return self._run_pipeline(split, survey.pin)

    def record_failure(self, error: Exception) -> None:
        """Record why nothing ran. The same failure is recorded once, not at each call of cron.

        Args:
            error: the reason.
        """
        record = replace(
            self.record,
            outcome="source refused" if isinstance(error, InputError) else "failed",
            detail=_error_text(error),
            ended=now(),
        )
        if self.past and _same_failure(self.past[-1], record):
            return
        try:
            self.log.close(record)
        # The caller prints the error itself in any case.
        except EnvironmentFault as fault:
            print_line(f"this could not be recorded: {fault.what}", err=True)
        webhooks.notify(self.params.retrain.webhook, self.params.name, record)

    def _report_left_out(self, left_out: Sequence[str]) -> None:
        if not left_out:
            return
        shown = ", ".join(left_out[:5])
        if len(left_out) > 5:
            shown += " …"
        print_line(f"changes that are not committed are left out: {shown}")

    def _run_pipeline(self, split: Path | None, feedback: str) -> int:
        """Run the pipeline in a copy of the project and record its result."""
        copy = self._make_copy(split, feedback)
        result = _run_in_copy(copy, self.params.name, self.log, self.record)
        end(self.root, self.params.name, None)
        record = replace(self.record, seconds=result.seconds, ended=now())
        record = _with_outcome(self.root, copy, self.params, record, result)
        is_done = record.outcome in DONE
        report = None
        if is_done:
            stored_split.store_split(copy, self.params, self.log.folder)
            report = keep_report(self.root, copy, self.params, record)
        self.log.close(record)
        if is_done:
            project_copy.remove_copy(copy)
        self._report(record, report)
        if is_done:
            return 0
        return result.code if result.code > 0 else EnvironmentFault.exit_code

    def _make_copy(self, split: Path | None, feedback: str) -> Path:
        inputs = (self.record.commit, self.record.split, *self.record.inputs)
        plan = digest_of("\n".join(inputs).encode()).hexdigest()
        copy, resumes = project_copy.make_copy(
            self.root, self.params, self.record.commit, plan, split, feedback
        )
        verb = "goes on" if resumes else "runs"
        print_line(
            f"{verb} in {copy.relative_to(self.root.resolve())}, "
            f"code of {self.record.commit[:12]}; log {self.log.log_file.relative_to(self.root)}"
        )
        return copy

    def _report(self, record: RetrainRecord, report: str | None) -> None:
        print_line(summary_line(self.params.name, record))
        if report:
            print_line(f"report {report}")
        if record.version and record.outcome in _NEEDS_REVIEW:
            print_line(f"next: {review_command(self.params.name, record.version)}")
        webhooks.notify(self.params.retrain.webhook, self.params.name, record)


def _report_killed(params: Params, log: RetrainLog) -> None:
    """Complete the record of a retrain that was killed, and report it."""
    killed = log.complete_killed()
    if not killed:
        return
    print_line(
        f"the retrain of {killed.began} was killed {killed.detail}; what it had finished is kept"
    )
    webhooks.notify(params.retrain.webhook, params.name, killed)


def _draft(params: Params, trigger: str, snapshot: RegistrySnapshot | None) -> RetrainRecord:
    """Return the record of a retrain that has just begun."""
    champion_number = None
    if snapshot:
        champion_number = snapshot.aliases.get("champion")
    return new_record(
        trigger,
        params=params.digest_up_to("serve"),
        before=champion_number,
        after=champion_number,
    )


def _kind(record: RetrainRecord) -> str:
    return "run" if record.trigger == RUN else "retrain"


def _check_source(params: Params, last: RetrainRecord, record: RetrainRecord) -> None:
    """Raise an error if the source has shrunk or its columns have changed.

    Raises:
        InputError: it has.
    """
    columns = truncate_columns(record.columns, last.width)
    differences = changes(last.rows, last.columns, record.rows, columns, params.retrain.min_rows)
    if not differences:
        return
    raise InputError(
        f"is not what it was at the {_kind(last)} of {last.began}: {'; '.join(differences)}",
        where=f"{params.pipeline.params}: ingest.source",
        remedy=f"mend the source; if it is right as it is: {_command(params.name)} --accept-source",
    )


def _command(name: str) -> str:
    """Return the command that retrains a pipeline."""
    return "gristmill retrain" if name == "default" else f"gristmill retrain {name}"


def _run_in_copy(copy: Path, name: str, log: RetrainLog, record: RetrainRecord) -> PipelineResult:
    """Run the pipeline in the copy and follow its log.

    SIGINT and SIGTERM are passed on. If this process is killed, the kernel ends the pipeline too.
    """
    process = _start_pipeline(copy, name, log)
    child = identify(process.pid)
    interrupted = False

    def stop(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        process.terminate()

    handlers = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        log.begin(record, child)
        result = follow(
            process, log.log_file, lambda stage, seconds: log.begin(record, child, seconds, stage)
        )
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
        end(log.root, log.pipeline, child)
    if interrupted:
        return replace(result, code=_INTERRUPTED)
    return result


def _start_pipeline(copy: Path, name: str, log: RetrainLog) -> subprocess.Popen[bytes]:
    log.log_file.parent.mkdir(parents=True, exist_ok=True)
    with log.log_file.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "components.cli", "run", name],
            cwd=copy,
            env={**project_copy.environment(copy), RESUME_COMMAND: _command(name)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )


def _with_outcome(
    root: Path, copy: Path, params: Params, record: RetrainRecord, result: PipelineResult
) -> RetrainRecord:
    """Return the record with its outcome, from the copy's reports and the registry."""
    manifest = copy / params.pipeline.data / "clean" / MANIFEST
    record = replace(
        record,
        data=sha256(manifest) if manifest.is_file() else "",
        after=champion(root, params.name),
    )
    if result.code:
        where = f"in stage {result.stage}: " if result.stage else ""
        return replace(
            record,
            outcome="stopped" if result.code == _INTERRUPTED else "failed",
            detail=where + (result.error or f"exit code {result.code}"),
        )
    report = copy / params.pipeline.data / "reports" / "serve.json"
    served: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    refused = [
        gate for gate, verdict in served["gates"].items() if verdict in ("refused", "borderline")
    ]
    outcome = served["decision"]
    detail = ", ".join(refused)
    # DVC has run the same before and took the result of its cache.
    if "serve" not in result.seconds:
        outcome = "unchanged"
        detail = "DVC knew the result of every stage"
    return replace(record, outcome=outcome, detail=detail, version=served["version"])


def _error_text(error: Exception) -> str:
    if not isinstance(error, GristmillError):
        return f"{type(error).__name__}: {error}"
    if error.where:
        return f"{error.where}: {error.what}"
    return error.what


def _same_failure(last: RetrainRecord, record: RetrainRecord) -> bool:
    return (
        last.outcome == record.outcome
        and last.detail == record.detail
        and last.inputs == record.inputs
    )
