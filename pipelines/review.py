"""`gristmill review …`, `rollback` and `history`: what a person decides about the champion."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.project import root

if TYPE_CHECKING:
    from components.registry.gates import GateParams
    from components.registry.log import Release
    from components.registry.reader import Shelf

review_app = typer.Typer(no_args_is_help=True, help="Versions that wait for a person.")
Number = Annotated[int, typer.Argument(min=1, help="of the version")]
Pipeline = Annotated[str, typer.Option(help="whose versions")]
By = Annotated[str, typer.Option(help="who decides")]
Note = Annotated[str, typer.Option(help="why, in a sentence")]


@review_app.command("list")
def list_(pipeline: Pipeline = "default") -> None:
    """All versions: what was decided, and what waits."""
    from pipelines.review_show import show_list

    shelf, _ = _open(pipeline)
    show_list(shelf)


@review_app.command()
def show(number: Number, pipeline: Pipeline = "default") -> None:
    """The card of a version."""
    from pipelines.review_show import show_version

    shelf, _ = _open(pipeline)
    show_version(root(), shelf, shelf.version(number))


@review_app.command()
def diff(number: Number, pipeline: Pipeline = "default") -> None:
    """A version beside the champion."""
    from pipelines.review_diff import show_diff

    shelf, limits = _open(pipeline)
    show_diff(root(), shelf, shelf.version(number), limits)


@review_app.command()
def approve(
    number: Number,
    by: By,
    note: Note,
    pipeline: Pipeline = "default",
    override: Annotated[list[str] | None, typer.Option(help="a gate that you answer for: baseline, champion, calibration, slices; or rejected, to take a rejection back")] = None,
) -> None:
    """Release a version."""
    from components.registry import release

    _, limits = _open(pipeline)
    _tell(release.approve(root(), pipeline, number, limits, who=by, why=note, overrides=override or ()), pipeline)


@review_app.command()
def reject(number: Number, by: By, note: Note, pipeline: Pipeline = "default") -> None:
    """Say that a version must not be released."""
    from components.registry import release

    _open(pipeline)
    _tell(release.reject(root(), pipeline, number, who=by, why=note), pipeline)


def rollback(
    by: By,
    note: Note,
    to: Annotated[int | None, typer.Option(min=1, help="a version that was champion; without it: the one before")] = None,
    pipeline: Pipeline = "default",
) -> None:
    """Release an earlier champion again."""
    from components.registry import release

    _open(pipeline)
    _tell(release.rollback(root(), pipeline, to, who=by, why=note), pipeline)


def history(pipeline: Pipeline = "default") -> None:
    """Every release, rejection and rollback: who, when, why, from, to. Every retrain: trigger, outcome, durations, what it was made with."""
    from components.registry.reader import look
    from components.registry.retrains import retrains
    from pipelines.review_show import show_history

    shelf = look(root(), pipeline)
    if shelf is None or shelf.versions or not retrains(shelf):  # a first retrain may have failed before there was a version
        shelf, _ = _open(pipeline)
    show_history(shelf)


def trace(
    what: Annotated[str, typer.Argument(metavar="ANSWER_OR_VERSION", help="a version, a bundle's hash, an answer as JSON, a file that holds one, or -")],
    pipeline: Pipeline = "default",
) -> None:
    """Where an answer comes from: data, code, params, run, gates, and who released it."""
    from pipelines.trace import trace as show_trace

    show_trace(root(), what, pipeline, sys.stdin.read() if what == "-" else "")


def _open(pipeline: str) -> tuple[Shelf, GateParams]:
    """What the registry holds of a pipeline, after what people asked for in MLflow was done; and the limits of its gates.

    Raises:
        InputError: nothing was registered yet.
    """
    from components.core.errors import InputError
    from components.registry.reader import look
    from components.registry.review import pick_up
    from pipelines.params import load
    from pipelines.run import files_of

    path = files_of(root(), pipeline)[0]
    limits: GateParams = load(path, shown=path.relative_to(root()).as_posix()).sections["registry"].gates  # type: ignore[attr-defined]
    for made in pick_up(root(), pipeline, limits):
        typer.echo(f"from MLflow: version {made.version} {made.decision} by {made.who} ({made.why})")
    shelf = look(root(), pipeline)
    if shelf is None or not shelf.versions:
        again = "gristmill run" if pipeline == "default" else f"gristmill run {pipeline}"
        raise InputError(f"pipeline {pipeline!r} has no versions yet", where="registry", remedy=f"{again} registers one")
    return shelf, limits


def _tell(made: Release, pipeline: str) -> None:
    before = f"version {made.before}" if made.before else "none"
    if made.decision == "rejected":
        typer.echo(f"version {made.version} of {pipeline} is rejected by {made.who}; champion stays {before}")
    else:
        typer.echo(f"version {made.version} of {pipeline} is champion now ({made.decision} by {made.who}); before: {before}")
