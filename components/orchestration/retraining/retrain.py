"""`gristmill retrain`: the pipeline on what is new, in a copy, through the gates. Safe under cron: it does nothing, all of it, or leaves a record of why not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
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
from components.orchestration.retraining import frozen_test, worktree
from components.orchestration.retraining.pipeline_inputs import made_with
from components.orchestration.retraining.pipeline_log import Followed, follow
from components.orchestration.retraining.retrain_records import RetrainLog, champion, end, now
from components.orchestration.retraining.run_record import RUN
from components.orchestration.runner.pull import pull_first
from components.orchestration.runner.run import files_of
from components.orchestration.runner.summary import kept_report, review_command
from components.orchestration.stage_files import REPORT
from components.registry.release.retrain_log import (
    DONE,
    RetrainRecord,
    cut,
    last_done,
    retrains,
    settled,
)
from components.registry.versions.reader import read_snapshot
from components.stages.ingest.params import IngestParams, Sql
from components.stages.ingest.survey import changes

_NOTHING = "nothing new since the {what} of {began} ({outcome}): the same data, code and params"


def retrain(root: Path, name: str, trigger: str = "by hand", accept_source: bool = False) -> int:
    """Run a pipeline on what its source holds now, if that, the code or the params are new. Returns the exit code.

    Args:
        root: of the project; its working tree stays as it is.
        name: of the pipeline.
        trigger: why now, for the record.
        accept_source: take the source as it is, though it has shrunk or its columns have changed.

    Raises:
        ParamsError: params.yaml is wrong.
        InputError: the source is away, has shrunk, or its columns have changed.
        EnvironmentFault: another retrain is under way, too little disk, no git, the registry does not answer.
    """
    file = files_of(root, name)[0]
    params = load(file, shown=file.relative_to(root).as_posix())
    with only_one(root / "data" / ".state" / "retrain.lock", "a retrain of this project"):
        ledger = RetrainLog(root, name)
        if killed := ledger.settle():
            print_line(
                f"the retrain of {killed.began} was killed {killed.detail}; what it had finished is kept"
            )
            webhooks.notify(params.retrain.webhook, name, killed)
        shelf = read_snapshot(root, name)
        past = retrains(shelf) if shelf else []
        first = shelf is None or not shelf.versions
        leading = shelf.aliases.get("champion") if shelf else None
        made = RetrainRecord(
            uuid.uuid4().hex[:12],
            trigger,
            "failed",
            "",
            now(),
            "",
            {},
            "",
            "",
            params.digest_up_to("serve"),
            "",
            0,
            before=leading,
            after=leading,
        )
        try:
            pull_first(root, params)
            made, found, left_out = made_with(root, params, made)
            if before := settled(past, made.inputs):
                print_line(
                    _NOTHING.format(what=_kind(before), began=before.began, outcome=before.outcome)
                )
                return 0
            if left_out:
                print_line(
                    f"changes that are not committed are left out: {', '.join(left_out[:5])}{' …' if len(left_out) > 5 else ''}"
                )
            if (last := last_done(past)) and not accept_source:
                _check_source(params, last, made)
            if first:
                print_line(
                    f"pipeline {name} has no model yet: this retrain trains from nothing, and there is no champion to compare with"
                )
            worktree.check_room(root, params, found.bytes)
            split = frozen_test.find(root, params, ledger.folder, shelf)
            made = replace(made, split=split.stem if split else "")
            ledger.begin(made)
            return _run(root, params, ledger, made, split, found.pin)
        except Exception as error:
            _refused(params, ledger, past, made, error)
            raise


def fresh(root: Path, name: str) -> str | None:
    """A digest of what a retrain would be made with; None if there is nothing new.

    Raises:
        GristmillError: the params, the source or the registry cannot be read.
    """
    file = files_of(root, name)[0]
    params = load(file, shown=file.relative_to(root).as_posix())
    pull_first(root, params)
    made, _, _ = made_with(
        root, params, RetrainRecord("", "", "", "", "", "", {}, "", "", "", "", 0)
    )
    shelf = read_snapshot(root, name)
    return (
        None
        if shelf and settled(retrains(shelf), made.inputs)
        else digest_of("\n".join(made.inputs).encode()).hexdigest()
    )


def pulled(root: Path, name: str) -> bool:
    """Whether the source is a database, of which each pull is whole.

    Raises:
        ParamsError: params.yaml is wrong.
    """
    ingest: IngestParams = load(files_of(root, name)[0]).sections["ingest"]  # type: ignore[assignment]
    return isinstance(ingest.source, Sql)


def _kind(made: RetrainRecord) -> str:
    return "run" if made.trigger == RUN else "retrain"


def _check_source(params: Params, last: RetrainRecord, made: RetrainRecord) -> None:
    wrong = changes(
        last.rows, last.columns, made.rows, cut(made.columns, last.width), params.retrain.min_rows
    )
    if wrong:
        what = f"is not what it was at the {_kind(last)} of {last.began}: {'; '.join(wrong)}"
        again = "gristmill retrain" + ("" if params.name == "default" else f" {params.name}")
        raise InputError(
            what,
            where=f"{params.pipeline.params}: ingest.source",
            remedy=f"mend the source; if it is right as it is: {again} --accept-source",
        )


def _run(
    root: Path,
    params: Params,
    ledger: RetrainLog,
    made: RetrainRecord,
    split: Path | None,
    feedback: str,
) -> int:
    """The pipeline in the copy, and its record."""
    plan = digest_of("\n".join((made.commit, made.split, *made.inputs)).encode()).hexdigest()
    copy, there = worktree.make(root, params, made.commit, plan, split, feedback)
    print_line(
        f"{'goes on' if there else 'runs'} in {copy.relative_to(root.resolve())}, code of {made.commit[:12]}; log {ledger.log.relative_to(root)}"
    )
    done = _in_copy(copy, params.name, ledger, made)
    end(root, params.name, None)
    made = _outcome(root, copy, params, replace(made, seconds=done.seconds, ended=now()), done)
    report = None
    if made.outcome in DONE:
        frozen_test.keep(copy, params, ledger.folder)
        report = keep_report(root, copy, params, made)
    ledger.close(made)
    if made.outcome in DONE:
        worktree.remove(copy)
    print_line(told(params.name, made))
    if report:
        print_line(f"report {report}")
    if made.version and made.outcome in ("waiting", "refused", "rejected"):
        print_line(f"next: {review_command(params.name, made.version)}")
    webhooks.notify(params.retrain.webhook, params.name, made)
    return 0 if made.outcome in DONE else done.code if done.code > 0 else EnvironmentFault.exit_code


def keep_report(root: Path, copy: Path, params: Params, made: RetrainRecord) -> str | None:
    """Copy the report of a retrain to the project before the copy of the project is deleted.

    Returns:
        Its path relative to the project; None where the retrain has written none, or it cannot be copied: the model counts, not its report.
    """
    report = copy / params.pipeline.data / REPORT
    if not made.version or not report.is_file():
        return None
    relative = kept_report(params.name, made.version)
    try:
        content = report.read_bytes()
        kept = root / relative
        if kept.is_file() and kept.read_bytes() != content:
            # Of an earlier retrain, or edited by a person: it stays.
            relative = f"{relative.removesuffix('.html')}-{made.id}.html"
        write_atomic(root / relative, content)
    except (OSError, EnvironmentFault) as error:
        print_line(f"the report could not be kept: {error}", err=True)
        return None
    return relative


def _in_copy(copy: Path, name: str, ledger: RetrainLog, made: RetrainRecord) -> Followed:
    """Run the pipeline there and follow it. Ctrl-C and SIGTERM are passed on; a kill of this process reaches it through the kernel."""
    ledger.log.parent.mkdir(parents=True, exist_ok=True)
    with ledger.log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "components.cli", "run", name],
            cwd=copy,
            env=worktree.environment(copy),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    child = identify(process.pid)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        process.terminate()

    before = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        ledger.begin(made, child)
        done = follow(
            process, ledger.log, lambda stage, seconds: ledger.begin(made, child, seconds, stage)
        )
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        end(ledger.root, ledger.pipeline, child)
    return replace(done, code=130) if stopped else done


def _outcome(
    root: Path, copy: Path, params: Params, made: RetrainRecord, done: Followed
) -> RetrainRecord:
    """What became of it, as the copy's reports and the registry say."""
    manifest = copy / params.pipeline.data / "clean" / MANIFEST
    made = replace(
        made, data=sha256(manifest) if manifest.is_file() else "", after=champion(root, params.name)
    )
    if done.code:
        where = f"in stage {done.stage}: " if done.stage else ""
        return replace(
            made,
            outcome="stopped" if done.code == 130 else "failed",
            detail=where + (done.error or f"exit code {done.code}"),
        )
    served: dict[str, Any] = json.loads(
        (copy / params.pipeline.data / "reports" / "serve.json").read_text(encoding="utf-8")
    )
    refused = [
        gate for gate, verdict in served["gates"].items() if verdict in ("refused", "borderline")
    ]
    if "serve" not in done.seconds:  # DVC has seen all of this before
        return replace(
            made,
            outcome="unchanged",
            detail="DVC knew the result of every stage",
            version=served["version"],
        )
    return replace(
        made, outcome=served["decision"], detail=", ".join(refused), version=served["version"]
    )


def _refused(
    params: Params,
    ledger: RetrainLog,
    past: Sequence[RetrainRecord],
    made: RetrainRecord,
    error: Exception,
) -> None:
    """Record why nothing was run; under cron once, not every night anew."""
    place = f"{error.where}: " if isinstance(error, GristmillError) and error.where else ""
    what = error.what if isinstance(error, GristmillError) else f"{type(error).__name__}: {error}"
    made = replace(
        made,
        outcome="source refused" if isinstance(error, InputError) else "failed",
        detail=place + what,
        ended=now(),
    )
    if past and (past[-1].outcome, past[-1].detail, past[-1].inputs) == (
        made.outcome,
        made.detail,
        made.inputs,
    ):
        return
    try:
        ledger.close(made)
    except EnvironmentFault as fault:  # the error itself is told all the same
        print_line(f"this could not be recorded: {fault.what}", err=True)
    webhooks.notify(params.retrain.webhook, params.name, made)


def told(name: str, made: RetrainRecord) -> str:
    """How it ended, in a line."""
    version = f"version {made.version}: " if made.version else ""
    stays = (
        f"version {made.after} stays champion"
        if made.after and made.after == made.before
        else f"champion is version {made.after} now"
        if made.after
        else "there is no champion"
    )
    return f"retrain of {name}: {version}{made.outcome}{f' ({made.detail})' if made.detail else ''}; {stays}; {sum(made.seconds.values()):.0f} s"
