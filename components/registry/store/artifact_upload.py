"""Files to an artifact store: each is there, byte by byte, when it has been read back."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import EnvironmentFault
from components.core.files import sha256

_AT_ONCE = 8


def ship(folder: Path, to: str) -> tuple[int, int]:
    """Copy all files below a folder; what is there already is only compared, so a second try goes on.

    Args:
        folder: of artifacts.
        to: s3://BUCKET/PREFIX or any other place that MLflow keeps files in, or a folder.

    Returns:
        How many, and their bytes.

    Raises:
        EnvironmentFault: the place does not take them, or gives back something else.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    try:
        repository = get_artifact_repository(to)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(
                lambda path: _arrive(repository, path, path.relative_to(folder).as_posix()), paths
            ):
                pass
    except EnvironmentFault:
        raise
    except Exception as error:  # each kind of store has its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise EnvironmentFault(
            f"does not take files: {reason}",
            where=to,
            remedy="check the place and its credentials (AWS_ACCESS_KEY_ID, MLFLOW_S3_ENDPOINT_URL, …), then run the same command again",
        ) from error
    return len(paths), sum(path.stat().st_size for path in paths)


def _arrive(repository: Any, path: Path, name: str) -> None:
    digest = sha256(path)
    if _there(repository, name) == digest:
        return
    folder = PurePosixPath(name).parent.as_posix()
    repository.log_artifact(str(path), None if folder == "." else folder)
    if _there(repository, name) != digest:
        raise EnvironmentFault(
            "did not arrive as it was sent", where=name, remedy="run the same command again"
        )


def _there(repository: Any, name: str) -> str | None:
    """The SHA-256 of what the store gives back; None if there is nothing."""
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        target = Path(scratch) / "file"
        try:
            repository._download_file(name, str(target))
        except Exception:  # an absent file is another error in each store; a store that is away says so when it is written to
            return None
        return sha256(target)
