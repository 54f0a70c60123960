"""The `gristmill` command.

A command imports the module that does its work when it is called, so that the start is fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from components.cli import feedback, review
from components.cli.keys import keys_app
from components.cli.pipeline_argument import Name, Pipeline, choose_pipeline, split_name
from components.cli.tracking_store_commands import app as tracking
from components.core import escaping
from components.core.errors import GristmillError, InputError
from components.core.garbage import collect_rarely
from components.core.terminal import (
    print_anything,
    print_crash,
    print_error,
    print_line,
    print_verbatim,
)
from components.orchestration import interrupt
from components.orchestration.disk_faults import disk_fault
from components.orchestration.home_folder import named_user, usable_home
from components.orchestration.output_paths import pipeline_names
from components.orchestration.project import FRESH, root, task_ids


class EscapedGroup(TyperGroup):
    """Groups the commands and escapes the words that Typer quotes in its messages.

    A shell expands `*` to file names, which can contain any character.
    """

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Return the context of a call.

        Raises:
            TyperException: a word is wrong. Its message is escaped.
        """
        with _escaped_usage():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            TyperException: a word is wrong. Its message is escaped.
        """
        with _escaped_usage():
            return super().invoke(ctx)


@contextmanager
def _escaped_usage() -> Iterator[None]:
    try:
        yield
    except TyperException as error:
        error.message = escaping.log_line(error.message)
        raise


app = typer.Typer(
    cls=EscapedGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Raw data in, a served and reviewed model out.",
)
app.add_typer(tracking, name="mlflow")
app.add_typer(keys_app, name="keys")
app.add_typer(review.review_app, name="review")
app.add_typer(feedback.feedback_app, name="feedback")
app.command()(review.rollback)
app.command(help=review.HISTORY_HELP)(review.history)
app.command(help=review.TRACE_HELP)(review.trace)


@app.command()
def run(
    name: Name = None,
    fresh: Annotated[
        bool,
        typer.Option(
            help="run all stages again, discarding resumable state, finished trials included"
        ),
    ] = False,
    pipeline: Pipeline = None,
) -> None:
    """Run a pipeline from ingest to serve: only what changed is run again."""
    from components.orchestration.runner.run import run_pipeline

    name = choose_pipeline(root(), name, pipeline, needs_model=False)
    raise typer.Exit(run_pipeline(root(), name, fresh))


@app.command()
def stage(
    name: str,
    params: Annotated[
        str, typer.Argument(help="params file, relative to the project")
    ] = "params.yaml",
    fresh: Annotated[bool, typer.Option(envvar=FRESH, help="discard resumable state")] = False,
) -> None:
    """Run one stage, as DVC does."""
    from components.orchestration.runner.stage_failure import remembered
    from components.orchestration.runner.stage_task import run_stage
    from components.orchestration.stage_files import STAGES

    if name not in STAGES:
        raise InputError(
            f"there is no stage {name!r}; there are {', '.join(STAGES)}",
            remedy="gristmill stage NAME [PARAMS]",
        )
    with remembered(Path.cwd(), params, name):
        run_stage(Path.cwd(), name, params, fresh)


@app.command(
    help=(
        "Run a pipeline on what is new, in a copy; only the gates decide what is served. "
        "Safe under cron."
    )
)
def retrain(
    name: Name = None,
    trigger: Annotated[str, typer.Option(help="why now, for the record")] = "by hand",
    accept_source: Annotated[
        bool,
        typer.Option(
            "--accept-source",
            help="take the source as it is, though it has shrunk or its columns have changed",
        ),
    ] = False,
    pipeline: Pipeline = None,
) -> None:
    """Run a pipeline on new data, in a copy of the project."""
    from components.orchestration.retraining.retrain import retrain as run_retrain

    name = choose_pipeline(root(), name, pipeline)
    raise typer.Exit(run_retrain(root(), name, trigger, accept_source))


@app.command(
    help=(
        "Bring new rows of a database (ingest.source kind sql) into the folder that ingest reads; "
        "run, retrain and schedule do so first."
    )
)
def pull(
    name: Name = None,
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="all rows, in place of those that were pulled before"),
    ] = False,
    pipeline: Pipeline = None,
) -> None:
    """Copy new rows of a database into the folder that ingest reads."""
    from components.orchestration.pipeline_params import load
    from components.orchestration.runner.pull import pull_now
    from components.orchestration.runner.run import files_of

    path = files_of(root(), choose_pipeline(root(), name, pipeline, needs_model=False))[0]
    params = load(path, shown=path.relative_to(root()).as_posix())
    pull_now(root(), params, from_scratch)


@app.command()
def schedule(
    name: Name = None,
    cron: Annotated[
        str | None,
        typer.Option(help='minute hour day month weekday, such as "0 3 * * *"', show_default=False),
    ] = None,
    on_new_data: Annotated[
        bool, typer.Option("--on-new-data", help="when data, code or params are new")
    ] = False,
    on_drift: Annotated[
        bool, typer.Option("--on-drift", help="when there is an alert of drift, and new data")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between looks")] = 60.0,
    print_: Annotated[
        str | None,
        typer.Option(
            "--print", help="systemd or kubernetes: print the same for it", show_default=False
        ),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Retrain at set times, or when there is reason to, until Ctrl-C."""
    reasons = (cron is not None, on_new_data, on_drift)
    if sum(reasons) != 1:
        raise InputError(
            "takes one of --cron, --on-new-data and --on-drift",
            where="schedule",
            remedy='gristmill schedule --cron "0 3 * * *"',
        )
    from components.orchestration.retraining.cron import parse
    from components.orchestration.runner.run import files_of

    name = choose_pipeline(root(), name, pipeline)
    files_of(root(), name)
    times = parse(cron) if cron is not None else None
    if print_ is not None:
        from components.orchestration.retraining.external_schedulers import show

        print_verbatim(show(print_, root(), name, times, on_drift))
        return
    from components.orchestration.retraining.scheduler import run_scheduler

    run_scheduler(root(), name, every, times, on_drift)


@app.command()
def tasks() -> None:
    """List the tasks that a pipeline can have."""
    for name, what in task_ids().items():
        print_line(f"{name}: {what}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="of the pipeline: small letters, digits, - and _")],
    data: Annotated[Path, typer.Option(help="file or folder; it stays where it lies")],
    task: Annotated[
        str | None,
        typer.Option(
            help=f"one of: {', '.join(task_ids())}; guessed without it", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "--label", help="column to predict", show_default=False),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="column that holds the input of a task on texts", show_default=False),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="csv, tsv, jsonl, parquet, text or folders"),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="whether the first line names the columns"),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="names for a table without a header, such as label,text"),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(help='other names for labels: "Positive=positive,n/a="; n/a= drops it'),
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="a value of params.yaml, such as train.epochs=3; repeatable"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="ask nothing")] = False,
) -> None:
    """Make a pipeline for your own data, and show what was measured and decided."""
    from components.orchestration.creation.create_pipeline import create
    from components.orchestration.creation.creation_options import column_names
    from components.orchestration.creation.pipeline_draft import NewOptions
    from components.orchestration.creation.wizard import Wizard, is_interactive

    options = NewOptions(
        text=text,
        target=target,
        format=format_,
        header=header,
        columns=column_names(columns),
        renames=labels,
        settings=set_ or (),
    )
    wizard = Wizard() if is_interactive() and not yes else None
    for line in create(root(), name, task, data, options=options, wizard=wizard):
        print_line(line)


@app.command()
def up() -> None:
    """Start a local Ray that stays until `gristmill down`."""
    from components.orchestration.cluster.local_cluster import start

    print_line(f"Ray runs at {start(root(), None).address}; gristmill down ends it")


@app.command()
def down() -> None:
    """Stop the local Ray of this project."""
    from components.orchestration.cluster.local_cluster import stop

    if stop(root()):
        print_line("Ray is stopped")
    else:
        print_line("no Ray of this project runs")


@app.command(help="What runs, what is released, what was left unfinished.")
def status() -> None:
    """Print what runs, what is released and what was left unfinished."""
    from components.cli.status import show_status

    show_status(root())


@app.command(
    help=(
        "Hold the champion up over HTTP until Ctrl-C. "
        "Two pipelines can be served at a time, each on its port."
    )
)
def serve(
    name: Name = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8000,
    host: Annotated[
        str,
        typer.Option(
            help="another than loopback needs a key: gristmill keys add, or GRISTMILL_API_KEY"
        ),
    ] = "127.0.0.1",
    pipeline: Pipeline = None,
) -> None:
    """Serve the champion over HTTP until Ctrl-C."""
    from components.orchestration.service.service import hold

    hold(root(), choose_pipeline(root(), name, pipeline), host, port)


@app.command(
    help=(
        "Compare what the service was asked with what its model was trained on. "
        "Exit code 5: it has drifted."
    )
)
def monitor(name: Name = None, pipeline: Pipeline = None) -> None:
    """Compare the requests to the service with the training data of its model."""
    from components.orchestration.drift.drift_check import show
    from components.orchestration.pipeline_params import load
    from components.orchestration.runner.run import files_of

    path = files_of(root(), choose_pipeline(root(), name, pipeline))[0]
    params = load(path, shown=path.relative_to(root()).as_posix())
    raise typer.Exit(show(root(), params))


@app.command()
def predict(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] QUERY",
            help=(
                "a text, or the path of a picture; before it the pipeline, if it is not default. "
                "With --in: [NAME] alone"
            ),
            show_default=False,
        ),
    ] = None,
    pipeline: Pipeline = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--in",
            help="a Parquet, CSV, TSV or JSON lines file of rows instead",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="where its rows go with their answers; the suffix names the format",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            help="what to ask about in that file; as ingest has it, unless given",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(min=1, help="another than the champion, for a file", show_default=False),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="write over an --out file that holds something else than answers"
        ),
    ] = False,
) -> None:
    """Ask the champion without a server: one thing, or each row of a file."""
    has_query = bool(words)
    has_file = source is not None
    too_many_words = has_file and len(words or ()) > 1
    if not (has_query or has_file) or has_file != (out is not None) or too_many_words:
        raise InputError(
            "asks about a text, or about a file with --in and --out",
            where="predict",
            remedy='gristmill predict [NAME] "…", or gristmill predict [NAME] --in FILE --out FILE',
        )
    if source is not None and out is not None:
        from components.orchestration.batch.batch_predict import predict_file

        chosen = choose_pipeline(root(), words[0] if words else None, pipeline)
        predict_file(root(), chosen, source, out, column, version, replace_out=replace)
        return
    _answer_query(words, pipeline)


def _answer_query(words: list[str] | None, pipeline: str | None) -> None:
    from components.orchestration.service.service import answer

    name, query = split_name(words, "QUERY", "predict")
    if name and name not in pipeline_names(root()):
        raise InputError(
            f"there is no pipeline {name!r}",
            where="predict",
            remedy='a text of several words stands in quotes: gristmill predict [NAME] "…"',
        )
    answer(root(), choose_pipeline(root(), name, pipeline), query)


@app.command()
def doctor() -> None:
    """Look at the machine: what is wrong, and how to mend it."""
    from components.cli.doctor import examine, render

    raise typer.Exit(render(examine(root())))


@app.command("clean-state")
def clean_state() -> None:
    """Discard the resumable state of stages that did not end."""
    from components.orchestration.runner.resumable_state import discard_leftovers

    for line in discard_leftovers(root()):
        print_line(line)


def main() -> None:
    """Run the command line.

    An error that a person can mend becomes a message and an exit code. Any other error keeps its
    traceback.
    """
    collect_rarely()
    print_anything()
    sys.excepthook = print_crash
    named_user()
    usable_home(root())
    interrupt.install()
    try:
        _run_app()
    except GristmillError as error:
        fail(error)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as end:
        if end.code != interrupt.EXIT_CODE or not interrupt.is_pending():
            raise
        _stopped()
    except Exception as error:
        fault = disk_fault(error)
        if fault is None:
            raise
        fail(fault)


def _run_app() -> None:
    try:
        app()
    finally:
        # A full disk behind a redirection raises here, while the error can still be printed.
        sys.stdout.flush()


def _stopped() -> NoReturn:
    """End the process after an interrupt."""
    interrupt.report()
    raise SystemExit(interrupt.EXIT_CODE) from None


def fail(error: GristmillError) -> NoReturn:
    """End the process with the message and the exit code of an error."""
    try:
        sys.stdout.flush()
    except OSError:
        # The interpreter flushes again at its end and would raise the same error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        print_error(error)
    raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
