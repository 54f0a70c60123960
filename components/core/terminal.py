"""Print plain text that no terminal interprets as commands.

Characters that the encoding of a terminal lacks become question marks. All text goes through
`components.core.escaping`. Tables and colors are printed by `components.core.console`.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from types import TracebackType

import typer

from components.core import escaping
from components.core.errors import GristmillError

_ERROR = "error: "


def print_anything() -> None:
    """Make this process and its children print every character without an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    if not encoding and sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
    # DVC, Ray and the stages inherit it.
    os.environ["PYTHONIOENCODING"] = f"{encoding}:replace"


def print_line(text: object, *, err: bool = False) -> None:
    """Print one line. A line break within a value is spelled out.

    Args:
        text: the line.
        err: print to standard error.
    """
    typer.echo(escaping.log_line(str(text)), err=err)


def print_verbatim(text: str) -> None:
    """Print a file or a secret that this project created, to be copied byte by byte."""
    typer.echo(text, nl=not text.endswith("\n"))


def print_error(error: GristmillError) -> None:
    """Print an error on standard error, in red on a terminal.

    All lines of the message are indented below the first one. So no value in it can begin a line
    that looks like another error, or like a remedy.
    """
    lines = escaping.message_lines(error.what).split("\n")
    indent = " " * len(_ERROR)
    text = _ERROR
    if error.where:
        text += f"{escaping.log_line(error.where)}: "
    text += f"\n{indent}".join(lines)
    if error.remedy:
        text += f"\n  -> {escaping.log_line(error.remedy)}"
    typer.secho(text, fg="red" if sys.stderr.isatty() else None, err=True)


def print_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of a bug: its message quotes values, too. For `sys.excepthook`."""
    text = "".join(traceback.format_exception(kind, error, trace))
    typer.echo(escaping.terminal_lines(text), err=True, nl=False)
