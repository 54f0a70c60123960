"""Versions: bundles in MLflow's model registry, as plain files. Nothing is loaded through a flavor, nothing unpickled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from components.core.bundles import CARD, read_bundle
from components.core.errors import EnvironmentFault, GateError, InputError
from components.core.files import sha256
from components.registry import validation
from components.registry.release.release_log import open_log
from components.registry.store.tracking_store import (
    client,
    experiment,
    quiet,
    reached,
    tracking_uri,
    unavailable,
)
from components.registry.versions.reader import Version, argument, read_snapshot
from components.registry.versions.test_cases import Cases

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "BUNDLE",
    "Version",
    "cases_of",
    "champion",
    "download",
    "fetch",
    "fetch_registered",
    "keep_cases",
    "register",
    "verify",
]
BUNDLE = "bundle_sha256"


def register(
    root: Path,
    pipeline: str,
    bundle: Path,
    run_id: str | None,
    tags: Mapping[str, str],
    description: str = "",
) -> Version:
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
        open_log(opened, root, pipeline)
        found = next(
            iter(
                opened.search_model_versions(f"name = '{pipeline}' and tags.{BUNDLE} = '{digest}'")
            ),
            None,
        )
        if found is None:
            source, run = _keep(opened, root, pipeline, bundle, run_id, digest)
            found = opened.create_model_version(
                pipeline, source=source, run_id=run, tags=card, description=description
            )
        else:
            for key, value in card.items():
                if found.tags.get(key) != value:
                    opened.set_model_version_tag(pipeline, found.version, key, value)
            if description:
                opened.update_model_version(pipeline, found.version, description)
        leading = _by_alias(opened, pipeline, "champion")
        if leading is None or str(leading.version) != str(found.version):
            opened.set_registered_model_alias(pipeline, "challenger", found.version)
        return _version(opened.get_model_version(pipeline, found.version))


def keep_cases(root: Path, version: Version, cases: Cases) -> None:
    """Keep what a version answered to a test split beside its bundle.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    opened, place = client(root), PurePosixPath(_place_of(version, cases.test))
    with reached(root), tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        path = Path(scratch) / place.name
        path.write_text(cases.to_json(), encoding="utf-8")
        opened.log_artifact(version.run_id, str(path), str(place.parent))


def cases_of(root: Path, version: Version, test: str) -> Cases:
    """What a version answered to a test split; no cases if it was never asked that one.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    if not test or not version.source:
        return Cases((), ())
    base, place, kept = _artifacts_of(version), _place_of(version, test), ""
    if Path(base).is_absolute():
        path = Path(base) / place
        kept = path.read_text(encoding="utf-8") if path.is_file() else ""
    else:
        from mlflow.artifacts import download_artifacts

        opened = client(root)
        with reached(root), tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
            if any(
                each.path == place
                for each in opened.list_artifacts(version.run_id, str(PurePosixPath(place).parent))
            ):
                kept = Path(
                    download_artifacts(
                        artifact_uri=f"{base}/{place}",
                        dst_path=scratch,
                        tracking_uri=tracking_uri(root),
                    )
                ).read_text(encoding="utf-8")
    return Cases.from_json(kept) if kept else Cases((), ())


def _artifacts_of(version: Version) -> str:
    """Return the folder or URI of the artifacts of the version's run."""
    source = validation.bundle_source(version.source, _digest_of(version), _name(version))
    return source.rpartition("/bundles/")[0]


def _digest_of(version: Version) -> str:
    return validation.sha256_digest(version.tags.get(BUNDLE), f"{_name(version)}, tag {BUNDLE}")


def _name(version: Version) -> str:
    return f"version {version.number} of {version.pipeline!r}"


def verify(root: Path, version: Version) -> None:
    """Make sure that the bundle in the store is the one that was registered, byte for byte.

    Raises:
        GateError: it is not.
        EnvironmentFault: the store does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        try:
            folder = fetch(root, version.pipeline, version.number, Path(scratch))
            read_bundle(folder, version.tags.get(BUNDLE, ""))
        except InputError as error:
            remedy = f"register it again from its data (gristmill run), or release another: gristmill review list{argument(version.pipeline)}"
            raise GateError(
                f"version {version.number} of {version.pipeline!r} is refused by bundle: {error.what}",
                where=error.where,
                remedy=remedy,
            ) from None


def _place_of(version: Version, test: str) -> str:
    """Below the artifacts of the version's run."""
    split = validation.sha256_digest(test, f"{_name(version)}, tag test_hash")
    return f"cases/{_digest_of(version)[:12]}/{split[:12]}.json"


def champion(root: Path, pipeline: str) -> Version | None:
    """The version that is released, if any.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    shelf = read_snapshot(root, pipeline)
    return (
        shelf.version(shelf.aliases["champion"]) if shelf and "champion" in shelf.aliases else None
    )


def fetch(root: Path, pipeline: str, which: str | int, into: Path) -> Path:
    """Return the folder of a version's bundle, see `fetch_registered`. Raises `GristmillError`."""
    return fetch_registered(root, pipeline, which, into).folder


@dataclass(frozen=True)
class RegisteredBundle:
    """A version's files at hand, not verified yet: `read_bundle` takes both and does that."""

    folder: Path
    digest: str  # SHA-256 of the card that was registered; empty where the registry lost it


def fetch_registered(root: Path, pipeline: str, which: str | int, into: Path) -> RegisteredBundle:
    """Return a version's bundle: where it lies if that is on this machine, else a copy in `into`.

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
        found = (
            _by_number(opened, pipeline, which)
            if str(which).isdigit()
            else _by_alias(opened, pipeline, str(which))
        )
        if found is None:
            raise InputError(
                f"the registry has no {which!r} of {pipeline!r}",
                remedy=f"gristmill run {pipeline} makes one; gristmill status shows what there is",
            )
        version = _version(found)
    return RegisteredBundle(download(root, version, into), version.tags.get(BUNDLE, ""))


def download(root: Path, version: Version, into: Path) -> Path:
    """Return the folder of a version's bundle, as `fetch` does, without asking who it is.

    Raises:
        InputError: its source is not one that registering makes, or its files are gone.
        EnvironmentFault: the store does not answer.
    """
    source = validation.bundle_source(version.source, _digest_of(version), _name(version))
    if Path(source).is_absolute():
        if not os.path.lexists(Path(source) / CARD):
            raise InputError(
                f"the files of {_name(version)} are gone",
                where=source,
                remedy="take another version: gristmill status",
            )
        return Path(source)
    quiet()
    from mlflow.artifacts import download_artifacts

    into.mkdir(parents=True, exist_ok=True)
    with reached(root):
        copy = download_artifacts(
            artifact_uri=source, dst_path=str(into), tracking_uri=tracking_uri(root)
        )
    return Path(copy)


def _keep(
    opened: MlflowClient, root: Path, pipeline: str, bundle: Path, run_id: str | None, digest: str
) -> tuple[str, str]:
    """Copy the bundle to a run's artifacts, in a folder of its own so that no later one overwrites it: (source, run id)."""
    run = (
        opened.get_run(run_id)
        if run_id
        else opened.create_run(experiment(opened, root, pipeline), run_name="bundle")
    )
    folder = f"bundles/{digest[:12]}"
    opened.log_artifacts(run.info.run_id, str(bundle), folder)
    if not run_id:
        opened.set_terminated(run.info.run_id)
    source = f"{run.info.artifact_uri}/{folder}"
    if Path(source).is_absolute() and not (Path(source) / CARD).is_file():
        raise EnvironmentFault(
            "the bundle did not arrive",
            where=source,
            remedy="free disk space, then run the same command again",
        )
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
    return Version(
        found.name,
        int(found.version),
        dict(found.tags),
        found.source,
        found.run_id or "",
        tuple(sorted(aliases)),
        int(found.creation_timestamp),
    )
