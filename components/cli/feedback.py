"""`gristmill feedback …`: a person reviews the labels that clients sent.

Only labels that a person accepted become training data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.cli.pipeline_argument import Name, Pipeline, choose_pipeline
from components.core import escaping
from components.core.errors import InputError
from components.core.terminal import print_line
from components.monitoring.feedback_store import FeedbackStore, Key, Label
from components.orchestration.locks import only_one
from components.orchestration.output_paths import pipeline_names
from components.orchestration.project import root

if TYPE_CHECKING:
    from rich.table import Table

    from components.orchestration.pipeline_params import Params

feedback_app = typer.Typer(
    no_args_is_help=True,
    help="Labels that clients sent for answers, before a person has looked at them.",
)
By = Annotated[str, typer.Option(help="who decides")]
Which = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME] ID[:ITEM]…",
        help=(
            "as `list` shows them; the beginning of an id is enough; "
            "before them the pipeline, if it is not default"
        ),
    ),
]
All = Annotated[bool, typer.Option("--all", help="all that wait")]
NONE_WAITS = "no label waits for review"
# Characters of an id in the list.
_SHORT = 12
# Columns of a text in the list. A client may send a long one.
_LONGEST_CELL = 200


@feedback_app.command("list", help="What waits for review, the oldest first.")
def list_(
    name: Name = None, pipeline: Pipeline = None, limit: Annotated[int, typer.Option(min=1)] = 50
) -> None:
    """Print the labels that wait for review, the oldest first."""
    from components.core.console import console

    params, store = _open(choose_pipeline(root(), name, pipeline))
    with _reviewing(params, store):
        waiting = store.waiting()
    if not waiting:
        print_line(NONE_WAITS)
        return
    console.print(_table(waiting[:limit]))
    different = sum(label.label != label.prediction for label in waiting)
    console.print(
        f"{len(waiting):,} wait, {different:,} of them with another label than was answered. "
        "gristmill feedback accept | reject ID… --by WHO"
    )


def _table(labels: Sequence[Label]) -> Table:
    from rich.table import Table

    from components.core.console import styled

    table = Table(box=None, pad_edge=False)
    for column in ("answer", "came (UTC)", "version", "answered", "label", "text"):
        table.add_column(column, no_wrap=column == "answer", overflow="fold")
    for label in labels:
        style = "" if label.label == label.prediction else "bold yellow"
        table.add_row(
            _name(label),
            time.strftime("%m-%d %H:%M", time.gmtime(label.when)),
            escaping.one_line(label.version),
            escaping.one_line(label.prediction, _LONGEST_CELL) + _probability(label),
            styled((escaping.one_line(label.label, _LONGEST_CELL), style)),
            escaping.one_line(_input_text(label), _LONGEST_CELL),
        )
    return table


def _probability(label: Label) -> str:
    if label.probability is None:
        return ""
    return f" {label.probability:.0%}"


def _input_text(label: Label) -> str:
    if not label.input:
        return "(not kept: monitor.keep_text)"
    return " / ".join(filter(None, json.loads(label.input).values()))


@feedback_app.command()
def accept(by: By, which: Which = None, all_: All = False, pipeline: Pipeline = None) -> None:
    """Make labels training data: a file that the next retrain reads."""
    name, ids = _named(which or [], pipeline)
    params, store = _open(name)
    with _reviewing(params, store):
        labels = _chosen(store, ids, all_)
        if not labels:
            print_line(NONE_WAITS)
            return
        _check_texts(labels)
        path = _folder(params) / _new_file_name()
        hidden = path.with_name(f".{path.name}")
        _write(hidden, [_record(params, label) for label in labels])
        store.decide([label.key for label in labels], "accepted", by)
        _finish(params, store)
    print_line(f"{len(labels)} accepted by {by}: {path.relative_to(root())}")


def _check_texts(labels: Sequence[Label]) -> None:
    """Raise an error if the text of an answer was not stored.

    Raises:
        InputError: at least one text is absent.
    """
    without_text = [label for label in labels if label.input is None]
    if without_text:
        raise InputError(
            f"the text of {len(without_text)} of these answers was not kept, "
            "so they cannot be learnt from",
            where=_name(without_text[0]),
            remedy="reject them; for new answers set monitor.keep_text: true",
        )


def _new_file_name() -> str:
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return f"accepted-{moment}-{time.time_ns() % 10**6:06d}.jsonl"


@feedback_app.command(
    help="Say that labels are wrong: they are never learned from, and count no more for accuracy."
)
def reject(by: By, which: Which = None, all_: All = False, pipeline: Pipeline = None) -> None:
    """Mark labels as wrong: they are no training data and do not count for accuracy."""
    name, ids = _named(which or [], pipeline)
    params, store = _open(name)
    with _reviewing(params, store):
        labels = _chosen(store, ids, all_)
        if not labels:
            print_line(NONE_WAITS)
            return
        store.decide([label.key for label in labels], "rejected", by)
    print_line(f"{len(labels)} rejected by {by}")


def _named(words: Sequence[str], pipeline: str | None) -> tuple[str, Sequence[str]]:
    """Return the pipeline and the ids of `[NAME] ID…`.

    The first word is a name if there is a pipeline of that name.
    """
    if words and words[0] in pipeline_names(root()):
        return choose_pipeline(root(), words[0], pipeline), words[1:]
    return choose_pipeline(root(), None, pipeline), words


def _open(pipeline: str) -> tuple[Params, FeedbackStore]:
    from components.orchestration.drift.drift_check import monitoring
    from components.orchestration.pipeline_params import load
    from components.orchestration.runner.run import files_of
    from components.serving.http.monitoring_routes import FEEDBACK

    path = files_of(root(), pipeline)[0]
    params = load(path, shown=path.relative_to(root()).as_posix())
    folder = monitoring(root(), params).folder / FEEDBACK
    return params, FeedbackStore(folder, params.monitor.feedback_rows)


@contextmanager
def _reviewing(params: Params, store: FeedbackStore) -> Iterator[None]:
    """Hold the lock of reviews. First complete what an interrupted command left."""
    with only_one(
        root() / "data" / ".state" / params.name / "monitor" / "review.lock",
        f"a review of feedback on {params.name}",
        wait=10,
    ):
        _finish(params, store)
        yield


def _folder(params: Params) -> Path:
    """Return the folder of accepted labels."""
    return root() / "data" / "feedback" / params.name


def _finish(params: Params, store: FeedbackStore) -> None:
    """Publish the accepted labels of hidden files, then delete these files.

    A killed command leaves a hidden file. Its labels without a decision still wait for review.
    """
    for part in _folder(params).glob(".*.part"):
        # Of a command that was killed while it wrote: one reviewer at a time has the lock.
        part.unlink()
    for hidden in sorted(_folder(params).glob(".accepted-*.jsonl")):
        decisions = store.decided()
        accepted = {_id(key) for key, decision in decisions.items() if decision == "accepted"}
        rows = [json.loads(line) for line in hidden.read_text(encoding="utf-8").splitlines()]
        accepted_rows = [row for row in rows if row["id"] in accepted]
        if accepted_rows:
            _write(hidden.with_name(hidden.name[1:]), accepted_rows)
        hidden.unlink()


def _id(key: Key) -> str:
    """Return the id of a row of training data."""
    from components.tasks.base import FEEDBACK

    return f"{FEEDBACK}{key[0]}-{key[1]}"


def _name(label: Label) -> str:
    """Return the short name of a label in the list."""
    return f"{label.id[:_SHORT]}:{label.item}"


def _chosen(store: FeedbackStore, which: Sequence[str], all_: bool) -> list[Label]:
    """Return the labels that a command line names, of those that wait.

    Args:
        store: of labels and decisions.
        which: the beginnings of ids, each with an item or without.
        all_: whether all labels are meant.

    Raises:
        InputError: no label is named, or a name matches none or several.
    """
    if all_ == bool(which):
        raise InputError(
            "name labels, or say --all",
            where="feedback",
            remedy="gristmill feedback list shows their names",
        )
    waiting = store.waiting()
    if all_:
        return waiting
    chosen: dict[Key, Label] = {}
    for name in which:
        matches = [label for label in waiting if _matches(label.key, name)]
        if len(matches) != 1:
            raise InputError(
                _mismatch(store, name, len(matches)),
                where="feedback",
                remedy="gristmill feedback list shows their names",
            )
        chosen[matches[0].key] = matches[0]
    return list(chosen.values())


def _mismatch(store: FeedbackStore, name: str, count: int) -> str:
    """Return why a name does not mean one label that waits."""
    decisions = [decision for key, decision in store.decided().items() if _matches(key, name)]
    if count == 0 and len(decisions) == 1:
        return f"{name!r} was {decisions[0]} already"
    return f"{name!r} means {count} of the labels that wait"


def _matches(key: Key, name: str) -> bool:
    id_, _, item = name.partition(":")
    return key[0].startswith(id_) and (not item or str(key[1]) == item)


def _record(params: Params, label: Label) -> Mapping[str, str]:
    """Return a row of training data, with the column names of the pipeline's source."""
    from components.tasks.base import schema

    ingest = params.sections["ingest"]
    source_names: Mapping[str, str] = ingest.columns  # type: ignore[attr-defined]
    columns: dict[str, str] = json.loads(label.input or "{}")
    target = next(role.name for role in schema(params.task).roles if role.role == "target")
    columns[target] = label.label
    row = {"id": _id(label.key)}
    for name, value in columns.items():
        row[source_names.get(name, name)] = value
    return row


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    from components.core.files import write_atomic

    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_atomic(path, "".join(lines))
