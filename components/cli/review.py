"""`gristmill review …`, `rollback` and `history`: what a person decides about the champion."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from components.cli.completion import complete_version, complete_words
from components.cli.help_text import CommandApp, examples
from components.cli.pipeline_argument import (
    Name,
    Pipeline,
    choose_pipeline,
    explicit_pipeline,
    split_name,
    version_number,
)
from components.core.terminal import print_line
from components.orchestration.project import pipeline_files, root

if TYPE_CHECKING:
    from components.orchestration.pipeline_params import Params
    from components.registry.release.gates import GateParams, GateRules
    from components.registry.release.release_log import Release
    from components.registry.versions.reader import RegistrySnapshot

review_app = CommandApp(
    no_args_is_help=True,
    help="Decide about versions that wait for a person.",
    epilog=examples(
        "gristmill review list",
        "gristmill review diff 3",
        'gristmill review approve 3 --by ann --note "better on short texts"',
    ),
)
Words = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME] N",
        help="Number of a version. Before it the pipeline, if it is not default.",
        autocompletion=complete_words,
    ),
]
By = Annotated[str, typer.Option(metavar="WHO", help="Name of the person who decides.")]
Note = Annotated[str, typer.Option(metavar="TEXT", help="Reason, in a sentence.")]


@review_app.command(
    "list", epilog=examples("gristmill review list", "gristmill review list digits")
)
def list_(name: Name = None, pipeline: Pipeline = None) -> None:
    """List all versions: what was decided, and what waits."""
    from components.cli.review_tables import show_list

    snapshot, _ = _open(choose_pipeline(root(), name, pipeline))
    show_list(snapshot)


@review_app.command(epilog=examples("gristmill review show 3", "gristmill review show digits 3"))
def show(words: Words, pipeline: Pipeline = None) -> None:
    """Show the card of a version: data, code, metrics, gates, decisions."""
    from components.cli.review_tables import show_version

    name, number = _version(words, pipeline, "review show")
    snapshot, rules = _open(name)
    show_version(root(), snapshot, snapshot.version(number), rules)


@review_app.command(epilog=examples("gristmill review diff 3", "gristmill review diff digits 3"))
def diff(words: Words, pipeline: Pipeline = None) -> None:
    """Compare a version with the champion."""
    from components.cli.review_diff import show_diff

    name, number = _version(words, pipeline, "review diff")
    snapshot, rules = _open(name)
    show_diff(root(), snapshot, snapshot.version(number), rules)


@review_app.command(
    epilog=examples(
        'gristmill review approve 3 --by ann --note "better on short texts"',
        'gristmill review approve 3 --by ann --note "known cause" --override slices',
    )
)
def approve(
    words: Words,
    by: By,
    note: Note,
    pipeline: Pipeline = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE",
            help=(
                "Gate that you answer for: baseline, champion, calibration or slices. "
                "rejected takes a rejection back. Repeatable."
            ),
            show_default="none",
        ),
    ] = None,
) -> None:
    """Release a version: it becomes the champion."""
    from components.registry.release import promotion

    name, number = _version(words, pipeline, "review approve")
    _, rules = _open(name)
    gates = override or ()
    release = promotion.approve(
        root(),
        name,
        number,
        rules,
        who=by,
        why=note,
        overrides=gates,
    )
    _report(release, name)


@review_app.command(
    epilog=examples('gristmill review reject 3 --by ann --note "worse on long texts"')
)
def reject(words: Words, by: By, note: Note, pipeline: Pipeline = None) -> None:
    """Reject a version: it must not be released."""
    from components.registry.release import promotion

    name, number = _version(words, pipeline, "review reject")
    _open(name)
    _report(
        promotion.reject(
            root(),
            name,
            number,
            who=by,
            why=note,
        ),
        name,
    )


def rollback(
    by: By,
    note: Note,
    name: Name = None,
    to: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Number of a version that was champion.",
            show_default="the champion before",
            autocompletion=complete_version,
        ),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Release an earlier champion again."""
    from components.registry.release import promotion

    name = choose_pipeline(root(), name, pipeline)
    snapshot, _ = _open(name)
    if to is None:
        _refuse_same_rollback(snapshot, by, note)
    _report(
        promotion.rollback(
            root(),
            name,
            to,
            who=by,
            why=note,
        ),
        name,
    )


def _refuse_same_rollback(snapshot: RegistrySnapshot, who: str, why: str) -> None:
    """Refuse to go back twice where a command was killed after its record and is given again.

    Raises:
        InputError: the latest decision is a rollback by the same person with the same note.
    """
    from components.core.errors import InputError
    from components.registry.release.release_log import records

    decided = records(snapshot)
    if not decided:
        return
    latest = decided[-1]
    if (latest.decision, latest.who, latest.why) == ("rolled back", who, why):
        when = latest.when[:16].replace("T", " ")
        raise InputError(
            f"version {latest.version} of {snapshot.pipeline!r} is champion already: "
            f"rolled back by {who} at {when} UTC ({why})",
            where="registry",
            remedy="to go further back, say --to N or another --note",
        )


def history(name: Name = None, pipeline: Pipeline = None) -> None:
    """List every release, rejection, rollback and retrain.

    A decision has its person, time, reason, and the versions before and after.
    A retrain has its trigger, outcome, durations, and what it was made with.
    """
    from components.cli.review_tables import show_history
    from components.registry.release.retrain_record import retrains
    from components.registry.versions.reader import read_snapshot

    name = choose_pipeline(root(), name, pipeline)
    snapshot = read_snapshot(root(), name)
    # A first retrain may have failed before there was a version.
    if snapshot is None or snapshot.versions or not retrains(snapshot):
        snapshot, _ = _open(name)
    show_history(snapshot)


def trace(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] ANSWER_OR_VERSION",
            help=(
                "Id of an answer, number of a version, hash of a bundle, an answer as JSON, "
                "a file with one, or - for standard input. "
                "Before it the pipeline, if it is not default."
            ),
            show_default=False,
            autocompletion=complete_words,
        ),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Show where an answer or a version comes from.

    Data, code, params, run, gates, and who released it.
    """
    from components.cli.trace import trace as show_trace

    name, text = split_name(words, "ANSWER_OR_VERSION", "trace")
    chosen = explicit_pipeline(name, pipeline)
    stdin = sys.stdin.read() if text == "-" else ""
    show_trace(root(), text, chosen, stdin)


def _version(words: list[str], pipeline: str | None, command: str) -> tuple[str, int]:
    """Return the pipeline and the number that `[NAME] N` mean.

    Raises:
        InputError: they mean none, or two pipelines.
    """
    name, text = split_name(words, "N", command)
    number = version_number(text, command)
    return choose_pipeline(root(), name, pipeline), number


def _open(pipeline: str) -> tuple[RegistrySnapshot, GateRules]:
    """Apply what people asked for in MLflow, then read the registry's records of a pipeline.

    Returns:
        The records, and the rules of the pipeline's gates.

    Raises:
        InputError: nothing was registered yet.
    """
    from components.core.errors import InputError
    from components.orchestration.release_events import send_events
    from components.registry.release.gates import gate_rules
    from components.registry.release.mlflow_requests import apply_mlflow_requests
    from components.registry.versions.reader import read_snapshot

    params = _params(pipeline)
    send_events(root(), params)
    gates: GateParams = params.sections["registry"].gates  # type: ignore[attr-defined]
    rules = gate_rules(params.task, gates)
    requests = apply_mlflow_requests(root(), pipeline, rules)
    for release in requests:
        print_line(
            f"from MLflow: version {release.version} {release.decision} "
            f"by {release.who} ({release.why})"
        )
    if requests:
        send_events(root(), params)
    snapshot = read_snapshot(root(), pipeline)
    if snapshot is None or not snapshot.versions:
        command = "gristmill run" if pipeline == "default" else f"gristmill run {pipeline}"
        raise InputError(
            f"pipeline {pipeline!r} has no versions yet",
            where="registry",
            remedy=f"{command} registers one",
        )
    return snapshot, rules


def _params(pipeline: str) -> Params:
    """Return the params of a pipeline."""
    from components.orchestration.pipeline_params import load

    path = pipeline_files(root(), pipeline)[0]
    return load(path, shown=path.relative_to(root()).as_posix())


def _report(release: Release, pipeline: str) -> None:
    """Print what a decision changed, and send its messages."""
    from components.orchestration.release_events import send_events

    _print_change(release, pipeline)
    send_events(root(), _params(pipeline))


def _print_change(release: Release, pipeline: str) -> None:
    before = f"version {release.before}" if release.before else "none"
    if release.decision == "rejected":
        print_line(
            f"version {release.version} of {pipeline} is rejected by {release.who}; "
            f"champion stays {before}"
        )
        return
    print_line(
        f"version {release.version} of {pipeline} is champion now "
        f"({release.decision} by {release.who}); before: {before}"
    )
