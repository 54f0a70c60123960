"""What a shell offers after Tab: names of pipelines, stages and tasks, numbers of versions.

No server is asked and nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import typer

from components.core.errors import GristmillError
from components.orchestration.output_paths import pipeline_names
from components.orchestration.project import root, task_ids
from components.orchestration.stage_files import STAGES

# zsh evaluates what it is offered, so other names are left out.
_SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def complete_pipeline(incomplete: str) -> list[str]:
    """Return the names of pipelines that begin with a text."""
    names = filter(_SAFE_NAME.fullmatch, pipeline_names(root()))
    return _beginning_with(incomplete, names)


def complete_stage(incomplete: str) -> list[str]:
    """Return the names of stages that begin with a text."""
    return _beginning_with(incomplete, STAGES)


def complete_task(incomplete: str) -> list[tuple[str, str]]:
    """Return the tasks that begin with a text, each with its description."""
    tasks = task_ids()
    return [(name, tasks[name]) for name in _beginning_with(incomplete, tasks)]


def complete_first_word(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of pipelines for the first of the arguments `[NAME] WHAT`."""
    return [] if ctx.params.get("words") else complete_pipeline(incomplete)


def complete_words(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of pipelines and numbers of versions for the arguments `[NAME] N`."""
    return [*complete_first_word(ctx, incomplete), *complete_version(ctx, incomplete)]


def complete_version(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the numbers of versions of the pipeline that is named, the latest first.

    Only the embedded store is read: a server could take seconds to answer.
    """
    from components.registry.store.tracking_store import database
    from components.registry.versions.reader import read_snapshot

    try:
        path = database(root())
        snapshot = read_snapshot(root(), _pipeline(ctx)) if path else None
    except GristmillError:
        return []
    if snapshot is None:
        return []
    numbers = [str(version.number) for version in reversed(snapshot.versions)]
    return _beginning_with(incomplete, numbers)


def _pipeline(ctx: typer.Context) -> str:
    """Return the pipeline that a line names so far, or the default one."""
    words = [ctx.params.get("pipeline"), ctx.params.get("name")]
    words += ctx.params.get("words") or ()
    # An option without its value stops the parser, which then leaves the other words here.
    words += ctx.args
    names = pipeline_names(root())
    return next((word for word in words if word in names), "default")


def _beginning_with(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]
