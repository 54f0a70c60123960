"""What the READMEs tell people to type exists: commands, options, targets, files; in both languages the same."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from components.cli.main import app
from components.core.params import read_yaml
from components.orchestration.pipeline_params import load
from tests.structure.import_graph import ROOT

READMES = ["README.md", "README.zh-CN.md"]
PAIRS = [
    ["README.md", "README.zh-CN.md"],
    ["docs/en/how-to/your-own-data.md", "docs/zh/how-to/your-own-data.md"],
    ["docs/en/reference/stages.md", "docs/zh/reference/stages.md"],
    ["docs/en/reference/commands.md", "docs/zh/reference/commands.md"],
    ["docs/en/how-to/serve.md", "docs/zh/how-to/serve.md"],
]
PAGES = [name for pair in PAIRS for name in pair]
OTHERS = {"cd", "cp", "curl", "git", "pip", ".", "source", "for", "done"}  # not ours to check


@cache
def text(name: str) -> str:
    """A README."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, kinds: str) -> list[str]:
    """The fenced blocks of some languages."""
    return re.findall(rf"^```(?:{kinds})\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)


def commands(name: str) -> list[list[str]]:
    """Words of each command in the shell blocks, comments and settings of the environment left out."""
    lines = [
        line
        for block in blocks(name, "sh|bash|shell|console")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    found = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found


def inline(name: str) -> list[str]:
    """Commands of ours between backticks, which may hold placeholders."""
    return re.findall(r"`((?:gristmill|make) [^`]+)`", text(name))


@cache
def gristmill() -> Any:
    """The command with all its subcommands."""
    return typer.main.get_command(app)


def check_gristmill(words: list[str]) -> None:
    """Parse as the command would, without running it."""
    command = gristmill()
    while hasattr(command, "commands"):
        assert words, "a group alone does nothing"
        assert words[0] in command.commands, f"gristmill has no {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context("gristmill", list(words))  # raises what a person would see


def check_make(words: list[str]) -> None:
    """Targets and variables that the Makefile has."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        pattern = (
            rf"^{re.escape(word.split('=')[0])} \?=" if "=" in word else rf"^{re.escape(word)}:"
        )
        assert re.search(pattern, makefile, re.MULTILINE), f"the Makefile has no {word}"


def check_dvc(words: list[str]) -> None:
    """Parse as dvc would; what is set must be a param, what is reproduced a file."""
    from dvc.cli.parser import get_main_parser

    told = get_main_parser().parse_args(words)
    for setting in getattr(told, "set_param", None) or []:
        file, _, key = setting.partition("=")[0].rpartition(":")
        here: Any = read_yaml(ROOT / (file or "params.yaml"))
        for part in key.split("."):
            here = here[part]
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    for target in (getattr(told, "targets", None) or []) if words[0] == "repro" else []:
        file, _, stage = target.rpartition(":")
        assert (
            target in stages
            or (ROOT / target).is_file()
            or ((ROOT / file).is_file() and stage in stages)
        ), f"dvc repro {target}: nothing of that name"


CHECKS = {"gristmill": check_gristmill, "make": check_make, "dvc": check_dvc}


@pytest.mark.parametrize("name", READMES)
def test_it_begins_with_make_run_and_make_test(name: str) -> None:
    assert commands(name)[:2] == [["make", "run"], ["make", "test"]]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_both_languages_tell_the_same_commands(pair: list[str]) -> None:
    first, second = (commands(name) for name in pair)
    assert first == second
    first_yaml, second_yaml = (blocks(name, "ya?ml") for name in pair)
    assert first_yaml == second_yaml


@pytest.mark.parametrize(
    "words", [words for name in PAGES for words in commands(name)], ids=" ".join
)
def test_a_command_exists(words: list[str]) -> None:
    if words[0] not in OTHERS:
        assert words[0] in CHECKS, f"{words[0]}: no such command of ours"
        CHECKS[words[0]](words[1:])


@pytest.mark.parametrize("told", sorted({told for name in PAGES for told in inline(name)}))
def test_a_command_in_the_text_exists(told: str) -> None:
    """With its placeholders only the names can be checked: of subcommands, options and targets."""
    program, *words = told.split()
    if program == "make":
        check_make(words)
        return
    command = gristmill()
    # A heading may name a group alone.
    while hasattr(command, "commands") and words and not words[0].startswith("--"):
        command, words = command.commands[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options | {"--help"}


def test_the_checks_refuse_what_does_not_exist() -> None:
    for check, words in (
        (check_gristmill, ["rnu"]),
        (check_gristmill, ["run", "--frsh"]),
        (check_make, ["rnu"]),
        (check_make, ["NAME=x"]),
        (check_dvc, ["repo"]),
        (check_dvc, ["repro", "no.yaml"]),
    ):
        with pytest.raises(BaseException):  # noqa: B017 (each tool has its own kind of error)
            check(words)


@pytest.mark.parametrize("name", PAGES)
def test_files_that_it_names_exist(name: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text(name)) if "://" not in link]
    folder = (ROOT / name).parent
    assert not [link for link in links if not (folder / link).exists()]


def test_sources_of_the_examples_exist() -> None:
    data = [
        words[words.index("--data") + 1] for words in commands("README.md") if "--data" in words
    ]
    assert data
    assert not [path for path in data if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", READMES)
def test_no_blank_is_left_to_fill_in(name: str) -> None:
    assert not re.findall(r"@@\w+@@|TODO|FIXME", text(name))


@pytest.mark.parametrize(
    "name", [f"docs/{language}/how-to/your-own-data.md" for language in ("en", "zh")]
)
def test_its_yaml_is_a_section_that_params_take(name: str, tmp_path: Path) -> None:
    documents = "\n---\n".join(blocks(name, "ya?ml")).split("\n---\n")
    assert documents
    for number, document in enumerate(documents):
        path = tmp_path / f"{number}.yaml"
        path.write_text(document, encoding="utf-8")
        section = read_yaml(path)["ingest"]
        shipped = "pipelines/diamonds/params.yaml" if "inputs" in section else "params.yaml"
        params = read_yaml(ROOT / shipped)
        params["ingest"] = {**params["ingest"], **section}
        # JSON is YAML.
        path.write_text(json.dumps(params), encoding="utf-8")
        load(path)
