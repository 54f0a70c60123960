"""git, asked in one way: whatever the locale, and with git's own words where it refuses."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_PATIENCE_S = 20.0
_REMEDY = re.compile(r"git config --global --add safe\.directory \S.*")


@dataclass(frozen=True)
class GitOutput:
    """What a git command printed."""

    code: int
    out: str
    error: str

    @property
    def owner_remedy(self) -> str:
        """Git's own command to trust a checkout of another user; "" where that is not the fault."""
        match = _REMEDY.search(self.error)
        return match[0].strip() if match else ""


@dataclass(frozen=True)
class Checkout:
    """The code of a run as git sees it."""

    commit: str  # "" without a repository or a commit, "unknown" where git refuses to tell
    dirty: Literal["true", "false", "unknown"]
    refusal: GitOutput | None = None


def run_git(
    folder: Path,
    *words: str,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = _PATIENCE_S,
) -> GitOutput:
    """Run a git command and return what it printed.

    Args:
        folder: where it runs.
        words: its arguments.
        env: its environment; None: this process's.
        timeout_s: after which it is ended; None: never.
    """
    try:
        # Paths are UTF-8 whatever the locale says; what is not shows as question marks.
        done = subprocess.run(
            ["git", *words],
            cwd=folder,
            env=dict(os.environ if env is None else env) | {"LC_ALL": "C.UTF-8"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
        )
    except FileNotFoundError:
        return GitOutput(127, "", "git is not installed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return GitOutput(126, "", str(error))
    return GitOutput(done.returncode, done.stdout.strip(), done.stderr.strip())


def checkout(root: Path) -> Checkout:
    """Return the commit of a project and whether tracked files differ from it."""
    top = run_git(root, "rev-parse", "--show-toplevel")
    if top.code:
        no_repository = "not a git repository" in top.error or top.code == 127
        return Checkout("", "false") if no_repository else Checkout("unknown", "unknown", top)
    head = run_git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    # What the run itself writes (locks, reports) does not make the tree dirty.
    excluded = (":(exclude)*dvc.lock", ":(exclude)data")
    status = run_git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    if status.code:
        return Checkout(head.out, "unknown", status)
    return Checkout(head.out, "true" if status.out else "false")


def refusal_text(answer: GitOutput) -> str:
    """Return what git refused, what follows for a run, and git's own remedy."""
    reason = answer.error.splitlines()[0] if answer.owner_remedy else answer.error
    remedy = answer.owner_remedy or "gristmill doctor"
    return (
        f"git does not tell the commit of this checkout: {reason}\n    commit and changes are "
        f"recorded as unknown. To mend it: {remedy}"
    )
