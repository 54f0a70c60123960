"""Give libraries that need them, such as DVC, a home folder and a user name."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from components.core.terminal import print_line


def named_user() -> None:
    """Set USER where the user's number has no name. Containers run under any number."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"


def usable_home(root: Path) -> None:
    """Set another HOME for this process and its children, where this user may not read HOME.

    This happens under `sudo -u` with the environment of another user, and in containers that run
    under any number.

    Args:
        root: of the project. The other home lies in its folder .gristmill.
    """
    home = os.environ.get("HOME")
    if not home or os.access(home, os.R_OK | os.X_OK):
        return
    instead = root / ".gristmill" / "home"
    try:
        instead.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print_line(f"! HOME is {home}, which this user may not read; {error}", err=True)
        return
    os.environ["HOME"] = str(instead)
    print_line(f"! HOME is {home}, which this user may not read: using {instead}", err=True)
