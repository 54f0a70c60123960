"""`gristmill keys`: the API keys of clients on other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.cli.help_text import CommandApp, examples
from components.core.terminal import print_line, print_verbatim
from components.orchestration.project import keys_file, root

keys_app = CommandApp(
    no_args_is_help=True,
    help=(
        "Manage the API keys of the service.\n\n"
        "A service beyond loopback needs one. The file keeps salted hashes."
    ),
    epilog=examples("gristmill keys add ann", "gristmill keys list"),
)
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the client. Metrics show this name.")
]


@keys_app.command(epilog=examples("gristmill keys add ann"))
def add(name: Name) -> None:
    """Make a key, and show it this once.

    A running service accepts it within seconds.
    """
    from components.serving.http import keyring

    path = _file()
    secret = keyring.add(path, name)
    print_line(
        f"added to {path}, which holds its hash; a running service knows it within seconds. "
        "The key, shown this once:",
        err=True,
    )
    print_verbatim(secret)


@keys_app.command("list", epilog=examples("gristmill keys list"))
def list_keys() -> None:
    """List the names of the keys, and the day on which each was added."""
    from components.serving.http import keyring

    keys = keyring.read(_file())
    for key in keys:
        print_line(f"{key.created}  {key.name}")
    if not keys:
        print_line("there are no keys: gristmill keys add NAME", err=True)


@keys_app.command(epilog=examples("gristmill keys remove ann"))
def remove(name: Name) -> None:
    """Remove a key: the service refuses it within seconds."""
    from components.serving.http import keyring

    keyring.remove(_file(), name)
    print_line(f"removed {name}", err=True)


def _file() -> Path:
    return keys_file(root())
