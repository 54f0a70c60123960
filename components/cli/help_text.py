"""What the help of all commands shares: panels, their order, and examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

# Panel -> its commands, both in the order of use.
PANELS = {
    "Data": ("new", "tasks", "pull", "feedback"),
    "Pipeline": ("run", "retrain", "schedule", "stage"),
    "Release": ("review", "rollback", "history", "trace"),
    "Service": ("serve", "predict", "export", "monitor", "keys"),
    "Machine": ("up", "down", "status", "doctor", "mlflow", "clean-state"),
}
EXIT_CODES = (
    "Exit codes: 0 done, 1 a bug, 2 bad input or params, 3 refused by a gate,\n"
    "4 machine or cluster, 5 drift found by gristmill monitor."
)


def examples(*commands: str) -> str:
    """Return the end of a help text: commands that can be typed, each on its own line."""
    return "\n".join(["Examples:", *commands])


class ReadableCommand(TyperCommand):
    """Shows its arguments in the usage as their metavars write them, before its options."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage after the name of the command."""
        return list(synopsis(self.get_params(ctx)))


class CommandApp(typer.Typer):
    """A Typer whose commands have a usage that can be read."""

    def command(self, name: str | None = None, **settings: Any) -> Any:
        """Return a decorator that makes a function a command.

        Args:
            name: of the command. None: that of the function.
            settings: as for `typer.Typer.command`.
        """
        return super().command(name, cls=ReadableCommand, **settings)


def synopsis(params: Sequence[Any]) -> Iterator[str]:
    """Yield arguments and required options, then a word for the other options."""
    options = [param for param in params if is_option(param)]
    for param in params:
        if not is_option(param):
            # The metavar of several words has brackets of its own.
            has_brackets = not param.required and param.nargs == 1
            yield f"[{param.metavar}]" if has_brackets else param.metavar
    yield from (param_name(param) for param in options if param.required)
    if any(not param.required for param in options):
        yield "[OPTIONS]"


def is_option(param: Any) -> bool:
    """Return whether a parameter of a command is an option, not an argument."""
    return bool(param.opts[0].startswith("-"))


def param_name(param: Any) -> str:
    """Return the name of an argument, or the names and the value of an option."""
    if not is_option(param):
        return str(param.metavar)
    names = ", ".join([*param.opts, *param.secondary_opts])
    return f"{names} {param.metavar or ''}".rstrip()
