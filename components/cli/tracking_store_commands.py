"""`gristmill mlflow …`: serve, back up, restore, move and complete the tracking store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.cli.help_text import CommandApp, examples
from components.core.terminal import print_line
from components.orchestration.project import root

if TYPE_CHECKING:
    from components.registry.store.backup import Contents

app = CommandApp(
    no_args_is_help=True,
    help="Show, back up, restore or move the tracking store.",
    epilog=examples("gristmill mlflow up", "gristmill mlflow backup mlflow-2026-11-22.zip"),
)


@app.command(epilog=examples("gristmill mlflow up", "gristmill mlflow up --port 5001"))
def up(
    port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=65535, help="Port to listen on.")
    ] = 5000,
) -> None:
    """Show runs and registry in the browser until Ctrl-C.

    Runs MLflow's tracking server of the embedded store on loopback.
    """
    from components.orchestration.service.service import tracking_ui

    raise typer.Exit(tracking_ui(root(), port))


@app.command(epilog=examples("gristmill mlflow backup mlflow-2026-11-22.zip"))
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Zip archive to write.")],
) -> None:
    """Write the embedded store into one file, while runs go on."""
    from components.registry.store.backup import backup

    contents = backup(root(), file)
    print_line(f"{file}: {_describe(contents)}")
    if contents.missing:
        print_line(f"! {contents.missing} model versions have no files here any more", err=True)


@app.command(epilog=examples("gristmill mlflow restore mlflow-2026-11-22.zip"))
def restore(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Archive that gristmill mlflow backup wrote."),
    ],
    replace: Annotated[
        bool,
        typer.Option(help="Replace a store that holds runs or models. They are lost."),
    ] = False,
) -> None:
    """Put a backup in the place of the embedded store."""
    from components.registry.store.backup import restore

    print_line(f"restored {_describe(restore(root(), file, replace))}")


@app.command(
    epilog=examples("gristmill mlflow move --to postgresql://ann@db/runs --artifacts s3://runs/all")
)
def move(
    to: Annotated[
        str,
        typer.Option(
            metavar="URI",
            envvar="MLFLOW_BACKEND_STORE_URI",
            help="Empty database: postgresql://USER@HOST/NAME. PGPASSWORD has the password.",
        ),
    ],
    artifacts: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            envvar="MLFLOW_ARTIFACTS_DESTINATION",
            help="Files of the server: s3://BUCKET/PREFIX, or a folder.",
        ),
    ],
) -> None:
    """Copy the embedded store to a production server, and compare both.

    Runs, models and versions keep their ids. The embedded store stays as it is.
    """
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


@app.command("catch-up", epilog=examples("gristmill mlflow catch-up"))
def catch_up() -> None:
    """Write what stages could not write while the store did not answer."""
    from components.registry.tracking.outbox import catch_up

    written = catch_up(root())
    if written:
        print_line(f"written: {', '.join(written)}")
    else:
        print_line("nothing waits: all is written")


def _describe(contents: Contents) -> str:
    rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in contents.rows.items())
    return f"{rows}, {contents.files:,} files ({contents.bytes / 1e6:.1f} MB)"
