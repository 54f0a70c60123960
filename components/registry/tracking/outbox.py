"""The outbox: entries that were not written at once.

The store was away, or the stage was too short to open it. An entry is stored beside the state. The
next stage that reaches the store writes it, or the end of `gristmill run`, or
`gristmill mlflow catch-up`.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.core.files import remove_tree, to_json, write_atomic
from components.core.workspace import home
from components.registry.store.tracking_store import reached
from components.registry.tracking.mirror import Mirror, Subject

_JOURNAL = "journal.jsonl"
_PROGRESS = "mlflow.json"
_SUBJECT = "subject.json"
_FILES = "files"


def waiting(root: Path) -> list[Path]:
    """Return the folders of the entries, the oldest first."""
    return sorted(path for path in _outbox(root).glob("*") if (path / _SUBJECT).is_file())


def oldest(root: Path, token: str) -> int | None:
    """Return when the first stage of a pipeline run that is in the outbox began.

    Args:
        root: the project.
        token: of the pipeline run.

    Returns:
        Milliseconds since the epoch; None if no stage is in the outbox.
    """
    for folder in waiting(root):
        try:
            subject = json.loads((folder / _SUBJECT).read_text(encoding="utf-8"))["subject"]
            started = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))["started"]
        except (OSError, ValueError, KeyError):
            # another process has written it, or it is of another version
            continue
        if subject["token"] == token:
            return int(started)
    return None


def store_journal(mirror: Mirror, status: str, files: Sequence[Path]) -> Path:
    """Store a stage's journal, how far it was copied, and its small files.

    The stage's own folders are about to be deleted or changed.

    Args:
        mirror: of the stage.
        status: of its run.
        files: to attach.
    """
    subject = mirror.subject
    folder = _outbox(subject.root) / f"{time.time():.6f}-{subject.stage}"
    part = folder.with_name(f".{folder.name}")
    (part / _FILES).mkdir(parents=True)
    if mirror.journal.is_file():
        shutil.copyfile(mirror.journal, part / _JOURNAL)
    if mirror.state_file.is_file():
        shutil.copyfile(mirror.state_file, part / _PROGRESS)
    else:
        write_atomic(part / _PROGRESS, to_json(asdict(mirror.progress)))
    existing = (path for path in files if path.is_file())
    for number, path in enumerate(existing):
        (part / _FILES / str(number)).mkdir()
        shutil.copyfile(path, part / _FILES / str(number) / path.name)
    fields = {
        **asdict(subject),
        "root": "",
        "tags": dict(subject.tags),
        "params": dict(subject.params),
    }
    entry = {"subject": fields, "status": status, "ended": int(time.time() * 1000)}
    write_atomic(part / _SUBJECT, to_json(entry))
    return part.rename(folder)


def catch_up(root: Path) -> list[str]:
    """Write all entries to the store.

    Each entry continues its run, as a stage that was killed does. So an interruption loses no
    point and writes none twice.

    Returns:
        What was written, as "stage of pipeline".

    Raises:
        EnvironmentFault: the store is still away; the remaining entries stay.
    """
    written = []
    for folder in waiting(root):
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                entry = json.loads((folder / _SUBJECT).read_text(encoding="utf-8"))
            except (BlockingIOError, FileNotFoundError):
                # another process writes it, or has done so
                continue
            subject = Subject(**{**entry["subject"], "root": root})
            mirror = Mirror(subject, folder / _JOURNAL, folder / _PROGRESS)
            with reached(root):
                _write(mirror, entry["status"], entry.get("ended"), folder / _FILES)
            remove_tree(folder, within=_outbox(root), ignore_errors=False)
            written.append(f"{subject.stage} of {subject.pipeline}")
    return written


def _write(mirror: Mirror, status: str, ended: int | None, files: Path) -> None:
    mirror.open()
    while mirror.absorb():
        pass
    for path in sorted(files.glob("*/*")):
        mirror.attach(path)
    mirror.close(status, ended)


def _outbox(root: Path) -> Path:
    return home(root) / "data" / ".state" / "unsent"
