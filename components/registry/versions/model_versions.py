"""Versions: bundles in MLflow's model registry, as plain files.

Nothing is loaded through a flavor, and nothing is unpickled.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
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
    """Register a bundle as a version of the pipeline's model.

    It gets the alias challenger, unless it is the champion. The same bundle is registered once: a
    second time updates the tags of its version.

    Args:
        root: the project.
        pipeline: names the registered model.
        bundle: a folder with bundle.json.
        run_id: the run that keeps the files; None for a new run.
        tags: the card: data_hash, params_hash, git commit, dvc hashes, metrics with intervals,
            gates.
        description: markdown for the reviewer.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    digest = sha256(bundle / CARD)
    card = {key: str(value) for key, value in {**tags, BUNDLE: digest}.items()}
    opened = client(root)
    with reached(root):
        open_log(opened, root, pipeline)
        query = f"name = '{pipeline}' and tags.{BUNDLE} = '{digest}'"
        registered = next(iter(opened.search_model_versions(query)), None)
        if registered is None:
            source, run = _store_bundle(opened, root, pipeline, bundle, run_id, digest)
            registered = opened.create_model_version(
                pipeline, source=source, run_id=run, tags=card, description=description
            )
        else:
            _update(opened, pipeline, registered, card, description)
        leading = _by_alias(opened, pipeline, "champion")
        if leading is None or str(leading.version) != str(registered.version):
            opened.set_registered_model_alias(pipeline, "challenger", registered.version)
        return _version(opened.get_model_version(pipeline, registered.version))


def _update(
    opened: MlflowClient,
    pipeline: str,
    registered: Any,
    card: Mapping[str, str],
    description: str,
) -> None:
    for key, value in card.items():
        if registered.tags.get(key) != value:
            opened.set_model_version_tag(pipeline, registered.version, key, value)
    if description:
        opened.update_model_version(pipeline, registered.version, description)


def keep_cases(root: Path, version: Version, cases: Cases) -> None:
    """Store a version's answers to a test split beside its bundle.

    Args:
        root: the project.
        version: that answered.
        cases: its answers.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    opened = client(root)
    target = PurePosixPath(_path_of_cases(version, cases.test))
    with reached(root), tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        path = Path(scratch) / target.name
        path.write_text(cases.to_json(), encoding="utf-8")
        opened.log_artifact(version.run_id, str(path), str(target.parent))


def cases_of(root: Path, version: Version, test: str) -> Cases:
    """Return a version's answers to a test split; no cases if it was never evaluated on it.

    Args:
        root: the project.
        version: that answered.
        test: the name of the test split.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    if not test or not version.source:
        return Cases((), {})
    base = _artifacts_of(version)
    name = _path_of_cases(version, test)
    if Path(base).is_absolute():
        path = Path(base) / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    else:
        text = _download_text(root, version, base, name)
    return Cases.from_json(text) if text else Cases((), {})


def _download_text(root: Path, version: Version, base: str, name: str) -> str:
    """Return a text file of the version's run; "" if there is none.

    Args:
        root: the project.
        version: whose run.
        base: the URI of the run's artifacts.
        name: of the file, below it.
    """
    from mlflow.artifacts import download_artifacts

    opened = client(root)
    with reached(root), tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        files = opened.list_artifacts(version.run_id, str(PurePosixPath(name).parent))
        if not any(file.path == name for file in files):
            return ""
        copy = download_artifacts(
            artifact_uri=f"{base}/{name}", dst_path=scratch, tracking_uri=tracking_uri(root)
        )
        return Path(copy).read_text(encoding="utf-8")


def _artifacts_of(version: Version) -> str:
    """Return the folder or URI of the artifacts of the version's run."""
    source = validation.bundle_source(version.source, _digest_of(version), _name(version))
    return source.rpartition("/bundles/")[0]


def _digest_of(version: Version) -> str:
    return validation.sha256_digest(version.tags.get(BUNDLE), f"{_name(version)}, tag {BUNDLE}")


def _name(version: Version) -> str:
    return f"version {version.number} of {version.pipeline!r}"


def verify(root: Path, version: Version) -> None:
    """Check that the bundle in the store is the one that was registered, byte for byte.

    Args:
        root: the project.
        version: to check.

    Raises:
        GateError: it is not.
        EnvironmentFault: the store does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="gristmill-") as scratch:
        try:
            folder = fetch(root, version.pipeline, version.number, Path(scratch))
            read_bundle(folder, version.tags.get(BUNDLE, ""))
        except InputError as error:
            remedy = (
                "register it again from its data (gristmill run), or release another: "
                f"gristmill review list{argument(version.pipeline)}"
            )
            raise GateError(
                f"{_name(version)} is refused by bundle: {error.what}",
                where=error.where,
                remedy=remedy,
            ) from None


def _path_of_cases(version: Version, test: str) -> str:
    """Return the path of a version's cases below the artifacts of its run."""
    split = validation.sha256_digest(test, f"{_name(version)}, tag test_hash")
    return f"cases/{_digest_of(version)[:12]}/{split[:12]}.json"


def champion(root: Path, pipeline: str) -> Version | None:
    """Return the version that is released, if any.

    Raises:
        EnvironmentFault: the store does not answer.
    """
    snapshot = read_snapshot(root, pipeline)
    if snapshot is None or "champion" not in snapshot.aliases:
        return None
    return snapshot.version(snapshot.aliases["champion"])


def fetch(root: Path, pipeline: str, which: str | int, into: Path) -> Path:
    """Return the folder of a version's bundle, see `fetch_registered`.

    Args:
        root: the project.
        pipeline: the registered model.
        which: an alias or a number.
        into: made if needed.

    Raises:
        GristmillError: as `fetch_registered`.
    """
    return fetch_registered(root, pipeline, which, into).folder


@dataclass(frozen=True)
class RegisteredBundle:
    """A version's files on this machine. They are not verified yet: `read_bundle` does that.

    Attributes:
        folder: of the files.
        digest: SHA-256 of the card that was registered; empty where the registry lost it.
    """

    folder: Path
    digest: str


def fetch_registered(root: Path, pipeline: str, which: str | int, into: Path) -> RegisteredBundle:
    """Return a version's bundle: its own folder if that is on this machine, else a copy.

    Args:
        root: the project.
        pipeline: the registered model.
        which: an alias or a number.
        into: the folder for a copy, made if needed.

    Raises:
        InputError: there is no such version, or its files are gone.
        EnvironmentFault: the store does not answer.
    """
    snapshot = read_snapshot(root, pipeline)
    numbers = {str(version.number): version for version in snapshot.versions} if snapshot else {}
    aliases = snapshot.aliases if snapshot else {}
    version = numbers.get(str(aliases.get(str(which), which)))
    if version is None:
        raise InputError(
            f"the registry has no {which!r} of {pipeline!r}",
            remedy=f"gristmill run {pipeline} makes one; gristmill status shows what there is",
        )
    return RegisteredBundle(download(root, version, into), version.tags.get(BUNDLE, ""))


def download(root: Path, version: Version, into: Path) -> Path:
    """Return the folder of a version's bundle, as `fetch` does, without looking the version up.

    Args:
        root: the project.
        version: whose bundle.
        into: the folder for a copy, made if needed.

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


def _store_bundle(
    opened: MlflowClient, root: Path, pipeline: str, bundle: Path, run_id: str | None, digest: str
) -> tuple[str, str]:
    """Copy the bundle to a run's artifacts.

    It gets a folder of its own, so that no later bundle overwrites it.

    Returns:
        The source of the version, and the id of the run.

    Raises:
        EnvironmentFault: the bundle did not arrive.
    """
    if run_id:
        run = opened.get_run(run_id)
    else:
        run = opened.create_run(experiment(opened, root, pipeline), run_name="bundle")
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


def _or_none(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        if unavailable(error) or not hasattr(error, "error_code"):
            raise
        return None


def _version(registered: Any) -> Version:
    aliases: Iterable[str] = registered.aliases
    return Version(
        pipeline=registered.name,
        number=int(registered.version),
        tags=dict(registered.tags),
        source=registered.source,
        run_id=registered.run_id or "",
        aliases=tuple(sorted(aliases)),
        created=int(registered.creation_timestamp),
    )
