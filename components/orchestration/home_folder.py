"""A home folder and a user's name for the libraries that fail without them, DVC first of all."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from components.core.terminal import print_line


def named_user() -> None:
    """Give a user whose number has no name one: containers run as any number."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"


def usable_home(root: Path) -> None:
    """Give this process and those that it starts another HOME where they may not enter theirs.

    This happens under `sudo -u` with a kept environment, and in containers that run as any user.

    Args:
        root: of the project; the other home lies in its folder .gristmill.
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
