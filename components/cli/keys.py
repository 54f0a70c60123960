"""`gristmill keys`: the API keys of clients on other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.core.terminal import print_line, print_verbatim
from components.orchestration.project import keys_file, root

keys_app = typer.Typer(no_args_is_help=True, help="API keys of the service, kept as salted hashes.")
Name = Annotated[str, typer.Argument(help="whose key it is; metrics show this name")]


@keys_app.command()
def add(name: Name) -> None:
    """Make a key and show it, this once."""
    from components.serving.http import api_keys

    path = _file()
    secret = api_keys.add(path, name)
    print_line(
        f"added to {path}, which holds its hash; a running service knows it within seconds. "
        "The key, shown this once:",
        err=True,
    )
    print_verbatim(secret)


@keys_app.command("list", help="Names and days of the keys.")
def list_keys() -> None:
    """Print the names of the keys and the days on which they were added."""
    from components.serving.http import api_keys

    keys = api_keys.read(_file())
    for key in keys:
        print_line(f"{key.created}  {key.name}")
    if not keys:
        print_line("there are no keys: gristmill keys add NAME", err=True)


@keys_app.command()
def remove(name: Name) -> None:
    """Forget a key: it opens nothing any more."""
    from components.serving.http import api_keys

    api_keys.remove(_file(), name)
    print_line(f"removed {name}", err=True)


def _file() -> Path:
    return keys_file(root())
