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

from components.cli import export_command, feedback, review
from components.cli.completion import (
    complete_first_word,
    complete_stage,
    complete_task,
    complete_version,
)
from components.cli.help_text import EXIT_CODES, PANELS, CommandApp, examples
from components.cli.keys import keys_app
from components.cli.pipeline_argument import (
    Name,
    Pipeline,
    choose_pipeline,
    explicit_pipeline,
    split_name,
)
from components.cli.pipeline_extra import check_pipeline, require_pipeline
from components.cli.tracking_store_commands import app as tracking
from components.cli.version import show_versions
from components.core import escaping
from components.core.errors import GristmillError, InputError
from components.core.garbage import collect_rarely, return_freed_memory
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
from components.orchestration.project import FRESH, pipeline_files, root, task_ids
from components.orchestration.stage_files import STAGES


class CommandGroup(TyperGroup):
    """Groups the commands in panels and escapes the words that Typer quotes in its messages.

    A shell expands `*` to file names, which can contain any character.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        commands = self.commands
        self.commands = {}
        for panel, names in PANELS.items():
            for name in names:
                command: Any = commands[name]
                command.rich_help_panel = panel
                require_pipeline(name, command)
                self.commands[name] = command

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


app = CommandApp(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=(
        "Raw data in, a served and reviewed model out.\n\n"
        "gristmill COMMAND --help shows the options of a command, with examples."
    ),
    epilog=examples(
        "gristmill new reviews --data docs/examples/reviews.csv",
        "gristmill run reviews",
        "gristmill serve reviews",
        "",
        EXIT_CODES,
    ),
)
app.add_typer(tracking, name="mlflow")
app.add_typer(keys_app, name="keys")
app.add_typer(review.review_app, name="review")
app.add_typer(feedback.feedback_app, name="feedback")
app.command(
    epilog=examples(
        'gristmill rollback --by ann --note "slower than before"',
        'gristmill rollback digits --to 2 --by ann --note "worse on photos"',
    )
)(review.rollback)
app.command(epilog=examples("gristmill history", "gristmill history digits"))(review.history)
app.command(
    epilog=examples(
        "gristmill trace 3",
        "gristmill trace digits 3",
        "gristmill trace 5f0c7e1d4b9a42d8a1c3e5f7092b4d6e",
        "gristmill trace answer.json",
    )
)(review.trace)


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the versions of gristmill, Python, Ray, torch, MLflow and DVC.",
            callback=show_versions,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Take the options of the command itself."""


Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="PRESET",
        help=(
            "fast: a short fit without a search. good: params.yaml without a preset. "
            "best: a wide search and an ensemble. It is written into params.yaml."
        ),
        show_default="the one in params.yaml",
    ),
]


@app.command(
    epilog=examples(
        "gristmill run",
        "gristmill run digits",
        "gristmill run --fresh",
        "gristmill run --preset fast",
    )
)
def run(
    name: Name = None,
    fresh: Annotated[
        bool,
        typer.Option(
            help="Run all stages again. Resumable state and finished trials are discarded."
        ),
    ] = False,
    preset: Preset = None,
    pipeline: Pipeline = None,
) -> None:
    """Run a pipeline from ingest to serve.

    Only what changed runs again.
    Starts Ray if none runs, and stops what it started.
    A run that was killed goes on where it stopped.
    """
    from components.orchestration.runner.run import run_pipeline

    name = choose_pipeline(root(), name, pipeline, needs_model=False)
    if preset is not None:
        from components.orchestration.presets import use_preset

        for line in use_preset(root(), pipeline_files(root(), name)[0], preset):
            print_line(line)
    raise typer.Exit(run_pipeline(root(), name, fresh))


@app.command(
    epilog=examples(
        "gristmill stage train", "gristmill stage tune --fresh pipelines/digits/params.yaml"
    )
)
def stage(
    name: Annotated[
        str,
        typer.Argument(
            metavar="STAGE", help=f"One of: {', '.join(STAGES)}.", autocompletion=complete_stage
        ),
    ],
    params: Annotated[
        str, typer.Argument(metavar="PARAMS", help="Params file, relative to the project.")
    ] = "params.yaml",
    fresh: Annotated[
        bool, typer.Option(envvar=FRESH, help="Discard the resumable state of the stage.")
    ] = False,
) -> None:
    """Run one stage, as DVC does."""
    from components.orchestration.runner.stage_failure import remembered
    from components.orchestration.runner.stage_task import run_stage

    if name not in STAGES:
        raise InputError(
            f"there is no stage {name!r}; there are {', '.join(STAGES)}",
            remedy="gristmill stage NAME [PARAMS]",
        )
    with remembered(Path.cwd(), params, name):
        run_stage(Path.cwd(), name, params, fresh)


@app.command(
    epilog=examples("gristmill retrain", 'gristmill retrain digits --trigger "new camera"')
)
def retrain(
    name: Name = None,
    trigger: Annotated[
        str, typer.Option(metavar="TEXT", help="Reason, for the record.")
    ] = "by hand",
    accept_source: Annotated[
        bool,
        typer.Option(
            "--accept-source",
            help="Take the source even if it has shrunk or its columns have changed.",
        ),
    ] = False,
    pipeline: Pipeline = None,
) -> None:
    """Run a pipeline on new data, in a copy of the project.

    The gates decide whether the new model is served.
    If nothing is new, it ends in seconds. It is safe under cron.
    """
    from components.orchestration.retraining.retrain import retrain as run_retrain

    name = choose_pipeline(root(), name, pipeline)
    raise typer.Exit(run_retrain(root(), name, trigger, accept_source))


@app.command(epilog=examples("gristmill pull", "gristmill pull reviews --from-scratch"))
def pull(
    name: Name = None,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Copy all rows, and drop those that were pulled before."
        ),
    ] = False,
    pipeline: Pipeline = None,
) -> None:
    """Copy rows of a database or of an earlier run to where ingest reads.

    The source of the pipeline must have the kind sql or mlflow.
    run, retrain and schedule pull first by themselves.
    """
    from components.orchestration.pipeline_params import load
    from components.orchestration.runner.pull import pull_now

    path = pipeline_files(root(), choose_pipeline(root(), name, pipeline, needs_model=False))[0]
    params = load(path, shown=path.relative_to(root()).as_posix())
    pull_now(root(), params, from_scratch)


@app.command(
    epilog=examples(
        'gristmill schedule --cron "0 3 * * *"',
        "gristmill schedule digits --on-drift --every 600",
        "gristmill schedule --on-new-data --print systemd",
    )
)
def schedule(
    name: Name = None,
    cron: Annotated[
        str | None,
        typer.Option(
            metavar="TIMES",
            help='Retrain at these times: minute, hour, day, month, weekday, as in "0 3 * * *".',
            show_default="none",
        ),
    ] = None,
    on_new_data: Annotated[
        bool, typer.Option("--on-new-data", help="Retrain when data, code or params are new.")
    ] = False,
    on_drift: Annotated[
        bool,
        typer.Option("--on-drift", help="Retrain when there is an alert of drift and new data."),
    ] = False,
    every: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.1, help="Seconds between two looks at data and alerts."
        ),
    ] = 60.0,
    print_: Annotated[
        str | None,
        typer.Option(
            "--print",
            metavar="SYSTEM",
            help="Print the schedule for systemd or kubernetes, and run nothing.",
            show_default="none",
        ),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Retrain at set times, on new data or on drift, until Ctrl-C.

    Takes one of --cron, --on-new-data and --on-drift.
    """
    reasons = (cron is not None, on_new_data, on_drift)
    if sum(reasons) != 1:
        raise InputError(
            "takes one of --cron, --on-new-data and --on-drift",
            where="schedule",
            remedy='gristmill schedule --cron "0 3 * * *"',
        )
    from components.orchestration.retraining.cron import parse

    name = choose_pipeline(root(), name, pipeline)
    pipeline_files(root(), name)
    times = parse(cron) if cron is not None else None
    if print_ is not None:
        from components.orchestration.retraining.external_schedulers import show

        print_verbatim(show(print_, root(), name, times, on_drift))
        return
    from components.orchestration.retraining.scheduler import run_scheduler

    run_scheduler(root(), name, every, times, on_drift)


@app.command(epilog=examples("gristmill tasks"))
def tasks() -> None:
    """List the tasks that a pipeline can have."""
    for name, what in task_ids().items():
        print_line(f"{name}: {what}")


_GUESSED = "guessed from the data"
NewName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the new pipeline: small letters, digits, - and _."
    ),
]
Data = Annotated[
    Path,
    typer.Option(metavar="PATH", help="File or folder with the data. It stays where it lies."),
]
TaskId = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help=f"One of: {', '.join(task_ids())}.",
        show_default=_GUESSED,
        autocompletion=complete_task,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        "--label",
        metavar="COLUMN",
        help="Column to predict.",
        show_default=_GUESSED,
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with the input of a task on texts.",
        show_default=_GUESSED,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Format of the data: csv, tsv, jsonl, parquet, text or folders.",
        show_default=_GUESSED,
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line names the columns.",
        show_default=_GUESSED,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Names for the columns of a table without a header, such as label,text.",
        show_default="none",
    ),
]
Renames = Annotated[
    str,
    typer.Option(
        metavar="RENAMES",
        help='Other names for labels: "Positive=positive,n/a=". n/a= drops the rows of n/a.',
        show_default="none",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Value of params.yaml, such as train.epochs=3. Repeatable.",
        show_default="none",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, and take what is guessed.")]


@app.command(
    epilog=examples(
        "gristmill new reviews --data docs/examples/reviews.csv",
        "gristmill new prices --data prices.csv --target price --yes",
        "gristmill new photos --data photos/ --set train.epochs=3",
    )
)
def new(
    name: NewName,
    data: Data,
    task: TaskId = None,
    target: Target = None,
    text: TextColumn = None,
    format_: Format = None,
    header: Header = None,
    columns: Columns = None,
    labels: Renames = "",
    set_: Settings = None,
    preset: Preset = None,
    yes: Yes = False,
) -> None:
    """Make a pipeline for your own data.

    Measures the data and prints a reason for each value that it decides.
    Writes pipelines/NAME/params.yaml. The next step is gristmill run NAME.
    """
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
        preset=preset,
    )
    wizard = Wizard() if is_interactive() and not yes else None
    for line in create(root(), name, task, data, options=options, wizard=wizard):
        print_line(line)


@app.command(epilog=examples("gristmill up"))
def up() -> None:
    """Start a local Ray that stays until gristmill down.

    Commands that follow use it, and start faster.
    """
    from components.orchestration.cluster.local_cluster import start

    print_line(f"Ray runs at {start(root(), None).address}; gristmill down ends it")


@app.command(epilog=examples("gristmill down"))
def down() -> None:
    """Stop the local Ray of this project."""
    from components.orchestration.cluster.local_cluster import stop

    if stop(root()):
        print_line("Ray is stopped")
    else:
        print_line("no Ray of this project runs")


@app.command(epilog=examples("gristmill status"))
def status() -> None:
    """Show what runs, what is released and what was left unfinished."""
    from components.cli.status import show_status

    show_status(root())


@app.command(
    epilog=examples(
        "gristmill serve",
        "gristmill serve digits --port 8001",
        "gristmill serve --host 0.0.0.0",
        "gristmill serve --bundle digits-onnx",
    )
)
def serve(
    name: Name = None,
    port: Annotated[
        int,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Port to listen on. 0: any that is free."
        ),
    ] = 8000,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help=(
                "Address to listen on. One beyond loopback needs a key: "
                "gristmill keys add, or GRISTMILL_API_KEY."
            ),
        ),
    ] = "127.0.0.1",
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=(
                "Serve the bundle in a folder, such as one of gristmill export. "
                "It needs no project and no Ray. Then NAME is the name in answers."
            ),
            show_default="none",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --bundle: a further host, as serve.allowed_hosts has them. Repeatable.",
            show_default="none",
        ),
    ] = None,
    pipeline: Pipeline = None,
) -> None:
    """Serve the champion over HTTP until Ctrl-C.

    A new champion takes over without a restart.
    Two pipelines can be served at a time, each on its port.
    """
    if bundle is not None:
        from components.orchestration.project import keys_file
        from components.orchestration.service.bundle_service import hold_bundle
        from components.serving.http.keyring import Keyring

        hold_bundle(
            bundle,
            explicit_pipeline(name, pipeline),
            host=host,
            port=port,
            keys=Keyring.from_environment(keys_file(root())),
            allowed_hosts=allow_host or (),
        )
        return
    if allow_host:
        raise InputError(
            "goes with --bundle",
            where="--allow-host",
            remedy="name the host in serve.allowed_hosts of params.yaml",
        )
    check_pipeline()
    from components.orchestration.service.service import hold

    hold(root(), choose_pipeline(root(), name, pipeline), host, port)


@app.command(epilog=examples("gristmill monitor", "gristmill monitor digits"))
def monitor(name: Name = None, pipeline: Pipeline = None) -> None:
    """Compare the requests to the service with the training data.

    Exit code 5: they have drifted.
    """
    from components.orchestration.drift.drift_check import show
    from components.orchestration.pipeline_params import load

    path = pipeline_files(root(), choose_pipeline(root(), name, pipeline))[0]
    params = load(path, shown=path.relative_to(root()).as_posix())
    raise typer.Exit(show(root(), params))


@app.command(
    epilog=examples(
        'gristmill predict "房间很干净,下次还会来"',
        "gristmill predict digits photo.png",
        "gristmill predict diamonds --in new.csv --out prices.csv",
    )
)
def predict(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME] QUERY",
            help=(
                "A text, the path of a picture, or an object of JSON. "
                "Before it the pipeline, if it is not default. With --in: [NAME] alone."
            ),
            show_default=False,
            autocompletion=complete_first_word,
        ),
    ] = None,
    pipeline: Pipeline = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--in",
            metavar="FILE",
            help="Ask about each row of a Parquet, CSV, TSV or JSON lines file.",
            show_default="none",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File for the rows with their answers. The suffix names the format.",
            show_default="none",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of the file to ask about.",
            show_default="as in ingest.columns",
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Version that answers. Needs --in.",
            show_default="the champion",
            autocompletion=complete_version,
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace an --out file that holds something else than answers."
        ),
    ] = False,
) -> None:
    """Ask the champion one question, or about each row of a file.

    No server is needed. A run over a file that was killed goes on.
    """
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


app.command(
    epilog=examples(
        "gristmill export --to model",
        "gristmill export digits --to digits-openvino --format openvino",
    )
)(export_command.export)


@app.command(epilog=examples("gristmill doctor"))
def doctor() -> None:
    """Check the machine: what is wrong, and how to mend it.

    Nothing is changed. Exit code 4: something must be mended.
    """
    from components.cli.doctor import examine, render

    raise typer.Exit(render(examine(root())))


@app.command("clean-state", epilog=examples("gristmill clean-state"))
def clean_state() -> None:
    """Discard the resumable state of stages that did not end.

    Their next run begins anew. Results and releases stay.
    """
    from components.orchestration.runner.resumable_state import discard_leftovers

    for line in discard_leftovers(root()):
        print_line(line)


def main() -> None:
    """Run the command line.

    An error that a person can mend becomes a message and an exit code. Any other error keeps its
    traceback.
    """
    collect_rarely()
    return_freed_memory()
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
