"""The pipeline that a command means.

It is the argument NAME, or `--pipeline NAME`, which old scripts use, or `default`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from components.cli.completion import complete_pipeline
from components.core.errors import GristmillError, InputError
from components.core.terminal import print_line
from components.orchestration.output_paths import pipeline_names

DEFAULT = "default"
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Pipeline: a folder below pipelines/, or default.",
        show_default="default, the pipeline of params.yaml",
        autocompletion=complete_pipeline,
    ),
]
Pipeline = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="NAME",
        help="The same as the argument NAME, for old scripts.",
        show_default="NAME",
        autocompletion=complete_pipeline,
    ),
]


def choose_pipeline(
    root: Path, name: str | None, pipeline: str | None, *, needs_model: bool = True
) -> str:
    """Return the pipeline that a command means.

    Without a name it is `default`. Where other pipelines have a champion, a line on standard error
    names the one that is used.

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
    if needs_model:
        _warn_about_others(other_champions(root, DEFAULT))
    return DEFAULT


def _warn_about_others(others: Sequence[str]) -> None:
    if not others:
        return
    verb = "has" if len(others) == 1 else "have"
    print_line(
        f"no pipeline was named: {DEFAULT} is used. "
        f"{', '.join(others)} {verb} a champion, too. For another pipeline, write its name first",
        err=True,
    )


def explicit_pipeline(name: str | None, pipeline: str | None) -> str | None:
    """Return the pipeline that the argument or the option names. None: both are absent.

    Raises:
        InputError: they name two pipelines.
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

    The list is empty if the registry does not answer. The command itself reports that.
    """
    from components.registry.versions.reader import read_snapshot

    released = []
    for other in pipeline_names(root):
        if other == name:
            continue
        try:
            snapshot = read_snapshot(root, other)
        except GristmillError:
            return []
        if snapshot and "champion" in snapshot.aliases:
            released.append(other)
    return released


def split_name(words: Sequence[str] | None, what: str, command: str) -> tuple[str | None, str]:
    """Return the two arguments of a command that takes `[NAME] WHAT`.

    Args:
        words: of the command line.
        what: the name of the second argument.
        command: for the error message.

    Returns:
        The pipeline or None, and WHAT.

    Raises:
        InputError: there is no argument, or there are more than two.
    """
    arguments = list(words or ())
    if len(arguments) not in (1, 2):
        count = f"{len(arguments)} arguments" if arguments else "no argument"
        raise InputError(
            f"takes {what}, and before it the name of a pipeline if it is not default; "
            f"it got {count}",
            where=command,
            remedy=f"gristmill {command} [NAME] {what}",
        )
    if len(arguments) == 1:
        return None, arguments[0]
    return arguments[0], arguments[1]


def version_number(text: str, command: str) -> int:
    """Return the number of a version.

    Args:
        text: of the argument.
        command: for the error message.

    Raises:
        InputError: the text is not a whole number above zero.
    """
    if not text.isascii() or not text.isdigit() or not int(text[:10]) > 0:
        raise InputError(
            f"{text[:60]!r} is not the number of a version",
            where=command,
            remedy=f"gristmill {command} [NAME] N; gristmill review list [NAME] shows the versions",
        )
    return int(text[:10])
