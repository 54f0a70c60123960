"""Define the errors of the project: what happened, where, and what to do.

The command line turns a type of error into an exit code.
"""

from __future__ import annotations


class GristmillError(Exception):
    """An error that a person can correct.

    Args:
        what: what happened, one sentence.
        where: file:row, a path in the params, or a stage.
        remedy: what to do, preferably a command.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text = f"{self.where}: {text}"
        if self.remedy:
            text += f"\n  -> {self.remedy}"
        return text

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        # Ray pickles errors, and keyword-only arguments would be lost.
        return _rebuild, (type(self), self.what, self.where, self.remedy)


def _rebuild(
    kind: type[GristmillError],
    what: str,
    where: str,
    remedy: str,
) -> GristmillError:
    return kind(what, where=where, remedy=remedy)


class InputError(GristmillError):
    """Data that cannot be used: missing, empty, malformed (exit 2)."""


class BundleError(InputError):
    """A model's files that cannot be trusted or cannot be read (exit 2)."""


class ParamsError(GristmillError):
    """Params that do not validate (exit 2)."""


class GateError(GristmillError):
    """An explicit approve or release that a gate refused (exit 3)."""

    exit_code = 3


class EnvironmentFault(GristmillError):
    """The machine or the cluster is not able: port taken, disk full, no answer (exit 4)."""

    exit_code = 4
