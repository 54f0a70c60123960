"""`gristmill review …`, `rollback` and `history`: what a person decides about the champion."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from components.cli.pipeline_argument import (
    Name,
    Pipeline,
    choose_pipeline,
    explicit_pipeline,
    split_name,
    version_number,
)
from components.core.terminal import print_line
from components.orchestration.project import root

if TYPE_CHECKING:
    from components.registry.release.gates import GateParams, GateRules
    from components.registry.release.release_log import Release
    from components.registry.versions.reader import RegistrySnapshot

review_app = typer.Typer(no_args_is_help=True, help="Versions that wait for a person.")
Version = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME] N",
        help="the number of a version; before it the pipeline, if it is not default",
    ),
]
By = Annotated[str, typer.Option(help="who decides")]
Note = Annotated[str, typer.Option(help="why, in a sentence")]


@review_app.command("list", help="All versions: what was decided, and what waits.")
def list_(name: Name = None, pipeline: Pipeline = None) -> None:
    """Print all versions of a pipeline."""
    from components.cli.review_tables import show_list

    snapshot, _ = _open(choose_pipeline(root(), name, pipeline))
    show_list(snapshot)


@review_app.command(help="The card of a version.")
def show(version: Version = None, pipeline: Pipeline = None) -> None:
    """Print the card of a version."""
    from components.cli.review_tables import show_version

    name, number = _version(version, pipeline, "review show")
    snapshot, rules = _open(name)
    show_version(root(), snapshot, snapshot.version(number), rules)


@review_app.command(help="A version beside the champion.")
def diff(version: Version = None, pipeline: Pipeline = None) -> None:
    """Print a version beside the champion."""
    from components.cli.review_diff import show_diff

    name, number = _version(version, pipeline, "review diff")
    snapshot, rules = _open(name)
    show_diff(root(), snapshot, snapshot.version(number), rules)


@review_app.command()
def approve(
    by: By,
    note: Note,
    version: Version = None,
    pipeline: Pipeline = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "a gate that you answer for: baseline, champion, calibration, slices; "
                "or rejected, to take a rejection back"
            )
        ),
    ] = None,
) -> None:
    """Release a version."""
    from components.registry.release import promotion

    name, number = _version(version, pipeline, "review approve")
    _, rules = _open(name)
    gates = override or ()
    release = promotion.approve(root(), name, number, rules, who=by, why=note, overrides=gates)
    _report(release, name)


@review_app.command()
def reject(by: By, note: Note, version: Version = None, pipeline: Pipeline = None) -> None:
    """Say that a version must not be released."""
    from components.registry.release import promotion

    name, number = _version(version, pipeline, "review reject")
    _open(name)
    _report(promotion.reject(root(), name, number, who=by, why=note), name)


def rollback(
    by: By,
    note: Note,
    name: Name = None,
    to: Annotated[
        int | None,
        typer.Option(min=1, help="a version that was champion; without it: the one before"),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Release an earlier champion again."""
    from components.registry.release import promotion

    name = choose_pipeline(root(), name, pipeline)
    snapshot, _ = _open(name)
    if to is None:
        _refuse_same_rollback(snapshot, by, note)
    _report(promotion.rollback(root(), name, to, who=by, why=note), name)


HISTORY_HELP = (
    "Every release, rejection and rollback: who, when, why, from, to. "
    "Every retrain: trigger, outcome, durations, what it was made with."
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
    """Print every release, rejection, rollback and retrain of a pipeline."""
    from components.cli.review_tables import show_history
    from components.registry.release.retrain_record import retrains
    from components.registry.versions.reader import read_snapshot

    name = choose_pipeline(root(), name, pipeline)
    snapshot = read_snapshot(root(), name)
    # A first retrain may have failed before there was a version.
    if snapshot is None or snapshot.versions or not retrains(snapshot):
        snapshot, _ = _open(name)
    show_history(snapshot)


TRACE_HELP = "Where an answer comes from: data, code, params, run, gates, and who released it."


def trace(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] ANSWER_OR_VERSION",
            help=(
                "the id that the service gave with an answer, a version, a bundle's hash, "
                "an answer as JSON, a file that holds one, or -; "
                "before it the pipeline, if it is not default"
            ),
        ),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Print the origin of an answer or of a version."""
    from components.cli.trace import trace as show_trace

    name, text = split_name(what, "ANSWER_OR_VERSION", "trace")
    chosen = explicit_pipeline(name, pipeline)
    stdin = sys.stdin.read() if text == "-" else ""
    show_trace(root(), text, chosen, stdin)


def _version(words: list[str] | None, pipeline: str | None, command: str) -> tuple[str, int]:
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
    from components.orchestration.pipeline_params import load
    from components.orchestration.runner.run import files_of
    from components.registry.release.gates import gate_rules
    from components.registry.release.mlflow_requests import apply_mlflow_requests
    from components.registry.versions.reader import read_snapshot

    path = files_of(root(), pipeline)[0]
    params = load(path, shown=path.relative_to(root()).as_posix())
    gates: GateParams = params.sections["registry"].gates  # type: ignore[attr-defined]
    rules = gate_rules(params.task, gates)
    for release in apply_mlflow_requests(root(), pipeline, rules):
        print_line(
            f"from MLflow: version {release.version} {release.decision} "
            f"by {release.who} ({release.why})"
        )
    snapshot = read_snapshot(root(), pipeline)
    if snapshot is None or not snapshot.versions:
        command = "gristmill run" if pipeline == "default" else f"gristmill run {pipeline}"
        raise InputError(
            f"pipeline {pipeline!r} has no versions yet",
            where="registry",
            remedy=f"{command} registers one",
        )
    return snapshot, rules


def _report(release: Release, pipeline: str) -> None:
    """Print what a decision changed."""
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
