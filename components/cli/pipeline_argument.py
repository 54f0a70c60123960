"""Which pipeline a command means.

NAME as argument, or `--pipeline NAME`, which old scripts use, or `default`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from components.core.errors import GristmillError, InputError
from components.core.terminal import print_line
from components.orchestration.output_paths import pipeline_names
from components.registry.versions.reader import read_snapshot

DEFAULT = "default"
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="pipeline: `default`, or a folder below pipelines/",
        show_default=False,
    ),
]
Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline", metavar="NAME", help="the same as NAME, for old scripts", show_default=False
    ),
]


def choose_pipeline(
    root: Path, name: str | None, pipeline: str | None, *, needs_model: bool = True
) -> str:
    """Return the pipeline that a command means.

    Without a name it is `default`. Where other pipelines have a champion, a line on standard error
    says which one was taken.

    Args:
        root: of the project.
        name: the argument.
        pipeline: the option.
        needs_model: whether the command is about released models.

    Raises:
        InputError: argument and option name two pipelines.
    """
    explicit = explicit_pipeline(name, pipeline)
    if explicit:
        return explicit
    others = other_champions(root, DEFAULT) if needs_model else []
    if others:
        print_line(
            f"pipeline {DEFAULT} was taken; {', '.join(others)} "
            f"{'has' if len(others) == 1 else 'have'} a champion, too: name the pipeline to mean "
            "another",
            err=True,
        )
    return DEFAULT


def explicit_pipeline(name: str | None, pipeline: str | None) -> str | None:
    """Return the pipeline that argument or option name; None without either.

    Raises:
        InputError: they name two.
    """
    if name and pipeline and name != pipeline:
        raise InputError(
            f"names two pipelines: {name!r} and, with --pipeline, {pipeline!r}",
            where="NAME",
            remedy=f"leave --pipeline out to mean {name}",
        )
    return name or pipeline


def other_champions(root: Path, name: str) -> list[str]:
    """Return the other pipelines of a project that have a champion.

    None where the registry does not answer: the command itself will say that.
    """
    released = []
    for other in pipeline_names(root):
        if other == name:
            continue
        try:
            shelf = read_snapshot(root, other)
        except GristmillError:
            return []
        if shelf and "champion" in shelf.aliases:
            released.append(other)
    return released


def split_name(words: Sequence[str] | None, what: str, command: str) -> tuple[str | None, str]:
    """Return the two arguments of a command that takes `[NAME] WHAT`: a pipeline or None, and WHAT.

    Raises:
        InputError: there are none, or too many.
    """
    arguments = list(words or ())
    if len(arguments) not in (1, 2):
        count = "no argument" if not arguments else f"{len(arguments)} arguments"
        raise InputError(
            f"takes {what}, and before it the name of a pipeline if it is not default; "
            f"it got {count}",
            where=command,
            remedy=f"gristmill {command} [NAME] {what}",
        )
    return (arguments[0], arguments[1]) if len(arguments) == 2 else (None, arguments[0])


def version_number(text: str, command: str) -> int:
    """Return the number of a version.

    Raises:
        InputError: it is none.
    """
    if not text.isascii() or not text.isdigit() or not int(text[:10]) > 0:
        raise InputError(
            f"{text[:60]!r} is not the number of a version",
            where=command,
            remedy=f"gristmill {command} [NAME] N; gristmill review list [NAME] shows the versions",
        )
    return int(text[:10])
