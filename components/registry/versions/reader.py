"""The registry read in milliseconds: straight from SQLite or over REST, without MLflow's client, whose import alone takes two seconds."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import InputError
from components.registry.store import tracking_store
from components.registry.store.tracking_store import client, database, reached, settle, tracking_uri

LOG = "gristmill.releases"  # tag of a registered model: the run whose params are its releases
PLACE = "release."
_PAGE = 1000
_DIRTY = {
    "true": " with changes that were not committed",
    "unknown": " (git could not tell whether files were changed)",
}


@dataclass(frozen=True)
class Version:
    """One registered model. Its card is in `tags`."""

    pipeline: str
    number: int
    tags: Mapping[str, str]
    source: str  # the bundle's folder or URI
    run_id: str
    aliases: tuple[str, ...]
    created: int = 0  # milliseconds since 1970


@dataclass(frozen=True)
class RegistrySnapshot:
    """All that the registry says of a pipeline, at one moment."""

    pipeline: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    versions: Sequence[Version]  # oldest first
    params: Mapping[str, str]  # of the run of releases

    def version(self, number: int) -> Version:
        """One of them.

        Raises:
            InputError: there is none of that number.
        """
        found = next((each for each in self.versions if each.number == number), None)
        if found is None:
            there = (
                f"there are 1 to {self.versions[-1].number}" if self.versions else "there is none"
            )
            raise InputError(
                f"{self.pipeline!r} has no version {number}; {there}",
                where="registry",
                remedy=f"gristmill review list{argument(self.pipeline)}",
            )
        return found


def argument(pipeline: str) -> str:
    """Return what stands behind the name of a command that means this pipeline."""
    return "" if pipeline == "default" else f" {pipeline}"


def read_snapshot(root: Path, pipeline: str) -> RegistrySnapshot | None:
    """Read the shelf of a pipeline; None where nothing was ever registered.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    with reached(root):
        path = database(root)
        if path is None:
            return (
                _over_http(tracking_uri(root), pipeline)
                if tracking_uri(root).startswith("http")
                else _by_client(root, pipeline)
            )
        if not path.is_file():
            return None  # do not take three seconds to make a database that says so
        settle(root)
        return _from_sqlite(path, pipeline)


def _shelf(
    pipeline: str,
    tags: Mapping[str, str],
    aliases: Mapping[str, int],
    rows: Iterable[tuple[int, Mapping[str, str], str, str, int]],
    params: Mapping[str, str],
) -> RegistrySnapshot:
    """Rows: number, tags, source, run, created."""
    known = [
        Version(
            pipeline,
            number,
            its,
            source,
            run,
            tuple(sorted(alias for alias, other in aliases.items() if other == number)),
            made,
        )
        for number, its, source, run, made in sorted(rows)
    ]
    return RegistrySnapshot(pipeline, tags, aliases, known, params)


def _from_sqlite(path: Path, pipeline: str) -> RegistrySnapshot | None:
    with closing(
        sqlite3.connect(
            f"{path.as_uri()}?mode=ro",
            uri=True,
            timeout=tracking_store.LOCK_SECONDS,
            isolation_level=None,
        )
    ) as connection:
        connection.execute("BEGIN")  # so that all is of one moment

        def ask(sql: str, *values: str) -> list[Any]:
            return connection.execute(sql, values).fetchall()

        if not ask("SELECT 1 FROM registered_models WHERE name = ?", pipeline):
            return None
        tags = dict(ask("SELECT key, value FROM registered_model_tags WHERE name = ?", pipeline))
        aliases = dict(
            ask("SELECT alias, version FROM registered_model_aliases WHERE name = ?", pipeline)
        )
        versions = ask(
            "SELECT version, source, run_id, creation_time FROM model_versions WHERE name = ? AND current_stage != 'Deleted_Internal'",
            pipeline,
        )
        cards: dict[int, dict[str, str]] = {}
        for number, key, value in ask(
            "SELECT version, key, value FROM model_version_tags WHERE name = ?", pipeline
        ):
            cards.setdefault(number, {})[key] = value
        params = dict(ask("SELECT key, value FROM params WHERE run_uuid = ?", tags.get(LOG, "")))
    return _shelf(
        pipeline,
        tags,
        aliases,
        (
            (number, cards.get(number, {}), source, run or "", made)
            for number, source, run, made in versions
        ),
        params,
    )


def _over_http(uri: str, pipeline: str) -> RegistrySnapshot | None:
    import httpx

    user, token = (
        os.environ.get("MLFLOW_TRACKING_USERNAME"),
        os.environ.get("MLFLOW_TRACKING_TOKEN"),
    )
    headers = {"Authorization": f"Bearer {token}"} if token and not user else {}
    login = (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
    verify: Any = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or os.environ.get(
        "MLFLOW_TRACKING_INSECURE_TLS", ""
    ).lower() not in ("true", "1")
    base = f"{uri.rstrip('/')}/api/2.0/mlflow/"
    with httpx.Client(
        base_url=base,
        auth=login,
        headers=headers,
        verify=verify,
        timeout=float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")),
    ) as asked:

        def ask(path: str, **query: Any) -> dict[str, Any]:
            response = asked.get(path, params=query)
            if response.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in response.text:
                return {}
            return dict(response.raise_for_status().json())

        model = ask("registered-models/get", name=pipeline).get("registered_model")
        if model is None:
            return None
        tags, versions, page = _pairs(model), list[Any](), None
        while page != "":
            found = ask(
                "model-versions/search",
                filter=f"name='{pipeline}'",
                max_results=_PAGE,
                **({"page_token": page} if page else {}),
            )
            versions += found.get("model_versions", [])
            page = found.get("next_page_token", "")
        run = ask("runs/get", run_id=tags[LOG]).get("run", {}) if LOG in tags else {}
    aliases = {each["alias"]: int(each["version"]) for each in model.get("aliases", [])}
    rows = (
        (
            int(each["version"]),
            _pairs(each),
            each.get("source", ""),
            each.get("run_id", ""),
            int(each["creation_timestamp"]),
        )
        for each in versions
    )
    return _shelf(pipeline, tags, aliases, rows, _pairs(run.get("data", {}), "params"))


def _pairs(entity: Mapping[str, Any], of: str = "tags") -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in entity.get(of, [])}


def _by_client(root: Path, pipeline: str) -> RegistrySnapshot | None:
    opened = client(root)
    model = next(iter(opened.search_registered_models(f"name = '{pipeline}'")), None)
    if model is None:
        return None
    rows, page = list[Any](), None
    while page != "":
        found = opened.search_model_versions(
            f"name = '{pipeline}'", max_results=_PAGE, page_token=page
        )
        rows, page = [*rows, *found], found.token or ""
    params = opened.get_run(model.tags[LOG]).data.params if LOG in model.tags else {}
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    return _shelf(
        pipeline,
        model.tags,
        aliases,
        (
            (int(each.version), each.tags, each.source, each.run_id or "", each.creation_timestamp)
            for each in rows
        ),
        params,
    )


def code_state(tags: Mapping[str, str], length: int = 40) -> str:
    """Return the git commit of a run's or version's tags, and whether files differed from it."""
    commit = (tags.get("git_commit") or "none")[:length]
    return commit + _DIRTY.get(tags.get("git_dirty", ""), "")
