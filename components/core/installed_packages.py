"""Find installed packages without running their code."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from components.core.errors import EnvironmentFault


def package_folder(package: str) -> Path | None:
    """Return the folder of an installed package; None where it is not installed.

    Args:
        package: its top-level name. A dotted name would import the parent.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def check_installed(package: str, extra: str, where: str) -> None:
    """Check that a package of an extra is installed.

    Args:
        package: its top-level name.
        extra: of this project, which installs it.
        where: the param that needs it.

    Raises:
        EnvironmentFault: it is not installed.
    """
    if find_spec(package) is None:
        raise EnvironmentFault(
            f"needs {package}, which is not installed here",
            where=where,
            remedy=f"pip install -c constraints.txt -e '.[{extra}]'",
        )
