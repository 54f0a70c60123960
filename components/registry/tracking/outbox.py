"""What was not written at once, because the store was away or the stage too short to open it.

It is kept beside the state. The next stage that reaches the store writes it, or the end of `gristmill run`, or `gristmill mlflow catch-up`.
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
from components.registry.store.tracking_store import home, reached
from components.registry.tracking.mirror import Mirror, Subject

_JOURNAL, _PROGRESS, _FACTS, _FILES = "journal.jsonl", "mlflow.json", "subject.json", "files"


def waiting(root: Path) -> list[Path]:
    """The folders of what waits, the oldest first."""
    return sorted(path for path in _place(root).glob("*") if (path / _FACTS).is_file())


def oldest(root: Path, token: str) -> int | None:
    """Return when the first stage that waits of a pipeline run began, in milliseconds since the epoch; None if none waits."""
    for folder in waiting(root):
        try:
            subject = json.loads((folder / _FACTS).read_text(encoding="utf-8"))["subject"]
            started = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))["started"]
        except (
            OSError,
            ValueError,
            KeyError,
        ):  # another process has written it, or it is of another version
            continue
        if subject["token"] == token:
            return int(started)
    return None


def keep(mirror: Mirror, status: str, files: Sequence[Path]) -> Path:
    """Keep a stage's journal, how far it was copied, and its small files: the stage's own folders are about to go, or to change.

    Args:
        mirror: of the stage.
        status: of its run.
        files: to attach.
    """
    subject = mirror.subject
    folder = _place(subject.root) / f"{time.time():.6f}-{subject.stage}"
    part = folder.with_name(f".{folder.name}")
    (part / _FILES).mkdir(parents=True)
    if mirror.journal.is_file():
        shutil.copyfile(mirror.journal, part / _JOURNAL)
    if mirror.state_file.is_file():
        shutil.copyfile(mirror.state_file, part / _PROGRESS)
    else:
        write_atomic(part / _PROGRESS, to_json(asdict(mirror.progress)))
    for number, path in enumerate(path for path in files if path.is_file()):
        (part / _FILES / str(number)).mkdir()
        shutil.copyfile(path, part / _FILES / str(number) / path.name)
    facts = {
        **asdict(subject),
        "root": "",
        "tags": dict(subject.tags),
        "params": dict(subject.params),
    }
    write_atomic(
        part / _FACTS,
        to_json({"subject": facts, "status": status, "ended": int(time.time() * 1000)}),
    )
    return part.rename(folder)


def catch_up(root: Path) -> list[str]:
    """Write all that waits. Returns what was written, as "stage of pipeline".

    Each goes on with its run, as a stage that was killed does, so being cut off costs no point and writes none twice.

    Raises:
        EnvironmentFault: the store is still away; what is left waits on.
    """
    written = []
    for folder in waiting(root):
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                told = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            except (
                BlockingIOError,
                FileNotFoundError,
            ):  # another process writes it, or has done so
                continue
            subject = Subject(**{**told["subject"], "root": root})
            with reached(root):
                _write(
                    Mirror(subject, folder / _JOURNAL, folder / _PROGRESS),
                    told["status"],
                    told.get("ended"),
                    folder / _FILES,
                )
            remove_tree(folder, within=_place(root), ignore_errors=False)
            written.append(f"{subject.stage} of {subject.pipeline}")
    return written


def _write(mirror: Mirror, status: str, ended: int | None, files: Path) -> None:
    mirror.open()
    while mirror.absorb():
        pass
    for path in sorted(files.glob("*/*")):
        mirror.attach(path)
    mirror.close(status, ended)


def _place(root: Path) -> Path:
    return home(root) / "data" / ".state" / "unsent"
