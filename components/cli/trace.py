"""`gristmill trace`: from an answer, a version or a bundle back to its origin.

The origin is the data, the code, the params, the run, the gates and the person who released it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from components.cli.pipeline_argument import DEFAULT, choose_pipeline
from components.cli.review_tables import COLORS, decision_time, details_table, gates_of
from components.core.console import console, styled
from components.core.errors import InputError
from components.monitoring.feedback_store import FeedbackStore
from components.orchestration.output_paths import pipeline_names
from components.orchestration.project import STATE
from components.registry.release.release_log import Release, records, standing
from components.registry.versions.reader import (
    RegistrySnapshot,
    Version,
    code_state,
    read_snapshot,
    reported_metric,
)

if TYPE_CHECKING:
    from components.monitoring.request_log import LoggedAnswer

_REMEDY = "gristmill trace [NAME] ANSWER_ID | VERSION | BUNDLE_HASH | ANSWER.json | -"
# Fewest characters of a hash or an id that identify it.
_SHORTEST = 6
# Characters of the id of an answer.
_ID = 32


@dataclass(frozen=True)
class Clue:
    """Describes the version to look for. Unknown fields are empty.

    Args:
        pipeline: of the version.
        version: its number.
        bundle: the SHA-256 of its bundle, or the beginning of it.
        data_hash: of its training data.
        answer: the id of an answer that it gave.
    """

    pipeline: str
    version: int | None = None
    bundle: str = ""
    data_hash: str = ""
    answer: str = ""


def trace(
    root: Path,
    what: str,
    pipeline: str | None,
    stdin: str = "",
) -> None:
    """Print where an answer or a version comes from.

    Args:
        root: of the project.
        what: the id of an answer, a version number, the beginning of a bundle's hash, an answer as
            JSON, a file that holds one, or "-".
        pipeline: of the versions. None: the one that gave the answer, else `default`.
        stdin: the text that "-" stands for.

    Raises:
        InputError: not understood, no such version, or an answer that this registry did not give.
        EnvironmentFault: the store does not answer.
    """
    clue = _answer_by_id(root, what.strip(), pipeline)
    if clue is None:
        clue = read_clue(what, pipeline or DEFAULT, stdin)
    if pipeline is None and not clue.answer:
        choose_pipeline(root, None, None)
    snapshot = read_snapshot(root, clue.pipeline)
    if snapshot is None:
        raise InputError(
            f"the registry has no versions of {clue.pipeline!r}",
            where="registry",
            remedy=f"is this the registry of what answered? {_REMEDY}",
        )
    _show(snapshot, find(snapshot, clue), clue)


def _answer_by_id(root: Path, what: str, pipeline: str | None) -> Clue | None:
    """Return the answer whose id is, or begins with, a text. None: there is no such answer.

    The request logs and the feedback of clients are searched.

    Raises:
        InputError: several answers match, or the text is a whole id and none matches.
    """
    id_, _, item = what.partition(":")
    if not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},{_ID}}}", id_) or (item and not item.isdigit()):
        return None
    names = [pipeline] if pipeline else pipeline_names(root)
    matches: dict[tuple[str, str], LoggedAnswer] = {}
    for name in names:
        for answer in _logged(root, name, id_):
            matches[answer.id, name] = answer
    if len(matches) > 1:
        raise InputError(
            f"{len(matches)} answers have an id that begins with {id_}",
            where="trace",
            remedy="give more of the id",
        )
    for (_, name), answer in matches.items():
        return Clue(name, version=int(answer.version), answer=answer.id)
    if len(id_) == _ID:
        raise InputError(
            f"no answer with the id {id_} is in the request log of {' or '.join(names)}",
            where="trace",
            remedy=(
                "the log holds a sample of the answers for some days (section monitor); "
                "an answer as JSON can always be traced: gristmill trace ANSWER.json"
            ),
        )
    return None


def _logged(root: Path, name: str, beginning: str) -> Iterator[LoggedAnswer]:
    # Imports pyarrow, which a trace of a version does not need.
    from components.monitoring.monitor_folder import FEEDBACK, REQUESTS
    from components.monitoring.request_log import LoggedAnswer, answers_that_begin_with

    folder = root / "data" / STATE / name / "monitor"
    yield from answers_that_begin_with(folder / REQUESTS, beginning)
    for entry in FeedbackStore(folder / FEEDBACK, 1).entries():
        if entry.id.startswith(beginning):
            yield LoggedAnswer(entry.id, entry.version)


def read_clue(what: str, pipeline: str, stdin: str = "") -> Clue:
    """Return what a text says about the version to look for.

    Args:
        what: see `trace`.
        pipeline: of the version.
        stdin: the text that "-" stands for.

    Raises:
        InputError: the text is none of what `trace` takes.
    """
    text = what.strip()
    if text.isdigit() and len(text) < _SHORTEST:
        return Clue(pipeline, version=int(text))
    if re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},64}}", text):
        return Clue(pipeline, bundle=text)
    if text == "-":
        text = stdin
    elif not text.startswith("{"):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{what[:80]!r} is no version, no hash, no answer and no file that can be read "
                f"({type(error).__name__})",
                where="trace",
                remedy=_REMEDY,
            ) from None
    return _from_answer(text, pipeline)


def _from_answer(text: str, pipeline: str) -> Clue:
    try:
        answer = json.loads(text)
        model: Mapping[str, Any] = answer["model"]
        return Clue(
            pipeline=str(model.get("name", pipeline)),
            version=int(model["version"]),
            bundle=str(model.get("bundle", "")),
            data_hash=str(model.get("data_hash", "")),
            answer=str(answer.get("id", model.get("id", ""))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"is no answer of a gristmill service: it names no model ({type(error).__name__})",
            where="trace",
            remedy=_REMEDY,
        ) from None


def find(snapshot: RegistrySnapshot, clue: Clue) -> Version:
    """Return the version that a clue describes.

    Raises:
        InputError: no version matches, several do, or its tags contradict the answer.
    """
    if clue.version is None:
        return _version_by_bundle(snapshot, clue.bundle)
    version = snapshot.version(clue.version)
    _check_digest(version, snapshot.pipeline, "bundle", clue.bundle, "bundle_sha256")
    _check_digest(version, snapshot.pipeline, "data", clue.data_hash, "data_hash")
    return version


def _version_by_bundle(snapshot: RegistrySnapshot, bundle: str) -> Version:
    matches = [
        version
        for version in snapshot.versions
        if version.tags.get("bundle_sha256", "").startswith(bundle)
    ]
    if len(matches) != 1:
        raise InputError(
            f"{len(matches)} versions of {snapshot.pipeline!r} have a bundle "
            f"that begins with {bundle}",
            where="trace",
            remedy="give more of the hash, or the pipeline: gristmill trace NAME HASH",
        )
    return matches[0]


def _check_digest(
    version: Version,
    pipeline: str,
    name: str,
    digest: str,
    tag: str,
) -> None:
    """Raise an error if the digest in an answer is not the one in a tag of the version."""
    if version.tags.get(tag, "").startswith(digest):
        return
    recorded = version.tags.get(tag, "none")
    raise InputError(
        f"the answer names {name} {digest[:16]}, "
        f"but version {version.number} of {pipeline!r} is of {recorded[:16]}",
        where="trace",
        remedy="it was given by a service of another registry, or altered since",
    )


def _show(snapshot: RegistrySnapshot, version: Version, clue: Clue) -> None:
    tags = version.tags
    releases = records(snapshot)
    metric = reported_metric(tags)
    answer = f"answer {clue.answer} was given by " if clue.answer else ""
    is_champion = standing(releases).champion == version.number
    released = ", the champion" if is_champion else ""
    name = f"{version.pipeline} version {version.number}"
    console.print(styled(answer, (name, "bold"), f"{released}: {tags.get('title', '')}"))
    rows: list[tuple[str, str | Text]] = [
        ("data", f"{tags.get('data_hash', 'unknown')}  (SHA-256 of clean's manifest)"),
        ("code", code_state(tags)),
        ("params", tags.get("pipeline_params_hash") or tags.get("params_hash", "unknown")),
        ("DVC lock", tags.get("dvc_lock") or "none"),
        ("run", f"{version.run_id}  (gristmill mlflow up)"),
        ("bundle", tags.get("bundle_sha256", "unknown")),
        ("test", f"{metric.name} {metric.value}, {metric.interval}"),
        ("gates", _verdicts(version)),
    ]
    for release in releases:
        if release.version == version.number:
            rows.append(("decided", _decision(release)))
    console.print(details_table(rows))


def _verdicts(version: Version) -> Text:
    return Text("  ").join(
        styled(f"{gate.name} ", (gate.verdict, COLORS[gate.verdict])) for gate in gates_of(version)
    )


def _decision(release: Release) -> str:
    overrides = ""
    if release.overrides:
        overrides = f", overriding {', '.join(release.overrides)}"
    time = decision_time(release)
    return f"{time} UTC  {release.decision} by {release.who}{overrides}: {release.why}"
