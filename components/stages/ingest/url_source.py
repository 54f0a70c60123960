"""Source `url`: files on web servers, kept by their SHA-256 and read by the code of `files`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from components.core.workspace import home
from components.stages.ingest.database import filled_url
from components.stages.ingest.downloads import Download, download
from components.stages.ingest.params import Url
from components.stages.ingest.source_files import Listing, list_files
from components.tasks.base import TargetWords

# Done, total, and what is counted, as `Journal.progress` takes them.
Progress = Callable[[float, float, str], None]
_MEGABYTE = 1e6


def silent(done: float, total: float, what: str) -> None:
    """Report no progress."""


def list_source(
    source: Url, root: Path, words: TargetWords, progress: Progress = silent
) -> Listing:
    """Return what there is to read, after a download of the files that are not there yet.

    Args:
        source: section of the params.
        root: of the project, or of a copy, which uses the files of the project.
        words: of the task, for messages.
        progress: called while a file is downloaded.

    Raises:
        InputError: a server has no such file or another one, or its format is unknown.
        EnvironmentFault: a server cannot be reached, or the disk is full.
    """
    folder = home(root) / "data" / ".state" / "downloads"
    files = {}
    for name, remote in sorted(source.files.items()):
        where = f"ingest.source.files.{name}"
        file = Download(
            url=filled_url(remote.url, f"{where}.url")[0],
            shown=remote.url,
            where=where,
            sha256=remote.sha256,
            max_bytes=source.max_bytes,
            timeout_s=source.timeout_s,
            download_s=source.download_s,
        )
        target = folder / remote.sha256 / PurePosixPath(name).name

        def show(received: int, total: int, name: str = name) -> None:
            progress(received / _MEGABYTE, max(received, total) / _MEGABYTE, f"MB of {name}")

        download(file, target, show)
        files[PurePosixPath(name)] = target
    return list_files(files, source, words)
