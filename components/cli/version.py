"""`gristmill --version`: the versions of gristmill and of the libraries it stands on."""

from __future__ import annotations

import typer

from components.core.terminal import print_line

# Name as people write it -> distribution.
_SHOWN = {
    "gristmill": "gristmill",
    "Ray": "ray",
    "torch": "torch",
    "MLflow": "mlflow",
    "DVC": "dvc",
}


def show_versions(wanted: bool) -> None:
    """Print the versions and end the command. No library is imported for that.

    Args:
        wanted: whether the option was given.
    """
    if not wanted:
        return
    import platform

    lines = [f"{name} {installed_version(package) or 'none'}" for name, package in _SHOWN.items()]
    lines.insert(1, f"Python {platform.python_version()}")
    for line in lines:
        print_line(line)
    raise typer.Exit


def installed_version(package: str) -> str | None:
    """Return the version of a distribution; None: it is not installed."""
    # Takes 20 ms, which no other command needs.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
