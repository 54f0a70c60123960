"""Run git commands with the same output in any locale, and keep git's own messages."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_TIMEOUT_S = 20.0
# Exit codes, as shells use them.
_NOT_RUNNABLE = 126
_NOT_INSTALLED = 127
_REMEDY = re.compile(r"git config --global --add safe\.directory \S.*")


@dataclass(frozen=True)
class GitOutput:
    """Exit code and output of a git command."""

    code: int
    out: str
    error: str

    @property
    def owner_remedy(self) -> str:
        """Return git's own command to trust the checkout of another user.

        It is "" where the owner of the checkout is not the reason.
        """
        match = _REMEDY.search(self.error)
        if match is None:
            return ""
        return match[0].strip()


@dataclass(frozen=True)
class Checkout:
    """Commit and changes of the project's code."""

    # "" without a repository or a commit, "unknown" where git refuses to answer
    commit: str
    dirty: Literal["true", "false", "unknown"]
    refusal: GitOutput | None = None


def run_git(
    folder: Path,
    *words: str,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = _TIMEOUT_S,
) -> GitOutput:
    """Run a git command and return what it printed.

    Args:
        folder: where it runs.
        words: its arguments.
        env: its environment; None: that of this process.
        timeout_s: seconds after which it is ended; None: never.
    """
    environment = dict(os.environ if env is None else env)
    environment["LC_ALL"] = "C.UTF-8"
    try:
        # Paths are UTF-8 in any locale. Other bytes become question marks.
        process = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
        )
    except FileNotFoundError:
        return GitOutput(_NOT_INSTALLED, "", "git is not installed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return GitOutput(_NOT_RUNNABLE, "", str(error))
    return GitOutput(process.returncode, process.stdout.strip(), process.stderr.strip())


def checkout(root: Path) -> Checkout:
    """Return the commit of a project, and whether tracked files differ from it.

    Args:
        root: of the project.
    """
    top = run_git(root, "rev-parse", "--show-toplevel")
    if top.code:
        if "not a git repository" in top.error or top.code == _NOT_INSTALLED:
            return Checkout("", "false")
        return Checkout("unknown", "unknown", top)
    head = run_git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    # The run itself writes locks and reports. These do not make the tree dirty.
    excluded = (":(exclude)*dvc.lock", ":(exclude)data")
    status = run_git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    if status.code:
        return Checkout(head.out, "unknown", status)
    return Checkout(head.out, "true" if status.out else "false")


def refusal_text(answer: GitOutput) -> str:
    """Return a message about a refusal of git: the reason, the consequence and the remedy.

    Args:
        answer: the output of the command that git refused.
    """
    reason = answer.error
    if answer.owner_remedy:
        reason = answer.error.splitlines()[0]
    remedy = answer.owner_remedy or "gristmill doctor"
    return (
        f"git does not tell the commit of this checkout: {reason}\n    commit and changes are "
        f"recorded as unknown. To mend it: {remedy}"
    )
