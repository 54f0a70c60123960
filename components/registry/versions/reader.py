"""A fast reader of the registry: straight from SQLite or over REST, in milliseconds.

It does without MLflow's client, whose import alone takes two seconds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.registry.store import tracking_store
from components.registry.store.tracking_store import (
    client,
    correct_artifact_uris,
    database,
    reached,
    tracking_uri,
)

# tag of a registered model: the run whose params are its releases
LOG = "gristmill.releases"
PLACE = "release."
_PAGE = 1000
_DIRTY = {
    "true": " with changes that were not committed",
    "unknown": " (git could not tell whether files were changed)",
}


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        pipeline: the name of the registered model.
        number: of the version.
        tags: its card.
        source: the bundle's folder or URI.
        run_id: the run that keeps its files.
        aliases: that name it.
        created: milliseconds since 1970.
    """

    pipeline: str
    number: int
    tags: Mapping[str, str]
    source: str
    run_id: str
    aliases: tuple[str, ...]
    created: int = 0


@dataclass(frozen=True)
class RegistrySnapshot:
    """The records of a pipeline in the registry at one moment.

    Attributes:
        pipeline: the name of the registered model.
        tags: of the registered model.
        aliases: alias -> number of a version.
        versions: oldest first.
        params: of the run of releases.
    """

    pipeline: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    versions: Sequence[Version]
    params: Mapping[str, str]

    def version(self, number: int) -> Version:
        """Return the version of a number.

        Raises:
            InputError: there is none of that number.
        """
        for version in self.versions:
            if version.number == number:
                return version
        there = "there is none"
        if self.versions:
            there = f"there are 1 to {self.versions[-1].number}"
        raise InputError(
            f"{self.pipeline!r} has no version {number}; {there}",
            where="registry",
            remedy=f"gristmill review list{argument(self.pipeline)}",
        )


def argument(pipeline: str) -> str:
    """Return the argument of a command that names this pipeline, with a leading space."""
    return "" if pipeline == "default" else f" {pipeline}"


def read_snapshot(root: Path, pipeline: str) -> RegistrySnapshot | None:
    """Read the records of a pipeline; None where nothing was ever registered.

    Args:
        root: the project.
        pipeline: the registered model.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    with reached(root):
        path = database(root)
        if path is None:
            uri = tracking_uri(root)
            if uri.startswith("http"):
                return _over_http(uri, pipeline)
            return _by_client(root, pipeline)
        # do not spend three seconds to make an empty database
        if not path.is_file():
            return None
        correct_artifact_uris(root)
        return _from_sqlite(path, pipeline)


def _snapshot(
    pipeline: str,
    tags: Mapping[str, str],
    aliases: Mapping[str, int],
    rows: Iterable[tuple[int, Mapping[str, str], str, str, int]],
    params: Mapping[str, str],
) -> RegistrySnapshot:
    """Return the snapshot of rows (number, tags, source, run, created)."""
    versions = []
    for number, version_tags, source, run, created in sorted(rows):
        names = sorted(alias for alias, other in aliases.items() if other == number)
        version = Version(pipeline, number, version_tags, source, run, tuple(names), created)
        versions.append(version)
    return RegistrySnapshot(pipeline, tags, aliases, versions, params)


def _from_sqlite(path: Path, pipeline: str) -> RegistrySnapshot | None:
    opened = sqlite3.connect(
        f"{path.as_uri()}?mode=ro",
        uri=True,
        timeout=tracking_store.LOCK_SECONDS,
        isolation_level=None,
    )
    with closing(opened) as connection:
        # so that all rows are of one moment
        connection.execute("BEGIN")

        def ask(sql: str, *values: str) -> list[Any]:
            return connection.execute(sql, values).fetchall()

        if not ask("SELECT 1 FROM registered_models WHERE name = ?", pipeline):
            return None
        tags = dict(ask("SELECT key, value FROM registered_model_tags WHERE name = ?", pipeline))
        aliases = dict(
            ask("SELECT alias, version FROM registered_model_aliases WHERE name = ?", pipeline)
        )
        versions = ask(
            "SELECT version, source, run_id, creation_time FROM model_versions "
            "WHERE name = ? AND current_stage != 'Deleted_Internal'",
            pipeline,
        )
        cards: dict[int, dict[str, str]] = {}
        for number, key, value in ask(
            "SELECT version, key, value FROM model_version_tags WHERE name = ?", pipeline
        ):
            cards.setdefault(number, {})[key] = value
        params = dict(ask("SELECT key, value FROM params WHERE run_uuid = ?", tags.get(LOG, "")))
    rows = [
        (number, cards.get(number, {}), source, run or "", created)
        for number, source, run, created in versions
    ]
    return _snapshot(pipeline, tags, aliases, rows, params)


def _over_http(uri: str, pipeline: str) -> RegistrySnapshot | None:
    with _http_client(uri) as http:

        def ask(path: str, **query: Any) -> dict[str, Any]:
            response = http.get(path, params=query)
            if response.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in response.text:
                return {}
            return dict(response.raise_for_status().json())

        model = ask("registered-models/get", name=pipeline).get("registered_model")
        if model is None:
            return None
        tags = _pairs(model)
        versions = _all_versions(ask, pipeline)
        run = ask("runs/get", run_id=tags[LOG]).get("run", {}) if LOG in tags else {}
    aliases = {row["alias"]: int(row["version"]) for row in model.get("aliases", [])}
    rows = [
        (
            int(row["version"]),
            _pairs(row),
            row.get("source", ""),
            row.get("run_id", ""),
            int(row["creation_timestamp"]),
        )
        for row in versions
    ]
    return _snapshot(
        pipeline,
        tags,
        aliases,
        rows,
        _pairs(run.get("data", {}), "params"),
    )


def _http_client(uri: str) -> Any:
    """Return a client of an MLflow server, set up by MLflow's environment variables."""
    import httpx

    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    verify: Any = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure
    return httpx.Client(
        base_url=f"{uri.rstrip('/')}/api/2.0/mlflow/",
        auth=(user, password) if user else None,
        headers={"Authorization": f"Bearer {token}"} if token and not user else {},
        verify=verify,
        timeout=float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")),
    )


def _all_versions(ask: Callable[..., dict[str, Any]], pipeline: str) -> list[Any]:
    versions = list[Any]()
    page = None
    while page != "":
        token: dict[str, Any] = {"page_token": page} if page else {}
        answer = ask(
            "model-versions/search",
            filter=f"name='{pipeline}'",
            max_results=_PAGE,
            **token,
        )
        versions += answer.get("model_versions", [])
        page = answer.get("next_page_token", "")
    return versions


def _pairs(entity: Mapping[str, Any], of: str = "tags") -> dict[str, str]:
    return {row["key"]: row.get("value", "") for row in entity.get(of, [])}


def _by_client(root: Path, pipeline: str) -> RegistrySnapshot | None:
    opened = client(root)
    model = next(iter(opened.search_registered_models(f"name = '{pipeline}'")), None)
    if model is None:
        return None
    versions = list[Any]()
    page = None
    while page != "":
        block = opened.search_model_versions(
            f"name = '{pipeline}'", max_results=_PAGE, page_token=page
        )
        versions += block
        page = block.token or ""
    params = opened.get_run(model.tags[LOG]).data.params if LOG in model.tags else {}
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    rows = [
        (int(row.version), row.tags, row.source, row.run_id or "", row.creation_timestamp)
        for row in versions
    ]
    return _snapshot(pipeline, model.tags, aliases, rows, params)


def code_state(tags: Mapping[str, str], length: int = 40) -> str:
    """Return the git commit of a run's or version's tags, and whether files differed from it."""
    commit = (tags.get("git_commit") or "none")[:length]
    return commit + _DIRTY.get(tags.get("git_dirty", ""), "")


@dataclass(frozen=True)
class ReportedMetric:
    """The metric on the test split that a version's tags state.

    Args:
        name: of the metric.
        value: as text; "?" where the tags have none.
        interval: such as "0.8450 to 0.8781"; "?" where the tags have none.
    """

    name: str
    value: str
    interval: str

    @property
    def with_interval(self) -> str:
        """Return the value with its interval, where there is one."""
        low, _, high = self.interval.partition(" to ")
        return f"{self.value} ({low}–{high})" if high else self.value


def reported_metric(tags: Mapping[str, str]) -> ReportedMetric:
    """Return the metric of a version: the one that its tags have with an interval.

    Args:
        tags: of the version.
    """
    suffix = "_interval"
    names = [tag.removesuffix(suffix) for tag in sorted(tags) if tag.endswith(suffix)]
    name = next((name for name in names if name in tags), "")
    interval = tags.get(f"{name}{suffix}", "?")
    return ReportedMetric(name or "metric", tags.get(name, "?"), interval)
