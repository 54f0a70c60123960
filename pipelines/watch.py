"""What a person sees of a running stage: a bar, a few lines, the time it took. Plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

# A pipe has no width of its own: wide enough for the tables.
console = Console(
    file=sys.stdout, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120
)


class Watcher:
    """Shows the events of one stage's journal."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn(f"[bold]{stage}[/bold]"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
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
            if self._task is None:
                self._task = self._progress.add_task(event["what"], total=event["total"])
            self._progress.update(
                self._task, completed=event["done"], total=event["total"], description=event["what"]
            )
        else:
            mark = "[yellow]![/yellow]" if event["kind"] == "warning" else " "
            console.print(f"  {mark} {escape(str(event['text']))}")

    def done(self, seconds: float, work: float, how: str = "") -> None:
        """The last line of a stage: all its time, that of the component, and how it ran; the rest is imports, Ray and MLflow."""
        more = f", {how}" if how else ""
        console.print(
            f"  [green]✓[/green] [bold]{self.stage}[/bold] {seconds:.1f} s (work {work:.1f} s){more}"
        )
