"""What a person sees of a running stage: a bar, a few lines, the time it took. Plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from components.core import escaping
from components.core.console import console, styled


class Watcher:
    """Shows the events of one stage's journal."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn(stage, style="bold", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Watcher:
        if console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if console.is_terminal:  # else stop() prints an empty line
            self._progress.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """One event: `progress` moves the bar, `say` and `warning` print a line."""
        if event["kind"] == "progress":
            what = escaping.one_line(str(event["what"]))
            if self._task is None:
                self._task = self._progress.add_task(what, total=event["total"])
            self._progress.update(
                self._task, completed=event["done"], total=event["total"], description=what
            )
        else:
            mark = ("!", "yellow") if event["kind"] == "warning" else " "
            console.print(styled("  ", mark, f" {event['text']}"))

    def done(self, seconds: float, work: float, how: str = "") -> None:
        """The last line of a stage: all its time, that of the component, and how it ran; the rest is imports, Ray and MLflow."""
        more = f", {how}" if how else ""
        took = f" {seconds:.1f} s (work {work:.1f} s){more}"
        console.print(styled("  ", ("✓", "green"), " ", (self.stage, "bold"), took))
