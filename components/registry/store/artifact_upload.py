"""Upload of files to an artifact store.

A file counts as uploaded once it was read back unchanged.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import EnvironmentFault
from components.core.files import sha256

_AT_ONCE = 8


def upload_artifacts(folder: Path, to: str) -> tuple[int, int]:
    """Copy all files below a folder.

    A file that is there already is only compared, so a second try goes on.

    Args:
        folder: of artifacts.
        to: s3://BUCKET/PREFIX or any other URI where MLflow keeps files, or a folder.

    Returns:
        How many files, and their bytes.

    Raises:
        EnvironmentFault: the store does not take them, or gives back something else.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]

    def upload(path: Path) -> None:
        _upload(repository, path, path.relative_to(folder).as_posix())

    try:
        repository = get_artifact_repository(to)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(upload, paths):
                pass
    except EnvironmentFault:
        raise
    except Exception as error:
        # each kind of store has its own errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise EnvironmentFault(
            f"does not take files: {reason}",
            where=to,
            remedy=(
                "check the place and its credentials (AWS_ACCESS_KEY_ID, MLFLOW_S3_ENDPOINT_URL, "
                "…), then run the same command again"
            ),
        ) from error
    return len(paths), sum(path.stat().st_size for path in paths)


def _upload(repository: Any, path: Path, name: str) -> None:
    digest = sha256(path)
    if _stored_digest(repository, name) == digest:
        return
    folder = PurePosixPath(name).parent.as_posix()
    repository.log_artifact(str(path), None if folder == "." else folder)
    if _stored_digest(repository, name) != digest:
        raise EnvironmentFault(
            "did not arrive as it was sent", where=name, remedy="run the same command again"
        )


def _stored_digest(repository: Any, name: str) -> str | None:
    """Return the SHA-256 of the file in the store; None if there is none."""
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        target = Path(scratch) / "file"
        try:
            repository._download_file(name, str(target))
        except Exception:
            # An absent file is another error in each store. A store that is away fails again when
            # it is written to.
            return None
        return sha256(target)
