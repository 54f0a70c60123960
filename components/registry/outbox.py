"""What could not be written while the store was away: kept beside the state, written by the next stage that reaches the store, or by `gristmill mlflow catch-up`."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.core.files import to_json, write_atomic
from components.registry.mirror import Mirror, Subject
from components.registry.store import home, reached

_JOURNAL, _PROGRESS, _FACTS, _FILES = "journal.jsonl", "mlflow.json", "subject.json", "files"


def waiting(root: Path) -> list[Path]:
    """The folders of what waits, the oldest first."""
    return sorted(path for path in _place(root).glob("*") if (path / _FACTS).is_file())


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
    for source, name in ((mirror.journal, _JOURNAL), (mirror.state_file, _PROGRESS)):
        if source.is_file():
            shutil.copyfile(source, part / name)
    for number, path in enumerate(path for path in files if path.is_file()):
        (part / _FILES / str(number)).mkdir()
        shutil.copyfile(path, part / _FILES / str(number) / path.name)
    facts = {**asdict(subject), "root": "", "tags": dict(subject.tags), "params": dict(subject.params)}
    write_atomic(part / _FACTS, to_json({"subject": facts, "status": status}))
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
            except (BlockingIOError, FileNotFoundError):  # another process writes it, or has done so
                continue
            subject = Subject(**{**told["subject"], "root": root})
            with reached(root):
                _write(Mirror(subject, folder / _JOURNAL, folder / _PROGRESS), told["status"], folder / _FILES)
            shutil.rmtree(folder)
            written.append(f"{subject.stage} of {subject.pipeline}")
    return written


def _write(mirror: Mirror, status: str, files: Path) -> None:
    mirror.open()
    while mirror.absorb():
        pass
    for path in sorted(files.glob("*/*")):
        mirror.attach(path)
    mirror.close(status)


def _place(root: Path) -> Path:
    return home(root) / "data" / ".state" / "unsent"
