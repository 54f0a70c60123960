"""`gristmill mlflow …`: the tracking store, held up, kept safe, moved and caught up with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.core.terminal import print_line
from components.orchestration.project import root

if TYPE_CHECKING:
    from components.registry.store.backup import Contents

app = typer.Typer(no_args_is_help=True, help="The tracking store and its server.")


@app.command()
def up(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Hold the tracking server of the embedded store up on loopback, with its pages, until Ctrl-C."""
    from components.orchestration.service.service import tracking_ui

    raise typer.Exit(tracking_ui(root(), port))


@app.command()
def backup(
    file: Annotated[
        Path, typer.Argument(help="the archive to write, such as mlflow-2026-11-22.zip")
    ],
) -> None:
    """Write the embedded store into one file, while runs go on."""
    from components.registry.store.backup import backup

    held = backup(root(), file)
    print_line(f"{file}: {_shown(held)}")
    if held.missing:
        print_line(f"! {held.missing} model versions have no files here any more", err=True)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="what `gristmill mlflow backup` wrote")],
    replace: Annotated[
        bool, typer.Option(help="even where there are runs or models, which are lost")
    ] = False,
) -> None:
    """Put a backup in the place of the embedded store."""
    from components.registry.store.backup import restore

    print_line(f"restored {_shown(restore(root(), file, replace))}")


@app.command()
def move(
    to: Annotated[
        str,
        typer.Option(
            envvar="MLFLOW_BACKEND_STORE_URI",
            help="an empty database: postgresql://USER@HOST/NAME, the password in PGPASSWORD",
        ),
    ],
    artifacts: Annotated[
        str,
        typer.Option(
            envvar="MLFLOW_ARTIFACTS_DESTINATION",
            help="where the server keeps files: s3://BUCKET/PREFIX, or a folder",
        ),
    ],
) -> None:
    """Copy the embedded store, with all ids, to the one of a production server, and compare both."""
    from components.registry.store.migration import move

    moved = move(root(), to, artifacts)
    print_line(
        f"{'were there already' if moved.again else 'copied'}, compared and equal: {', '.join(f'{name} {count:,}' for name, count in moved.rows.items())}"
    )
    print_line(f"files read back and equal: {moved.files:,} ({moved.bytes / 1e6:.1f} MB)")
    print_line(
        "next: start the server there (mlflow/server.sh), then export MLFLOW_TRACKING_URI=https://…; the embedded store is as it was"
    )


@app.command("catch-up")
def catch_up() -> None:
    """Write what stages could not write while the store was away."""
    from components.registry.tracking.outbox import catch_up

    written = catch_up(root())
    print_line(f"written: {', '.join(written)}" if written else "nothing waits: all is written")


def _shown(held: Contents) -> str:
    rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in held.rows.items())
    return f"{rows}, {held.files:,} files ({held.bytes / 1e6:.1f} MB)"
