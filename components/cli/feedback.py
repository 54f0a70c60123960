"""`gristmill feedback …`: labels that clients sent, looked at by a person before they may become training data."""

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
from components.monitoring.feedback import FeedbackStore, Key, Label
from components.orchestration.locks import only_one
from components.orchestration.output_paths import pipeline_names
from components.orchestration.project import root

if TYPE_CHECKING:
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
        help="as `list` shows them; the beginning of an id is enough; before them the pipeline, if it is not default",
    ),
]
All = Annotated[bool, typer.Option("--all", help="all that wait")]
NONE_WAITS = "no label waits for review"
_SHORT = 12
# Columns of a text in the list; a client may send a long one.
_LONGEST_CELL = 200


@feedback_app.command("list")
def list_(
    name: Name = None, pipeline: Pipeline = None, limit: Annotated[int, typer.Option(min=1)] = 50
) -> None:
    """What waits for review, the oldest first."""
    from rich.table import Table

    from components.core.console import console, styled

    params, box = _open(choose_pipeline(root(), name, pipeline))
    with _reviewing(params, box):
        waiting = box.waiting()
    if not waiting:
        print_line(NONE_WAITS)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("answer", "came (UTC)", "version", "answered", "label", "text"):
        table.add_column(name, no_wrap=name == "answer", overflow="fold")
    for each in waiting[:limit]:
        sure = "" if each.probability is None else f" {each.probability:.0%}"
        style = "" if each.label == each.prediction else "bold yellow"
        shown = (
            " / ".join(filter(None, json.loads(each.input).values()))
            if each.input
            else "(not kept: monitor.keep_text)"
        )
        came = time.strftime("%m-%d %H:%M", time.gmtime(each.when))
        table.add_row(
            _name(each),
            came,
            escaping.one_line(each.version),
            escaping.one_line(each.prediction, _LONGEST_CELL) + sure,
            styled((escaping.one_line(each.label, _LONGEST_CELL), style)),
            escaping.one_line(shown, _LONGEST_CELL),
        )
    console.print(table)
    other = sum(each.label != each.prediction for each in waiting)
    console.print(
        f"{len(waiting):,} wait, {other:,} of them with another label than was answered. gristmill feedback accept | reject ID… --by WHO"
    )


@feedback_app.command()
def accept(by: By, which: Which = None, all_: All = False, pipeline: Pipeline = None) -> None:
    """Make labels training data: a file that the next retrain reads."""
    name, ids = _named(which or [], pipeline)
    params, box = _open(name)
    with _reviewing(params, box):
        labels = _chosen(box, ids, all_)
        if not labels:
            print_line(NONE_WAITS)
            return
        lost = [each for each in labels if each.input is None]
        if lost:
            raise InputError(
                f"the text of {len(lost)} of these answers was not kept, so they cannot be learnt from",
                where=_name(lost[0]),
                remedy="reject them; for new answers set monitor.keep_text: true",
            )
        path = (
            _home(params)
            / f"accepted-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**6:06d}.jsonl"
        )
        _write(path.with_name(f".{path.name}"), [_record(params, each) for each in labels])
        box.decide([each.key for each in labels], "accepted", by)
        _finish(params, box)
    print_line(f"{len(labels)} accepted by {by}: {path.relative_to(root())}")


@feedback_app.command()
def reject(by: By, which: Which = None, all_: All = False, pipeline: Pipeline = None) -> None:
    """Say that labels are wrong: they are never learned from, and count no more for accuracy."""
    name, ids = _named(which or [], pipeline)
    params, box = _open(name)
    with _reviewing(params, box):
        labels = _chosen(box, ids, all_)
        if not labels:
            print_line(NONE_WAITS)
            return
        box.decide([each.key for each in labels], "rejected", by)
    print_line(f"{len(labels)} rejected by {by}")


def _named(words: Sequence[str], pipeline: str | None) -> tuple[str, Sequence[str]]:
    """Return the pipeline and the ids of `[NAME] ID…`: the first word is a name if there is a pipeline of that name."""
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
    return params, FeedbackStore(
        monitoring(root(), params).folder / FEEDBACK, params.monitor.feedback_rows
    )


@contextmanager
def _reviewing(params: Params, box: FeedbackStore) -> Iterator[None]:
    """One reviewer at a time, who finds what was begun before ended."""
    with only_one(
        root() / "data" / ".state" / params.name / "monitor" / "review.lock",
        f"a review of feedback on {params.name}",
        wait=10,
    ):
        _finish(params, box)
        yield


def _home(params: Params) -> Path:
    return root() / "data" / "feedback" / params.name


def _finish(params: Params, box: FeedbackStore) -> None:
    """Show to retrains what has been accepted of the files that lie hidden; the rest of them was begun by a command that was killed, and waits as before."""
    for part in _home(params).glob(".*.part"):
        # Of a command that was killed while it wrote: one reviewer at a time has the lock.
        part.unlink()
    for hidden in sorted(_home(params).glob(".accepted-*.jsonl")):
        accepted = {_id(key) for key, decision in box.decided().items() if decision == "accepted"}
        rows = [json.loads(line) for line in hidden.read_text(encoding="utf-8").splitlines()]
        if kept := [row for row in rows if row["id"] in accepted]:
            _write(hidden.with_name(hidden.name[1:]), kept)
        hidden.unlink()


def _id(key: Key) -> str:
    from components.tasks.base import FEEDBACK

    return f"{FEEDBACK}{key[0]}-{key[1]}"


def _name(label: Label) -> str:
    return f"{label.id[:_SHORT]}:{label.item}"


def _chosen(box: FeedbackStore, which: Sequence[str], all_: bool) -> list[Label]:
    """Return the labels that are meant, of those that wait.

    Raises:
        InputError: none, or a name that means no label or several.
    """
    if all_ == bool(which):
        raise InputError(
            "name labels, or say --all",
            where="feedback",
            remedy="gristmill feedback list shows their names",
        )
    waiting = box.waiting()
    if all_:
        return waiting
    chosen: dict[tuple[str, int], Label] = {}
    for name in which:
        id_, _, item = name.partition(":")
        found = [
            each
            for each in waiting
            if each.id.startswith(id_) and (not item or str(each.item) == item)
        ]
        if len(found) != 1:
            decisions = [
                decision
                for key, decision in box.decided().items()
                if key[0].startswith(id_) and (not item or str(key[1]) == item)
            ]
            what = f"{name!r} means {len(found)} of the labels that wait"
            if not found and len(decisions) == 1:
                what = f"{name!r} was {decisions[0]} already"
            raise InputError(
                what,
                where="feedback",
                remedy="gristmill feedback list shows their names",
            )
        chosen[found[0].key] = found[0]
    return list(chosen.values())


def _record(params: Params, label: Label) -> Mapping[str, str]:
    """A row with the columns that this pipeline's ingest reads, under the names that the source has for them."""
    from components.tasks.base import schema

    named: Mapping[str, str] = params.sections["ingest"].columns  # type: ignore[attr-defined]
    columns: dict[str, str] = json.loads(label.input or "{}")
    target = next(role.name for role in schema(params.task).roles if role.role == "target")
    return {
        "id": _id(label.key),
        **{
            named.get(name, name): value for name, value in {**columns, target: label.label}.items()
        },
    }


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    from components.core.files import write_atomic

    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
