"""What a retrain writes down while it runs, so that one that was killed leaves a record, too: `data/.state/retrain/<pipeline>/`."""

from __future__ import annotations

import json
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
from components.orchestration.retraining.worktree import place
from components.registry.release.retrain_log import RetrainRecord, record
from components.registry.versions.reader import read_snapshot

_GRACE_S = 10.0


class RetrainLog:
    """The open record of the retrain under way, and closed ones that the registry has not taken yet. Its user holds the lock of retrains."""

    def __init__(self, root: Path, pipeline: str) -> None:
        self.root, self.pipeline = root, pipeline
        self.folder = root / "data" / ".state" / "retrain" / pipeline
        self.log = self.folder / "log.txt"
        self._open = self.folder / "running.json"
        self._outbox = self.folder / "outbox"

    def begin(
        self,
        made: RetrainRecord,
        child: Identity | None = None,
        seconds: Mapping[str, float] | None = None,
        stage: str = "",
    ) -> None:
        """Write down how far it is."""
        write_atomic(
            self._open,
            to_json(
                {
                    "record": asdict(replace(made, seconds=dict(seconds or {}))),
                    "child": child,
                    "stage": stage,
                }
            ),
        )

    def close(self, made: RetrainRecord) -> None:
        """Write down how it ended, here and then in the registry, which may be away."""
        try:
            write_atomic(self._outbox / f"{made.id}.json", to_json(asdict(made)))
        except EnvironmentFault:  # a full disk, say; the registry may be on another
            record(self.root, self.pipeline, made)
        self._open.unlink(missing_ok=True)
        self.send()

    def send(self) -> None:
        """Give the registry what it has not taken yet."""
        for path in sorted(self._outbox.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            try:
                record(
                    self.root,
                    self.pipeline,
                    RetrainRecord.read(json.loads(path.read_text(encoding="utf-8"))),
                )
            except EnvironmentFault as fault:
                print_line(
                    f"the record of this retrain waits in {path.parent}: {fault.what}", err=True
                )
                return
            except Exception as fault:  # the registry does answer: it is so for ever, and must not hold up those behind it
                path.replace(path.with_suffix(".refused"))
                print_line(
                    f"the registry does not take the record {path.with_suffix('.refused')}: {fault}",
                    err=True,
                )
                continue
            path.unlink()

    def settle(self) -> RetrainRecord | None:
        """End what a killed retrain left running, and write its record. Returns that, if there was one."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads(self._open.read_text(encoding="utf-8"))
            made, child, stage = RetrainRecord.read(told["record"]), told["child"], told["stage"]
            end(self.root, self.pipeline, Identity(*child) if child else None)
            if (
                self._outbox / f"{made.id}.json"
            ).exists():  # killed between the two steps of `close`
                self._open.unlink()
            else:
                when = datetime.fromtimestamp(self._open.stat().st_mtime, UTC).isoformat(
                    timespec="seconds"
                )
                detail = (
                    f"in stage {stage}, which began at {when}"
                    if stage
                    else "before its first stage"
                )
                made = replace(
                    made,
                    outcome="killed",
                    detail=detail,
                    ended=now(),
                    after=champion(self.root, self.pipeline),
                )
                self.close(made)
                return made
        self.send()
        return None


def end(root: Path, pipeline: str, child: Identity | None) -> None:
    """End whatever still runs in the copy of a pipeline, its Ray included."""
    if child:
        for process in family(child):
            send(process, SIGKILL)
        wait_until(lambda: not any(alive(process) for process in family(child)), _GRACE_S)
    if (place(root, pipeline) / "data").is_dir():
        local_cluster.stop(place(root, pipeline))


def champion(root: Path, pipeline: str) -> int | None:
    """The number of the version that is released; None also where the registry is away."""
    with suppress(EnvironmentFault):
        shelf = read_snapshot(root, pipeline)
        return shelf.aliases.get("champion") if shelf else None
    return None


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
