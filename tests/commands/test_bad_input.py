"""Data that cannot be used: exit code 2, what is wrong and what to do about it, and nothing written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.commands.project import Project, reviews


def empty(project: Project) -> str:
    (project.root / "in").mkdir(exist_ok=True)
    (project.root / "in/empty.csv").write_bytes(b"")
    return project.pipeline("empty", "in/empty.csv")


def no_label_column(project: Project) -> str:
    return project.pipeline(
        "columns", project.write("in/columns.csv", reviews(), ("text", "lable"))
    )


def wrong_encoding(project: Project) -> str:
    path = project.write(
        "in/gb.csv",
        [(f"这家酒店很不错{text}", label) for text, label in reviews()],
        encoding="gb18030",
    )
    return project.pipeline("encoding", path, encoding="utf-8")


REFUSED: dict[str, tuple[Callable[[Project], str], str, str]] = {
    "empty": (empty, "empty.csv: is empty", "ingest.source.path"),
    "columns": (
        no_label_column,
        "columns.csv: has no column 'label' (did you mean 'lable'?); its columns: 'text', 'lable'",
        "set ingest.columns.label",
    ),
    "encoding": (wrong_encoding, "gb.csv: is not utf-8: byte 12 cannot be read", "or to auto"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ingest_refuses_and_says_what_to_do(project: Project, name: str) -> None:
    make, what, remedy = REFUSED[name]
    # One of them is a process.
    run = project.gristmill if name == "empty" else project.call
    done = run("stage", "ingest", make(project))
    assert done.code == 2, done.error
    told, *rest = done.error.splitlines()
    assert told.startswith(f"error: {what}")
    assert rest[-1].startswith("  -> ") and remedy in rest[-1]
    assert "Traceback" not in done.error
    assert not project.hashes(f"data/{name}/raw"), "a stage that failed wrote something"


def test_a_missing_file_is_said_before_anything_is_started(project: Project) -> None:
    project.pipeline("missing", "in/nothere.csv")
    done = project.gristmill("run", "missing")
    assert done.code == 2
    assert done.error.splitlines() == [
        "error: pipelines/missing/params.yaml: ingest.source.path: 'in/nothere.csv' does not exist",
        "  -> name an existing file or folder, relative to the project or absolute",
    ]
    assert done.out == "", "DVC was started"


def test_one_class_only_and_the_exit_code_of_a_stage_is_that_of_the_run(project: Project) -> None:
    project.pipeline("one", project.write("in/one.csv", reviews(labels=("pos",))))
    done = project.gristmill("run", "one")
    assert done.code == 2
    assert (
        "error: in/one.csv: has in its 60 rows only the class 'pos'; at least two are needed\n  -> bring rows of another class"
        in done.error
    )
    assert (
        done.error.splitlines()[-1]
        == "the run stopped in stage ingest; what was finished is kept. To go on: gristmill run one"
    )


# -- gristmill new
@pytest.mark.parametrize("name", ["Reviews", "../up", "好评", "raw"])
def test_new_refuses_names_that_cannot_be_folders_of_data(project: Project, name: str) -> None:
    done = project.call(
        "new", name, "--task", "text_classification", "--data", "docs/examples/reviews.csv"
    )
    assert done.code == 2
    assert done.error.startswith(f"error: NAME: {name!r} cannot be a pipeline's name")
    assert "-> use small letters" in done.error


def test_new_overwrites_nothing(project: Project) -> None:
    before = project.hashes("pipelines/digits")
    done = project.gristmill(
        "new", "digits", "--task", "text_classification", "--data", "docs/examples/reviews.csv"
    )
    assert done.code == 2
    assert "error: NAME: pipelines/digits is there already and is not overwritten" in done.error
    assert project.hashes("pipelines/digits") == before


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (
            ("--task", "text_clasification", "--data", "docs/examples/reviews.csv"),
            "--task: 'text_clasification' is not one of image_classification, "
            "tabular_classification, tabular_regression, text_classification "
            "(did you mean 'text_classification'?)",
        ),
        (
            ("--task", "text_classification", "--data", "docs/examples/reviews.tsv"),
            "--data: there is no file or folder 'docs/examples/reviews.tsv'",
        ),
        (
            (
                "--task",
                "text_classification",
                "--data",
                "docs/examples/reviews.csv",
                "--label",
                "verdikt",
            ),
            "--label: there is no column 'verdikt' (did you mean 'verdict'?)",
        ),
    ],
)
def test_new_says_which_option_is_wrong(
    project: Project, words: tuple[str, ...], what: str
) -> None:
    done = project.call("new", "never", *words)
    assert done.code == 2
    assert done.error.startswith(f"error: {what}")
    assert not (project.root / "pipelines/never").exists()


def test_new_does_not_gamble_on_a_label(project: Project) -> None:
    path = project.write("in/unlabelled.csv", [(text,) for text, _ in reviews()], ("text",))
    done = project.call("new", "never", "--task", "text_classification", "--data", path)
    assert done.code == 2
    assert done.error.splitlines() == [
        "error: --data: which column holds the label cannot be told: there are 'text'",
        "  -> say which: --label COLUMN",
    ]


# -- names, and what nobody has released
@pytest.mark.parametrize("words", [("run", "nosuch"), ("predict", "good", "--pipeline", "nosuch")])
def test_an_unknown_pipeline(project: Project, words: tuple[str, ...]) -> None:
    done = project.call(*words)
    assert done.code == 2
    assert done.error.startswith("error: there is no pipeline 'nosuch'; there are default, ")
    assert "digits" in done.error and "-> gristmill new NAME" in done.error


def test_an_unknown_stage(project: Project) -> None:
    done = project.call("stage", "tran")
    assert done.code == 2
    assert done.error.startswith("error: there is no stage 'tran'; there are ingest, clean, ")


def test_a_stage_before_its_time(project: Project) -> None:
    done = project.gristmill("stage", "train", "pipelines/digits/params.yaml")
    assert done.code == 2
    assert done.error.splitlines() == [
        "error: data/digits/clean: is missing: an earlier stage writes it",
        "  -> dvc repro pipelines/digits/dvc.yaml:train",
    ]


@pytest.mark.parametrize(
    "words", [("serve", "digits"), ("predict", "some text", "--pipeline", "digits")]
)
def test_no_champion_yet(project: Project, words: tuple[str, ...]) -> None:
    done = project.gristmill(*words)
    assert done.code == 2
    assert done.error.splitlines() == [
        "error: registry: pipeline 'digits' has no champion yet",
        "  -> gristmill run digits; if it ran already, a gate has refused its model: gristmill status",
    ]


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query(project: Project, query: str) -> None:
    done = project.call("predict", query)
    assert done.code == 2
    assert done.error.startswith("error: the query is empty")
