"""Display of a running stage: a progress bar, a few lines, and the time that it took.

Without a terminal there are plain lines alone.
"""

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
    """Shows the events of one stage's journal on the terminal."""

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
        # Without a terminal, stop() would print an empty line.
        if console.is_terminal:
            self._progress.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event of the journal.

        Args:
            event: of kind `progress`, which moves the bar, or `say` or `warning`, which print a
                line.
        """
        if event["kind"] == "progress":
            self._move_bar(event)
            return
        text = f" {event['text']}"
        if event["kind"] == "warning":
            console.print(styled("  ", ("!", "yellow"), text))
        else:
            console.print(styled("  ", " ", text))

    def _move_bar(self, event: Mapping[str, Any]) -> None:
        description = escaping.one_line(str(event["what"]))
        if self._task is None:
            self._task = self._progress.add_task(description, total=event["total"])
        self._progress.update(
            self._task,
            completed=event["done"],
            total=event["total"],
            description=description,
        )

    def done(self, seconds: float, work: float, how: str = "") -> None:
        """Print the last line of a stage.

        Args:
            seconds: that the stage took, with imports, Ray and MLflow.
            work: seconds that the component took.
            how: what is special about this call; "" where nothing is.
        """
        more = f", {how}" if how else ""
        took = f" {seconds:.1f} s (work {work:.1f} s){more}"
        console.print(styled("  ", ("✓", "green"), " ", (self.stage, "bold"), took))
