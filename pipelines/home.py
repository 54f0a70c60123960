"""A home folder that can be used: DVC and others look for settings there and fail where they may not."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
        print(f"! HOME is {home}, which this user may not read; {error}", file=sys.stderr)
        return
    os.environ["HOME"] = str(instead)
    print(f"! HOME is {home}, which this user may not read: using {instead}", file=sys.stderr)
