"""`gristmill mlflow …`: serve, back up, restore, move and complete the tracking store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.core.terminal import print_line
from components.orchestration.project import root

if TYPE_CHECKING:
    from components.registry.store.backup import Contents

app = typer.Typer(no_args_is_help=True, help="The tracking store and its server.")


@app.command(
    help=(
        "Hold the tracking server of the embedded store up on loopback, "
        "with its pages, until Ctrl-C."
    )
)
def up(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Run the tracking server of the embedded store."""
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

    contents = backup(root(), file)
    print_line(f"{file}: {_describe(contents)}")
    if contents.missing:
        print_line(f"! {contents.missing} model versions have no files here any more", err=True)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="what `gristmill mlflow backup` wrote")],
    replace: Annotated[
        bool, typer.Option(help="even where there are runs or models, which are lost")
    ] = False,
) -> None:
    """Put a backup in the place of the embedded store."""
    from components.registry.store.backup import restore

    print_line(f"restored {_describe(restore(root(), file, replace))}")


@app.command(
    help=(
        "Copy the embedded store, with all ids, to the one of a production server, "
        "and compare both."
    )
)
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
    """Copy the embedded store to the one of a production server."""
    from components.registry.store.migration import move

    moved = move(root(), to, artifacts)
    action = "were there already" if moved.again else "copied"
    rows = ", ".join(f"{name} {count:,}" for name, count in moved.rows.items())
    print_line(f"{action}, compared and equal: {rows}")
    print_line(f"files read back and equal: {moved.files:,} ({moved.bytes / 1e6:.1f} MB)")
    print_line(
        "next: start the server there (mlflow/server.sh), "
        "then export MLFLOW_TRACKING_URI=https://…; the embedded store is as it was"
    )


@app.command("catch-up")
def catch_up() -> None:
    """Write what stages could not write while the store was away."""
    from components.registry.tracking.outbox import catch_up

    written = catch_up(root())
    if written:
        print_line(f"written: {', '.join(written)}")
    else:
        print_line("nothing waits: all is written")


def _describe(contents: Contents) -> str:
    rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in contents.rows.items())
    return f"{rows}, {contents.files:,} files ({contents.bytes / 1e6:.1f} MB)"
