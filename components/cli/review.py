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
    from components.registry.release.gates import GateParams
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


@review_app.command("list")
def list_(name: Name = None, pipeline: Pipeline = None) -> None:
    """All versions: what was decided, and what waits."""
    from components.cli.review_tables import show_list

    shelf, _ = _open(choose_pipeline(root(), name, pipeline))
    show_list(shelf)


@review_app.command()
def show(version: Version = None, pipeline: Pipeline = None) -> None:
    """The card of a version."""
    from components.cli.review_tables import show_version

    name, number = _version(version, pipeline, "review show")
    shelf, _ = _open(name)
    show_version(root(), shelf, shelf.version(number))


@review_app.command()
def diff(version: Version = None, pipeline: Pipeline = None) -> None:
    """A version beside the champion."""
    from components.cli.review_diff import show_diff

    name, number = _version(version, pipeline, "review diff")
    shelf, limits = _open(name)
    show_diff(root(), shelf, shelf.version(number), limits)


@review_app.command()
def approve(
    by: By,
    note: Note,
    version: Version = None,
    pipeline: Pipeline = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help="a gate that you answer for: baseline, champion, calibration, slices; or rejected, to take a rejection back"
        ),
    ] = None,
) -> None:
    """Release a version."""
    from components.registry.release import promotion

    name, number = _version(version, pipeline, "review approve")
    _, limits = _open(name)
    _tell(
        promotion.approve(root(), name, number, limits, who=by, why=note, overrides=override or ()),
        name,
    )


@review_app.command()
def reject(by: By, note: Note, version: Version = None, pipeline: Pipeline = None) -> None:
    """Say that a version must not be released."""
    from components.registry.release import promotion

    name, number = _version(version, pipeline, "review reject")
    _open(name)
    _tell(promotion.reject(root(), name, number, who=by, why=note), name)


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
    shelf, _ = _open(name)
    if to is None:
        _refuse_same_rollback(shelf, by, note)
    _tell(promotion.rollback(root(), name, to, who=by, why=note), name)


def _refuse_same_rollback(shelf: RegistrySnapshot, who: str, why: str) -> None:
    """Refuse to go back twice where a command was killed after its record and is given again.

    Raises:
        InputError: the latest decision is a rollback by the same person with the same note.
    """
    from components.core.errors import InputError
    from components.registry.release.release_log import records

    decided = records(shelf)
    if not decided:
        return
    latest = decided[-1]
    if (latest.decision, latest.who, latest.why) == ("rolled back", who, why):
        when = latest.when[:16].replace("T", " ")
        raise InputError(
            f"version {latest.version} of {shelf.pipeline!r} is champion already: "
            f"rolled back by {who} at {when} UTC ({why})",
            where="registry",
            remedy="to go further back, say --to N or another --note",
        )


def history(name: Name = None, pipeline: Pipeline = None) -> None:
    """Every release, rejection and rollback: who, when, why, from, to. Every retrain: trigger, outcome, durations, what it was made with."""
    from components.cli.review_tables import show_history
    from components.registry.release.retrain_log import retrains
    from components.registry.versions.reader import read_snapshot

    name = choose_pipeline(root(), name, pipeline)
    shelf = read_snapshot(root(), name)
    # A first retrain may have failed before there was a version.
    if shelf is None or shelf.versions or not retrains(shelf):
        shelf, _ = _open(name)
    show_history(shelf)


def trace(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] ANSWER_OR_VERSION",
            help="the id that the service gave with an answer, a version, a bundle's hash, an answer as JSON, a file that holds one, or -; before it the pipeline, if it is not default",
        ),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Where an answer comes from: data, code, params, run, gates, and who released it."""
    from components.cli.trace import trace as show_trace

    name, clue = split_name(what, "ANSWER_OR_VERSION", "trace")
    show_trace(
        root(), clue, explicit_pipeline(name, pipeline), sys.stdin.read() if clue == "-" else ""
    )


def _version(words: list[str] | None, pipeline: str | None, command: str) -> tuple[str, int]:
    """Return the pipeline and the number that `[NAME] N` mean.

    Raises:
        InputError: they mean none, or two pipelines.
    """
    name, text = split_name(words, "N", command)
    number = version_number(text, command)
    return choose_pipeline(root(), name, pipeline), number


def _open(pipeline: str) -> tuple[RegistrySnapshot, GateParams]:
    """What the registry holds of a pipeline, after what people asked for in MLflow was done; and the limits of its gates.

    Raises:
        InputError: nothing was registered yet.
    """
    from components.core.errors import InputError
    from components.orchestration.pipeline_params import load
    from components.orchestration.runner.run import files_of
    from components.registry.release.mlflow_requests import apply_mlflow_requests
    from components.registry.versions.reader import read_snapshot

    path = files_of(root(), pipeline)[0]
    limits: GateParams = (
        load(path, shown=path.relative_to(root()).as_posix()).sections["registry"].gates  # type: ignore[attr-defined]
    )
    for made in apply_mlflow_requests(root(), pipeline, limits):
        print_line(
            f"from MLflow: version {made.version} {made.decision} by {made.who} ({made.why})"
        )
    shelf = read_snapshot(root(), pipeline)
    if shelf is None or not shelf.versions:
        again = "gristmill run" if pipeline == "default" else f"gristmill run {pipeline}"
        raise InputError(
            f"pipeline {pipeline!r} has no versions yet",
            where="registry",
            remedy=f"{again} registers one",
        )
    return shelf, limits


def _tell(made: Release, pipeline: str) -> None:
    before = f"version {made.before}" if made.before else "none"
    if made.decision == "rejected":
        print_line(
            f"version {made.version} of {pipeline} is rejected by {made.who}; champion stays {before}"
        )
    else:
        print_line(
            f"version {made.version} of {pipeline} is champion now ({made.decision} by {made.who}); before: {before}"
        )
