"""Versions: bundles in MLflow's model registry, as plain files. Nothing is loaded through a flavour, nothing unpickled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.bundles import CARD
from components.core.errors import EnvironmentFault, InputError
from components.core.files import sha256
from components.registry.store import client, database, experiment, reached, tracking_uri, unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

BUNDLE = "bundle_sha256"


@dataclass(frozen=True)
class Version:
    """One registered model. Its card is in `tags`."""

    pipeline: str
    number: int
    tags: Mapping[str, str]
    source: str  # the bundle's folder or URI
    run_id: str
    aliases: tuple[str, ...]


def register(root: Path, pipeline: str, bundle: Path, run_id: str | None, tags: Mapping[str, str], description: str = "") -> Version:
    """Keep a bundle as a version of the pipeline's model, and call it challenger (unless it is the champion).

    The same bundle is registered once: a second time brings the tags of its version up to date.

    Args:
        root: the project.
        pipeline: names the registered model.
        bundle: a folder with bundle.json.
        run_id: the run that keeps the files; None for a run of their own.
        tags: the card: data_hash, params_hash, git commit, dvc hashes, figures with intervals, gates.
        description: markdown for the reviewer.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    digest = sha256(bundle / CARD)
    card = {key: str(value) for key, value in {**tags, BUNDLE: digest}.items()}
    opened = client(root)
    with reached(root):
        _model(opened, pipeline)
        found = next(iter(opened.search_model_versions(f"name = '{pipeline}' and tags.{BUNDLE} = '{digest}'")), None)
        if found is None:
            source, run = _keep(opened, root, pipeline, bundle, run_id, digest)
            found = opened.create_model_version(pipeline, source=source, run_id=run, tags=card, description=description)
        else:
            for key, value in card.items():
                if found.tags.get(key) != value:
                    opened.set_model_version_tag(pipeline, found.version, key, value)
        leading = _by_alias(opened, pipeline, "champion")
        if leading is None or str(leading.version) != str(found.version):
            opened.set_registered_model_alias(pipeline, "challenger", found.version)
        return _version(opened.get_model_version(pipeline, found.version))


def champion(root: Path, pipeline: str) -> Version | None:
    """The version that is released, if any.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    path = database(root)
    if path and not path.is_file():
        return None  # nothing was ever registered: do not take three seconds to make a database that says so
    opened = client(root)
    with reached(root):
        found = _by_alias(opened, pipeline, "champion")
    return _version(found) if found else None


def fetch(root: Path, pipeline: str, which: str | int, into: Path) -> Path:
    """The folder of a version's bundle: where it lies if that is on this machine, else a copy in `into`. Unverified: `read_bundle` does that.

    Args:
        root: the project.
        pipeline: the registered model.
        which: an alias or a number.
        into: made if needed.

    Raises:
        InputError: there is no such version, or its files are gone.
        EnvironmentFault: the store does not answer.
    """
    opened = client(root)
    with reached(root):
        found = _by_number(opened, pipeline, which) if str(which).isdigit() else _by_alias(opened, pipeline, str(which))
        if found is None:
            raise InputError(f"the registry has no {which!r} of {pipeline!r}", remedy=f"gristmill run {pipeline} makes one; gristmill status shows what there is")
        if Path(found.source).is_absolute():
            if not (Path(found.source) / CARD).is_file():
                raise InputError(f"the files of version {found.version} of {pipeline!r} are gone", where=found.source, remedy="take another version: gristmill status")
            return Path(found.source)
        from mlflow.artifacts import download_artifacts

        into.mkdir(parents=True, exist_ok=True)
        return Path(download_artifacts(artifact_uri=found.source, dst_path=str(into), tracking_uri=tracking_uri(root)))


def _model(opened: MlflowClient, pipeline: str) -> None:
    try:
        opened.create_registered_model(pipeline)
    except Exception as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise


def _keep(opened: MlflowClient, root: Path, pipeline: str, bundle: Path, run_id: str | None, digest: str) -> tuple[str, str]:
    """Copy the bundle to a run's artifacts, in a folder of its own so that no later one overwrites it: (source, run id)."""
    run = opened.get_run(run_id) if run_id else opened.create_run(experiment(opened, root, pipeline), run_name="bundle")
    folder = f"bundles/{digest[:12]}"
    opened.log_artifacts(run.info.run_id, str(bundle), folder)
    if not run_id:
        opened.set_terminated(run.info.run_id)
    source = f"{run.info.artifact_uri}/{folder}"
    if Path(source).is_absolute() and not (Path(source) / CARD).is_file():
        raise EnvironmentFault("the bundle did not arrive", where=source, remedy="free disk space, then run the same command again")
    return source, run.info.run_id


def _by_alias(opened: MlflowClient, pipeline: str, alias: str) -> Any:
    return _or_none(lambda: opened.get_model_version_by_alias(pipeline, alias))


def _by_number(opened: MlflowClient, pipeline: str, number: str | int) -> Any:
    return _or_none(lambda: opened.get_model_version(pipeline, str(number)))


def _or_none(ask: Any) -> Any:
    try:
        return ask()
    except Exception as error:
        if unavailable(error) or not hasattr(error, "error_code"):
            raise
        return None


def _version(found: Any) -> Version:
    aliases: Iterable[str] = found.aliases
    return Version(found.name, int(found.version), dict(found.tags), found.source, found.run_id or "", tuple(sorted(aliases)))
