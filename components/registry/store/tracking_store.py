"""The tracking store: its location, how it is opened, and how it follows a moved repository."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from components.core.errors import EnvironmentFault, GristmillError
from components.core.workspace import home
from components.registry.store.damage import remedy_for

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # eight more processes, for features of language models, that outlive a SIGTERM
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
LOCK_SECONDS = 10.0
# The age in seconds at which a half-made database has no maker any more.
_PART_S = 3600.0
# names of the page of `gristmill mlflow up`: a page of another site cannot take one of them
_PAGE_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_WRONG_CALL = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI if set, else the embedded SQLite database below `root`."""
    path = home(root).resolve() / "mlflow" / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(path)


def _sqlite(path: Path) -> str:
    # SQLAlchemy decodes what follows sqlite:/// and cuts it at a question mark.
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def database(root: Path) -> Path | None:
    """Return the file of a SQLite store, absolute; None when tracking is elsewhere."""
    uri = tracking_uri(root)
    if not uri.startswith("sqlite:///"):
        return None
    return (home(root) / unquote(uri.removeprefix("sqlite:///"))).resolve()


def artifacts(root: Path) -> str | None:
    """Return where new experiments keep their files: beside a SQLite database.

    It is None for a server, which decides for itself.
    """
    path = database(root)
    return str(path.parent / "artifacts") if path else None


def client(root: Path) -> MlflowClient:
    """Open the store; the first call makes the database (3 s).

    Raises:
        EnvironmentFault: locked, not writable, damaged, or no answer.
    """
    quiet()
    with reached(root):
        path = database(root)
        from mlflow import MlflowClient

        if path and not path.is_file():
            _make(path)
        elif path and path.stat().st_size == 0:
            # SQLite takes it for a new database; this store is made whole, so it was cut off
            raise sqlite3.DatabaseError("it is empty")
        correct_artifact_uris(root)
        return MlflowClient(tracking_uri(root), registry_uri=tracking_uri(root))


def quiet() -> None:
    """Keep MLflow from printing about its own work, and from sending telemetry."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger, level in (
        ("alembic", logging.WARNING),
        ("mlflow", logging.WARNING),
        ("mlflow.store.db.utils", logging.CRITICAL),
    ):
        logging.getLogger(logger).setLevel(level)


def _make(path: Path) -> None:
    """Make the database under another name, and rename it once it is complete.

    Otherwise a second process, or a kill, would leave MLflow's fifty migrations half done for ever.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_parts(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        SqlAlchemyStore(_sqlite(part), str(path.parent / "artifacts")).engine.dispose()
        with suppress(FileExistsError):  # another process was quicker
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def _remove_parts(path: Path) -> None:
    """Remove what processes left that were killed while they made the database."""
    for part in path.parent.glob(f"{path.name}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _PART_S:
                part.unlink()


def correct_artifact_uris(root: Path) -> None:
    """Correct the artifact URIs of a SQLite store after its folder was moved or copied.

    MLflow writes absolute URIs. The folder that they were written for is in a table of ours in the
    same database, so that rewriting is one transaction.
    """
    path = database(root)
    if path is None or not path.is_file():
        return
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        if recorded_folder(connection) != str(path.parent):
            connection.execute("BEGIN IMMEDIATE")
            _rewrite(connection, recorded_folder(connection), str(path.parent))
            connection.execute("COMMIT")


def recorded_folder(connection: sqlite3.Connection) -> str:
    """Return the folder for which the URIs in a database were written; "" where it is unknown."""
    query = "SELECT 1 FROM sqlite_master WHERE name = 'gristmill_home'"
    if not connection.execute(query).fetchone():
        return ""
    return str(connection.execute("SELECT folder FROM gristmill_home").fetchone()[0])


def record_folder(connection: sqlite3.Connection, folder: str) -> None:
    """Record the folder for which the URIs are true now."""
    connection.execute("CREATE TABLE IF NOT EXISTS gristmill_home (folder TEXT NOT NULL)")
    connection.execute("DELETE FROM gristmill_home")
    connection.execute("INSERT INTO gristmill_home VALUES (?)", (folder,))


def readdress(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Rewrite all URIs within a folder.

    Args:
        connection: to the database.
        old: the folder.
        new: the folder that takes its place.
    """
    for table, column in LOCATIONS:
        within = f"{column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'"
        rewritten = f":new || substr({column}, length(:old) + 1)"
        connection.execute(
            f"UPDATE {table} SET {column} = {rewritten} WHERE {within}",  # noqa: S608
            {"old": old, "new": new},
        )


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    # another process was quicker
    if old == new:
        return
    # another process is just making the tables
    query = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
    if not connection.execute(query).fetchone():
        return
    if old:
        readdress(connection, old, new)
    record_folder(connection, new)


def unavailable(error: Exception) -> bool:
    """Return whether an error means that the store did not answer, so that another try may help.

    It is false where the store refused a call, which is a mistake of ours.
    """
    if isinstance(error, (EnvironmentFault, sqlite3.Error, OSError)):
        return True
    library = type(error).__module__.split(".")[0]
    return (
        library in ("mlflow", "sqlalchemy", "requests", "urllib3", "httpx", "alembic")
        and getattr(error, "error_code", "") not in _WRONG_CALL
    )


@contextmanager
def reached(root: Path) -> Iterator[None]:
    """Turn "the store does not answer" into an EnvironmentFault with the remedy.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    try:
        yield
    except GristmillError:
        raise
    except Exception as error:
        if not unavailable(error):
            raise
        path = database(root)
        text = str(error).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        if path is None:
            raise EnvironmentFault(
                f"MLflow does not answer: {reason}",
                where=tracking_uri(root),
                remedy="check MLFLOW_TRACKING_URI and the server, then run the same command again",
            ) from error
        raise EnvironmentFault(
            f"the MLflow database cannot be used: {reason}",
            where=str(path),
            remedy=remedy_for(path, error),
        ) from error


def experiment(opened: MlflowClient, root: Path, name: str) -> str:
    """Return the id of the experiment of a name.

    It is made once, by the first process that needs it. It is restored if it was deleted.

    Args:
        opened: the client.
        root: the project.
        name: of the experiment.
    """
    from mlflow.exceptions import MlflowException

    found = opened.get_experiment_by_name(name)
    if found is None:
        try:
            return str(opened.create_experiment(name, artifact_location=artifacts(root)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = opened.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":
        opened.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def ui_command(root: Path, port: int) -> list[str]:
    """Return the command that shows the store on loopback.

    Start it with `ENVIRONMENT` added to the environment.

    Args:
        root: the project.
        port: of the page.

    Raises:
        EnvironmentFault: tracking is at a server, which has a page of its own.
    """
    path = database(root)
    uri = tracking_uri(root)
    if path is None:
        raise EnvironmentFault(
            "tracking is at a server of its own", where=uri, remedy=f"open {uri} in a browser"
        )
    with reached(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        correct_artifact_uris(root)
    hosts = ",".join(f"{name}:{port}" for name in _PAGE_HOSTS)
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--backend-store-uri", uri]
    command += ["--default-artifact-root", str(path.parent / "artifacts")]
    command += ["--no-serve-artifacts"]
    command += ["--host", "127.0.0.1", "--allowed-hosts", hosts]
    command += ["--port", str(port), "--workers", "1"]
    return command
