"""The extra `pipeline`: libraries of all commands but the few that answer with a bundle."""

from __future__ import annotations

from functools import wraps
from importlib.util import find_spec
from typing import Any

from components.core.errors import EnvironmentFault

# Libraries of the extra, none of which comes with another package.
_LIBRARIES = ("dvc", "ray", "torch")
# Commands that work without it. `serve` checks by itself.
_INDEPENDENT = frozenset(("doctor", "keys", "serve", "tasks"))


def require_pipeline(name: str, command: Any) -> None:
    """Make a command, and the commands of a group, check first that the extra is installed.

    Args:
        name: of the command.
        command: as Typer has it; its callback is replaced.
    """
    if name in _INDEPENDENT:
        return
    for inner, subcommand in getattr(command, "commands", {}).items():
        require_pipeline(inner, subcommand)
    run = command.callback
    if run is None or hasattr(command, "commands"):
        return

    @wraps(run)
    def checked(*arguments: Any, **options: Any) -> Any:
        check_pipeline()
        return run(*arguments, **options)

    command.callback = checked


def check_pipeline() -> None:
    """Check that the extra is installed, without importing it.

    Raises:
        EnvironmentFault: a library is missing.
    """
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise EnvironmentFault(
            f"this command needs the extra pipeline (not installed: {', '.join(missing)})",
            remedy="pip install 'gristmill[pipeline]', in a checkout: "
            "pip install -c constraints.txt -e '.[pipeline]'",
        )
