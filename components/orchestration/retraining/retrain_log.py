"""The log to which a retrain writes its record while it runs: `data/.state/retrain/<pipeline>/`.

A retrain that was killed leaves a record, too.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL

from components.core.errors import EnvironmentFault
from components.core.files import to_json, write_atomic
from components.core.terminal import print_line
from components.orchestration.cluster import local_cluster
from components.orchestration.processes import Identity, alive, family, send, wait_until
from components.orchestration.retraining.project_copy import copy_folder
from components.registry.release.retrain_record import RetrainRecord, record
from components.registry.versions.reader import read_snapshot

# Longest wait for the processes of a killed retrain.
_GRACE_S = 10.0


class RetrainLog:
    """Stores the record of the current retrain, and records that wait for the registry.

    The caller holds the lock of retrains.

    Args:
        root: of the project.
        pipeline: its name.
    """

    def __init__(self, root: Path, pipeline: str) -> None:
        self.root = root
        self.pipeline = pipeline
        self.folder = root / "data" / ".state" / "retrain" / pipeline
        self.log_file = self.folder / "log.txt"
        self._open = self.folder / "running.json"
        self._outbox = self.folder / "outbox"

    def begin(
        self,
        retrain: RetrainRecord,
        child: Identity | None = None,
        seconds: Mapping[str, float] | None = None,
        stage: str = "",
    ) -> None:
        """Write the progress of a retrain.

        Args:
            retrain: its record.
            child: the process of the pipeline, once it runs.
            seconds: stage -> how long it took, for the stages that have ended.
            stage: the one that runs.

        Raises:
            EnvironmentFault: the disk is full.
        """
        state = {
            "record": asdict(replace(retrain, seconds=dict(seconds or {}))),
            "child": child,
            "stage": stage,
        }
        write_atomic(self._open, to_json(state))

    def close(self, retrain: RetrainRecord) -> None:
        """Write how a retrain ended, here and then in the registry, which may be away.

        Args:
            retrain: its record.

        Raises:
            EnvironmentFault: the disk is full, and the registry does not answer.
        """
        try:
            write_atomic(self._outbox / f"{retrain.id}.json", to_json(asdict(retrain)))
        # The disk may be full. The registry may be on another one.
        except EnvironmentFault:
            record(self.root, self.pipeline, retrain)
        self._open.unlink(missing_ok=True)
        self.send()

    def send(self) -> None:
        """Write all waiting records to the registry. They wait further if it does not answer."""
        paths = sorted(self._outbox.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in paths:
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                record(self.root, self.pipeline, RetrainRecord.read(content))
            except EnvironmentFault as fault:
                print_line(
                    f"the record of this retrain waits in {path.parent}: {fault.what}", err=True
                )
                return
            # The registry answers, so the record itself is wrong. It must not delay the others.
            except Exception as fault:
                refused = path.with_suffix(".refused")
                path.replace(refused)
                print_line(f"the registry does not take the record {refused}: {fault}", err=True)
                continue
            path.unlink()

    def complete_killed(self) -> RetrainRecord | None:
        """End what a killed retrain left running, and complete its record.

        Returns:
            The record. None: no retrain was killed.
        """
        with suppress(OSError, ValueError, TypeError, KeyError):
            state = json.loads(self._open.read_text(encoding="utf-8"))
            retrain = RetrainRecord.read(state["record"])
            child = state["child"]
            stage = state["stage"]
            end(self.root, self.pipeline, Identity(*child) if child else None)
            # The retrain was killed between the two steps of `close`.
            if (self._outbox / f"{retrain.id}.json").exists():
                self._open.unlink()
            else:
                retrain = replace(
                    retrain,
                    outcome="killed",
                    detail=self._kill_detail(stage),
                    ended=now(),
                    after=champion(self.root, self.pipeline),
                )
                self.close(retrain)
                return retrain
        self.send()
        return None

    def _kill_detail(self, stage: str) -> str:
        written = datetime.fromtimestamp(self._open.stat().st_mtime, UTC)
        if not stage:
            return "before its first stage"
        return f"in stage {stage}, which began at {written.isoformat(timespec='seconds')}"


def end(root: Path, pipeline: str, child: Identity | None) -> None:
    """End all processes in the copy of a pipeline, its Ray included.

    Args:
        root: of the project.
        pipeline: its name.
        child: the process of the pipeline; None: it has ended.
    """
    if child:
        for process in family(child):
            send(process, SIGKILL)
        wait_until(lambda: not any(alive(process) for process in family(child)), _GRACE_S)
    copy = copy_folder(root, pipeline)
    if (copy / "data").is_dir():
        local_cluster.stop(copy)


def champion(root: Path, pipeline: str) -> int | None:
    """Return the number of the released version. None: there is none, or the registry is away.

    Args:
        root: of the project.
        pipeline: its name.
    """
    with suppress(EnvironmentFault):
        snapshot = read_snapshot(root, pipeline)
        if snapshot:
            return snapshot.aliases.get("champion")
    return None


def new_record(
    trigger: str,
    *,
    params: str = "",
    before: int | None = None,
    after: int | None = None,
) -> RetrainRecord:
    """Return the record of a run that has just begun; "failed" until it says otherwise.

    Args:
        trigger: why it began.
        params: digest of the params.
        before: version of the champion at its begin.
        after: version of the champion at its end.
    """
    return RetrainRecord(
        id=uuid.uuid4().hex[:12],
        trigger=trigger,
        outcome="failed",
        detail="",
        began=now(),
        ended="",
        seconds={},
        commit="",
        code="",
        params=params,
        source="",
        rows=0,
        before=before,
        after=after,
    )


def now() -> str:
    """Return the time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
