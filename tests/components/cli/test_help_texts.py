"""Each command is in a panel, its help says what each option does, and its examples can be typed."""

from __future__ import annotations

import inspect
import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from components.cli.help_text import PANELS
from components.cli.main import app
from tests.structure.import_graph import ROOT

ROOT_COMMAND: Any = typer.main.get_command(app)
# Columns of a terminal that shows an example on one line.
WIDTH = 78
HEAVY = {"ray", "torch", "mlflow", "dvc", "numpy", "sqlalchemy", "rich"}
VERSIONS = """
import json, sys
sys.argv = ["gristmill", "--version"]
from components.cli.main import main
try:
    main()
finally:
    print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def command_tree(command: Any = ROOT_COMMAND, path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield each command and each group with its words."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from command_tree(child, (*path, name))


COMMANDS = dict(command_tree())
each_command = pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "all")


def examples_of(path: tuple[str, ...]) -> list[str]:
    """Return the examples that the help of a command shows."""
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"}).output
    lines = [line.strip() for line in shown.partition("Examples:")[2].splitlines()]
    return [line for line in lines if line.startswith("gristmill ")]


def parse(words: list[str]) -> tuple[str, ...]:
    """Parse words as the command would, without running it, and return the command's name."""
    command, path = ROOT_COMMAND, ()
    while hasattr(command, "commands"):
        path = (*path, words[0])
        command, words = command.commands[words[0]], words[1:]
    command.make_context("gristmill", list(words))
    return path


def test_panels_name_each_command_once() -> None:
    shown = [name for names in PANELS.values() for name in names]
    assert len(shown) == len(set(shown))
    registered = {info.name or info.callback.__name__ for info in app.registered_commands}
    assert set(shown) == registered | {info.name for info in app.registered_groups}


def test_help_shows_the_panels_in_their_order() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    names = [name for names in PANELS.values() for name in names]
    assert re.findall(r"╭─ (\w+)", shown) == ["Options", *PANELS]
    assert re.findall(r"^│ ([a-z][a-z-]*)  ", shown, re.MULTILINE) == names


@pytest.mark.parametrize("command", ["show", "diff", "approve", "reject"])
def test_a_review_without_its_version_is_a_mistake_that_the_help_shows(command: str) -> None:
    shown = CliRunner().invoke(app, ["review", command, "--help"], env={"COLUMNS": "80"}).output
    words = re.search(r"\*\s+\[NAME\] N", shown)
    assert words
    assert "[required]" in shown[words.start() :]


@each_command
def test_the_usage_of_a_command_can_be_read(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"}).output
    match = re.search(r"Usage: (.*)", shown)
    assert match
    usage = match[1].strip()
    if hasattr(COMMANDS[path], "commands"):
        assert usage.endswith("[OPTIONS] COMMAND [ARGS]...")
        return
    assert not re.search(r"\[\[|[{}]|\.\.\.", usage)
    assert usage.split()[1 : len(path) + 1] == list(path)
    assert usage.endswith("[OPTIONS]")


def test_required_options_stand_in_the_usage() -> None:
    words = ["feedback", "accept", "--help"]
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "200"}).output
    assert "feedback accept [NAME] ID[:ITEM]… --by WHO [OPTIONS]" in shown


@each_command
def test_examples_have_no_unknown_command_or_option(path: tuple[str, ...]) -> None:
    examples = examples_of(path)
    assert examples
    for example in examples:
        assert len(example) <= WIDTH
        parsed = parse(shlex.split(example)[1:])
        assert parsed[: len(path)] == path, example


def test_an_example_with_an_unknown_option_is_refused() -> None:
    for words in (["rnu"], ["run", "--frsh"], ["new"], ["serve", "--port", "x"]):
        with pytest.raises(Exception):  # noqa: B017 (a KeyError or a TyperException)
            parse(words)


@each_command
def test_the_description_is_made_of_short_sentences(path: tuple[str, ...]) -> None:
    first, _, rest = inspect.cleandoc(COMMANDS[path].help).partition("\n\n")
    assert "\n" not in first
    for line in (first, *filter(None, rest.splitlines())):
        assert len(line) <= WIDTH
        assert re.fullmatch(r"[A-Za-z].*\.", line), line


@each_command
def test_an_option_says_what_it_does_and_its_default(path: tuple[str, ...]) -> None:
    silent = []
    for param in COMMANDS[path].params:
        is_flag = getattr(param, "is_flag", False)
        has_default = param.default not in (None, "") or isinstance(param.show_default, str)
        is_alternative = "[NAME]" in (param.metavar or "")
        shows_default = is_flag or param.required or has_default or is_alternative
        if not re.fullmatch(r"[A-Z].*\.|[a-z].*\.", param.help or "") or not shows_default:
            silent.append(param.name)
    assert silent == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [(("tasks",), "text_classification: "), (("keys",), "there are no keys")],
)
def test_cheap_examples_run(
    path: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_KEYS_FILE", str(tmp_path / "keys.json"))
    outputs = ""
    for example in examples_of(path):
        if " add " not in example:
            done = CliRunner().invoke(app, shlex.split(example)[1:])
            assert done.exit_code == 0
            outputs += done.output
    assert expected in outputs


def test_the_example_of_new_makes_a_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "components" / "cli").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "examples").symlink_to(ROOT / "docs" / "examples")
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*shlex.split(examples_of(("new",))[0])[1:], "--yes"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "pipelines" / "reviews" / "params.yaml").is_file()


def test_version_shows_what_is_installed_and_imports_none_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", VERSIONS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *shown, modules = done.stdout.splitlines()
    assert shown == [
        f"gristmill {version('gristmill')}",
        f"Python {platform.python_version()}",
        f"Ray {version('ray')}",
        f"torch {version('torch')}",
        f"MLflow {version('mlflow')}",
        f"DVC {version('dvc')}",
    ]
    assert not HEAVY & set(json.loads(modules))
