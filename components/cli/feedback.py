"""`gristmill feedback …`: a person reviews what clients sent as the truth of answers.

Only what a person accepted becomes training data.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.cli.completion import complete_first_word
from components.cli.help_text import CommandApp, examples
from components.cli.pipeline_argument import Name, Pipeline, choose_pipeline
from components.core import escaping
from components.core.errors import InputError
from components.core.terminal import print_line
from components.orchestration.locks import only_one
from components.orchestration.output_paths import pipeline_names
from components.orchestration.project import pipeline_files, root

if TYPE_CHECKING:
    from rich.table import Table

    from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore, Key
    from components.orchestration.pipeline_params import Params
    from components.tasks.base import TaskFeedback

feedback_app = CommandApp(
    no_args_is_help=True,
    help=(
        "Review what clients sent as the truth of answers.\n\n"
        "Only what a person accepts becomes training data, of the next retrain."
    ),
    epilog=examples("gristmill feedback list", "gristmill feedback accept 4f1c2a90 --by ann"),
)
By = Annotated[str, typer.Option(metavar="WHO", help="Name of the person who decides.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME] ID[:ITEM]…",
        help=(
            "Feedback, as gristmill feedback list shows it. The beginning of an id is enough. "
            "Before it the pipeline, if it is not default."
        ),
        show_default="none, which needs --all",
        autocompletion=complete_first_word,
    ),
]
All = Annotated[bool, typer.Option("--all", help="Decide about all that waits.")]
# Characters of an id in the list.
_SHORT = 12
# Columns of a text in the list. A client may send a long one.
_LONGEST_CELL = 200


@feedback_app.command(
    "list", epilog=examples("gristmill feedback list", "gristmill feedback list digits --limit 10")
)
def list_(
    name: Name = None,
    pipeline: Pipeline = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="Number of entries to show.")] = 50,
) -> None:
    """List what waits for review, the oldest first."""
    from components.core.console import console

    chosen = choose_pipeline(root(), name, pipeline)
    params, store = _open(chosen)
    with _reviewing(params, store):
        waiting = store.waiting()
    rules = _rules(params)
    if not waiting:
        print_line(_none_waits(rules))
        return
    console.print(_table(waiting[:limit], rules))
    different = sum(rules.truth_text(entry.truth) != entry.prediction for entry in waiting)
    console.print(
        f"{len(waiting):,} wait, {different:,} of them with another {rules.noun} "
        "than was answered. "
        f"Decide: gristmill feedback accept | reject {chosen} ID… --by WHO"
    )


def _rules(params: Params) -> TaskFeedback:
    """Return how the pipeline's task reads feedback."""
    from components.tasks.base import evaluator

    return evaluator(params.task).feedback


def _none_waits(rules: TaskFeedback) -> str:
    return f"no {rules.noun} waits for review"


def _table(entries: Sequence[FeedbackEntry], rules: TaskFeedback) -> Table:
    from rich.table import Table

    from components.core.console import styled

    table = Table(box=None, pad_edge=False)
    for column in ("answer", "came (UTC)", "version", "answered", rules.noun, "text"):
        table.add_column(column, no_wrap=column == "answer", overflow="fold")
    for entry in entries:
        truth = rules.truth_text(entry.truth)
        style = "" if truth == entry.prediction else "bold yellow"
        table.add_row(
            _name(entry),
            time.strftime("%m-%d %H:%M", time.gmtime(entry.when)),
            escaping.one_line(entry.version),
            escaping.one_line(entry.prediction, _LONGEST_CELL) + _probability(entry),
            styled((escaping.one_line(truth, _LONGEST_CELL), style)),
            escaping.one_line(_input_text(entry), _LONGEST_CELL),
        )
    return table


def _probability(entry: FeedbackEntry) -> str:
    if entry.probability is None:
        return ""
    return f" {entry.probability:.0%}"


def _input_text(entry: FeedbackEntry) -> str:
    if not entry.input:
        return "(not kept: monitor.keep_text)"
    texts = map(str, json.loads(entry.input).values())
    return " / ".join(filter(None, texts))


@feedback_app.command(
    epilog=examples(
        "gristmill feedback accept 4f1c2a90 --by ann",
        "gristmill feedback accept digits --all --by ann",
    )
)
def accept(
    by: By,
    words: Words = None,
    all_: All = False,
    pipeline: Pipeline = None,
) -> None:
    """Make feedback training data: the next retrain reads it."""
    name, ids = _named(words or [], pipeline)
    params, store = _open(name)
    with _reviewing(params, store):
        rules = _rules(params)
        entries = _chosen(store, ids, all_, rules.noun)
        if not entries:
            print_line(_none_waits(rules))
            return
        _check_texts(entries)
        path = _folder(params) / _new_file_name()
        hidden = path.with_name(f".{path.name}")
        _write(hidden, [_record(params, entry, rules) for entry in entries])
        store.decide([entry.key for entry in entries], "accepted", by)
        _finish(params, store)
    print_line(f"{len(entries)} accepted by {by}: {path.relative_to(root())}")


def _check_texts(entries: Sequence[FeedbackEntry]) -> None:
    """Raise an error if the text of an answer was not stored.

    Raises:
        InputError: at least one text is absent.
    """
    without_text = [entry for entry in entries if entry.input is None]
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


@feedback_app.command(epilog=examples("gristmill feedback reject 4f1c2a90 --by ann"))
def reject(
    by: By,
    words: Words = None,
    all_: All = False,
    pipeline: Pipeline = None,
) -> None:
    """Mark feedback as wrong: no model learns from it.

    It counts in no check of answers.
    """
    name, ids = _named(words or [], pipeline)
    params, store = _open(name)
    with _reviewing(params, store):
        rules = _rules(params)
        entries = _chosen(store, ids, all_, rules.noun)
        if not entries:
            print_line(_none_waits(rules))
            return
        store.decide([entry.key for entry in entries], "rejected", by)
    print_line(f"{len(entries)} rejected by {by}")


@feedback_app.command(
    epilog=examples(
        "gristmill feedback doubts --out doubts.csv",
        "gristmill feedback doubts digits --out doubts.csv --folds 10",
    )
)
def doubts(
    out: Annotated[Path, typer.Option(metavar="FILE", help="CSV file for the list.")],
    name: Name = None,
    pipeline: Pipeline = None,
    folds: Annotated[int, typer.Option(metavar="N", min=2, max=50, help="Number of fits.")] = 5,
) -> None:
    """List train and validation rows whose targets may be wrong.

    Delete the lines of right targets, correct the others, then import the file.
    """
    from components.orchestration.doubtful_targets import write_doubts

    params, _ = _open(choose_pipeline(root(), name, pipeline))
    count = write_doubts(root(), params, out, folds)
    print_line(f"{count:,} rows listed, the most doubtful first: {out}")
    print_line("next: delete the lines of right targets, correct the column suggested, then")
    print_line(f"gristmill feedback import {params.name} {out} --by WHO")


@feedback_app.command(
    "import", epilog=examples("gristmill feedback import digits doubts.csv --by ann")
)
def import_(
    by: By,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME] FILE",
            help="List of gristmill feedback doubts. Before it the pipeline, if it is not default.",
            autocompletion=complete_first_word,
        ),
    ],
    pipeline: Pipeline = None,
) -> None:
    """Make an edited list of doubtful rows training data: the next retrain reads it.

    An accepted target outranks that of equal rows in the source.
    """
    from components.orchestration.doubtful_targets import read_corrections

    name, files = _named(words, pipeline)
    if len(files) != 1:
        raise InputError(
            f"needs one file, not {len(files)}",
            where="gristmill feedback import",
            remedy="gristmill feedback import [NAME] FILE --by WHO",
        )
    params, store = _open(name)
    corrections = read_corrections(root(), params, Path(files[0]))
    with _reviewing(params, store):
        decided = store.decided()
        rows = {}
        for correction in corrections:
            key = (correction.id, 0)
            if key not in decided:
                columns = dict(correction.columns)
                rows[key] = _training_row(params, _id(key), columns, correction.target)
        if not rows:
            print_line("nothing is new in this file")
            return
        path = _folder(params) / _new_file_name()
        _write(path.with_name(f".{path.name}"), list(rows.values()))
        store.decide(list(rows), "accepted", by)
        _finish(params, store)
    print_line(f"{len(rows)} accepted by {by}: {path.relative_to(root())}")


def _named(words: Sequence[str], pipeline: str | None) -> tuple[str, Sequence[str]]:
    """Return the pipeline and the ids of `[NAME] ID…`.

    The first word is a name if there is a pipeline of that name.
    """
    if words and words[0] in pipeline_names(root()):
        return choose_pipeline(root(), words[0], pipeline), words[1:]
    return choose_pipeline(root(), None, pipeline), words


def _open(pipeline: str) -> tuple[Params, FeedbackStore]:
    from components.monitoring.feedback_store import FeedbackStore
    from components.monitoring.monitor_folder import FEEDBACK
    from components.orchestration.drift.drift_check import monitoring
    from components.orchestration.pipeline_params import load

    path = pipeline_files(root(), pipeline)[0]
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
    """Return the folder of accepted feedback."""
    return root() / "data" / "feedback" / params.name


def _finish(params: Params, store: FeedbackStore) -> None:
    """Publish the accepted rows of hidden files, then delete these files.

    A killed command leaves a hidden file. Its rows without a decision still wait for review.
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


def _name(entry: FeedbackEntry) -> str:
    """Return the short name of an entry in the list."""
    return f"{entry.id[:_SHORT]}:{entry.item}"


def _chosen(
    store: FeedbackStore, which: Sequence[str], all_: bool, noun: str
) -> list[FeedbackEntry]:
    """Return the entries that a command line names, of those that wait.

    Args:
        store: of entries and decisions.
        which: the beginnings of ids, each with an item or without.
        all_: whether all entries are meant.
        noun: what people call a truth, for messages.

    Raises:
        InputError: no entry is named, or a name matches none or several.
    """
    if all_ == bool(which):
        raise InputError(
            f"name {noun}s, or say --all",
            where="feedback",
            remedy="gristmill feedback list shows their names",
        )
    waiting = store.waiting()
    if all_:
        return waiting
    chosen: dict[Key, FeedbackEntry] = {}
    for name in which:
        matches = [entry for entry in waiting if _matches(entry.key, name)]
        if len(matches) != 1:
            raise InputError(
                _mismatch(store, name, len(matches), noun),
                where="feedback",
                remedy="gristmill feedback list shows their names",
            )
        chosen[matches[0].key] = matches[0]
    return list(chosen.values())


def _mismatch(store: FeedbackStore, name: str, count: int, noun: str) -> str:
    """Return why a name does not mean one entry that waits."""
    decisions = [decision for key, decision in store.decided().items() if _matches(key, name)]
    if count == 0 and len(decisions) == 1:
        return f"{name!r} was {decisions[0]} already"
    return f"{name!r} means {count} of the {noun}s that wait"


def _matches(key: Key, name: str) -> bool:
    id_, _, item = name.partition(":")
    return key[0].startswith(id_) and (not item or str(key[1]) == item)


def _record(params: Params, entry: FeedbackEntry, rules: TaskFeedback) -> Mapping[str, Any]:
    """Return the row of training data of an entry."""
    columns: dict[str, Any] = json.loads(entry.input or "{}")
    return _training_row(params, _id(entry.key), columns, rules.truth_text(entry.truth))


def _training_row(
    params: Params, id_: str, columns: dict[str, Any], truth: str
) -> Mapping[str, Any]:
    """Return a row of training data, with the column names of the pipeline's source.

    Args:
        params: of the pipeline.
        id_: of the row.
        columns: inputs by role.
        truth: value of the target column.
    """
    from components.tasks.base import schema

    ingest = params.sections["ingest"]
    source_names: Mapping[str, str] = ingest.columns  # type: ignore[attr-defined]
    target = next(role.name for role in schema(params.task).roles if role.role == "target")
    columns[target] = truth
    row = {"id": id_}
    for name, value in columns.items():
        row[source_names.get(name, name)] = value
    return row


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    from components.core.files import write_atomic

    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_atomic(path, "".join(lines))
