"""Processes of a project that a test can kill at a moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.commands.project import Project
from tests.faults import kill_moment


def install_hook(project: Project, folder: Path) -> None:
    """Make all processes of a project load the hook, which is copied to a new folder."""
    folder.mkdir()
    shutil.copyfile(kill_moment.__file__, folder / "sitecustomize.py")
    project.env["PYTHONPATH"] = f"{project.root}{os.pathsep}{folder}"


def start_group(project: Project, *words: str, **env: str) -> subprocess.Popen[str]:
    """Start a Python module in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=project.root,
        env=project.env | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
