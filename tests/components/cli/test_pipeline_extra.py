"""Without the extra `pipeline`, commands that need it say so, and the others work."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from components.cli import pipeline_extra
from components.cli.main import app
from components.core.errors import EnvironmentFault, InputError
from tests.structure.import_graph import ROOT

INDEPENDENT = {"doctor", "keys add", "keys list", "keys remove", "serve", "tasks"}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide two libraries of the extra."""
    real = pipeline_extra.find_spec
    hidden = {"ray": None, "torch": None}
    monkeypatch.setattr(
        pipeline_extra, "find_spec", lambda name: hidden.get(name, name) and real(name)
    )


def leaves(command: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all commands by their words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, subcommand in inner.items():
        yield from leaves(subcommand, f"{words} {name}".strip())


def test_each_other_command_is_refused_before_it_works(without: None) -> None:
    commands = dict(leaves(typer.main.get_command(app)))
    assert set(commands) > INDEPENDENT
    assert "mlflow backup" in commands
    for words in commands.keys() - INDEPENDENT:
        with pytest.raises(EnvironmentFault) as refused:
            commands[words].callback()
        assert refused.value.what == (
            "this command needs the extra pipeline (not installed: ray, torch)"
        ), words
    assert "pip install 'gristmill[pipeline]'" in refused.value.remedy
    assert refused.value.exit_code == 4


def test_a_champion_is_not_served_but_a_bundle_is_looked_for(without: None) -> None:
    command = typer.main.get_command(app)
    with pytest.raises(EnvironmentFault, match="needs the extra pipeline"):
        command.main(["serve", "digits"], standalone_mode=False)
    with pytest.raises(InputError, match="it is no bundle"):
        command.main(["serve", "--bundle", "nowhere", "--port", "0"], standalone_mode=False)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["tasks"]])
def test_help_and_versions_are_printed(without: None, words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.output


def test_a_host_is_allowed_for_a_bundle_alone() -> None:
    with pytest.raises(InputError, match="--allow-host: goes with --bundle"):
        typer.main.get_command(app).main(
            ["serve", "--allow-host", "models.example.com"], standalone_mode=False
        )


def test_the_libraries_that_are_looked_for_belong_to_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = " ".join(project["optional-dependencies"]["pipeline"])
    base = " ".join(project["dependencies"])
    for name in pipeline_extra._LIBRARIES:
        assert name in extra
        assert name not in base
