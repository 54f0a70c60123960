"""`gristmill trace`: from an answer, a version or a bundle back to data, code, params, run, gates and who released it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from components.cli.pipeline_argument import DEFAULT, choose_pipeline
from components.cli.review_tables import COLOURS, facts, gates_of, when
from components.core.console import console, styled
from components.core.errors import InputError
from components.monitoring.feedback_store import FeedbackStore
from components.orchestration.output_paths import pipeline_names
from components.orchestration.project import STATE
from components.registry.release.release_log import Release, records, standing
from components.registry.versions.reader import RegistrySnapshot, Version, code_state, read_snapshot

if TYPE_CHECKING:
    from components.monitoring.request_log import LoggedAnswer

_REMEDY = "gristmill trace [NAME] ANSWER_ID | VERSION | BUNDLE_HASH | ANSWER.json | -"
_SHORTEST = 6  # characters of a hash or an id that mean it
_ID = 32  # characters of an answer's id
REQUESTS, FEEDBACK = (
    "requests",
    "feedback",
)  # folders of the service's log, as components.serving.http.monitoring_routes names them


@dataclass(frozen=True)
class Clue:
    """What is known of the version that is sought; empty where nothing is."""

    pipeline: str
    version: int | None = None
    bundle: str = ""
    data_hash: str = ""
    answer: str = ""  # its id


def trace(root: Path, what: str, pipeline: str | None, stdin: str = "") -> None:
    """Print where an answer or a version comes from.

    Args:
        root: the project.
        what: the id of an answer, a version number, the beginning of a bundle's hash, an answer as JSON, a file that holds one, or "-".
        pipeline: whose versions. None: the answer's own, else `default`.
        stdin: what "-" means.

    Raises:
        InputError: not understood, no such version, or an answer that this registry did not give.
        EnvironmentFault: the store does not answer.
    """
    clue = _answered(root, what.strip(), pipeline) or read_clue(what, pipeline or DEFAULT, stdin)
    if pipeline is None and not clue.answer:
        choose_pipeline(root, None, None)
    shelf = read_snapshot(root, clue.pipeline)
    if shelf is None:
        raise InputError(
            f"the registry has no versions of {clue.pipeline!r}",
            where="registry",
            remedy=f"is this the registry of what answered? {_REMEDY}",
        )
    _show(shelf, find(shelf, clue), clue)


def _answered(root: Path, what: str, pipeline: str | None) -> Clue | None:
    """Find an answer by its id, or the beginning of it, in the request logs and among the labels that clients sent.

    Raises:
        InputError: the text means several answers, or it is a whole id and there is no such answer.
    """
    id_, _, item = what.partition(":")
    if not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},{_ID}}}", id_) or (item and not item.isdigit()):
        return None
    names = [pipeline] if pipeline else pipeline_names(root)
    found: dict[tuple[str, str], LoggedAnswer] = {}
    for name in names:
        found |= {(each.id, name): each for each in _logged(root, name, id_)}
    if len(found) > 1:
        raise InputError(
            f"{len(found)} answers have an id that begins with {id_}",
            where="trace",
            remedy="give more of the id",
        )
    for (_, name), answer in found.items():
        return Clue(name, version=int(answer.version), answer=answer.id)
    if len(id_) == _ID:
        what = f"no answer with the id {id_} is in the request log of {' or '.join(names)}"
        remedy = "the log holds a sample of the answers for some days (section monitor); an answer as JSON can always be traced: gristmill trace ANSWER.json"
        raise InputError(what, where="trace", remedy=remedy)
    return None


def _logged(root: Path, name: str, beginning: str) -> Iterator[LoggedAnswer]:
    # Takes pyarrow, which a trace of a version does not need.
    from components.monitoring.request_log import LoggedAnswer, answers_that_begin_with

    folder = root / "data" / STATE / name / "monitor"
    yield from answers_that_begin_with(folder / REQUESTS, beginning)
    for label in FeedbackStore(folder / FEEDBACK, 1).labels():
        if label.id.startswith(beginning):
            yield LoggedAnswer(label.id, label.version)


def read_clue(what: str, pipeline: str, stdin: str = "") -> Clue:
    """Understand what is to be traced.

    Raises:
        InputError: it is nothing of the kind.
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
                f"{what[:80]!r} is no version, no hash, no answer and no file that can be read ({type(error).__name__})",
                where="trace",
                remedy=_REMEDY,
            ) from None
    return _of_answer(text, pipeline)


def _of_answer(text: str, pipeline: str) -> Clue:
    try:
        answer = json.loads(text)
        model: Mapping[str, Any] = answer["model"]
        found = Clue(
            str(model.get("name", pipeline)),
            int(model["version"]),
            str(model.get("bundle", "")),
            str(model.get("data_hash", "")),
            str(answer.get("id", model.get("id", ""))),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"is no answer of a gristmill service: it names no model ({type(error).__name__})",
            where="trace",
            remedy=_REMEDY,
        ) from None
    return found


def find(shelf: RegistrySnapshot, clue: Clue) -> Version:
    """The version that the clue means.

    Raises:
        InputError: none, several, or one that is not the answer's.
    """
    if clue.version is None:
        found = [
            version
            for version in shelf.versions
            if version.tags.get("bundle_sha256", "").startswith(clue.bundle)
        ]
        if len(found) != 1:
            raise InputError(
                f"{len(found)} versions of {shelf.pipeline!r} have a bundle that begins with {clue.bundle}",
                where="trace",
                remedy="give more of the hash, or the pipeline: gristmill trace NAME HASH",
            )
        return found[0]
    version = shelf.version(clue.version)
    for name, said, tag in (
        ("bundle", clue.bundle, "bundle_sha256"),
        ("data", clue.data_hash, "data_hash"),
    ):
        if not version.tags.get(tag, "").startswith(said):
            what = f"the answer names {name} {said[:16]}, but version {version.number} of {shelf.pipeline!r} is of {version.tags.get(tag, 'none')[:16]}"
            raise InputError(
                what,
                where="trace",
                remedy="it was given by a service of another registry, or altered since",
            )
    return version


def _show(shelf: RegistrySnapshot, version: Version, clue: Clue) -> None:
    tags, stand = version.tags, standing(records(shelf))
    given = f"answer {clue.answer} was given by " if clue.answer else ""
    served = ", the champion" if stand.champion == version.number else ""
    name = f"{version.pipeline} version {version.number}"
    console.print(styled(given, (name, "bold"), f"{served}: {tags.get('title', '')}"))
    told: list[tuple[str, str | Text]] = [
        ("data", f"{tags.get('data_hash', 'unknown')}  (SHA-256 of clean's manifest)"),
        ("code", code_state(tags)),
        ("params", tags.get("pipeline_params_hash") or tags.get("params_hash", "unknown")),
        ("DVC lock", tags.get("dvc_lock") or "none"),
        ("run", f"{version.run_id}  (gristmill mlflow up)"),
        ("bundle", tags.get("bundle_sha256", "unknown")),
        ("test", f"accuracy {tags.get('accuracy', '?')}, {tags.get('accuracy_interval', '?')}"),
    ]
    told.append(
        (
            "gates",
            Text("  ").join(
                styled(f"{gate.name} ", (gate.verdict, COLOURS[gate.verdict]))
                for gate in gates_of(version)
            ),
        )
    )
    told += [
        ("decided", _decision(made)) for made in records(shelf) if made.version == version.number
    ]
    console.print(facts(told))


def _decision(made: Release) -> str:
    more = f", overriding {', '.join(made.overrides)}" if made.overrides else ""
    return f"{when(made)} UTC  {made.decision} by {made.who}{more}: {made.why}"
