"""A shell completes commands, pipelines, stages, tasks and versions, and imports nothing heavy."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import typer.main

from components.cli.main import app
from components.orchestration.project import task_ids
from components.orchestration.stage_files import STAGES
from tests.structure.import_graph import ROOT

SCRIPT = Path(sys.executable).with_name("gristmill")
HEAVY = {"ray", "torch", "mlflow", "dvc", "numpy", "pandas", "sqlalchemy", "pyarrow", "httpx"}
MODULES = """
import json, sys
sys.argv = ["gristmill"]
from components.cli.main import main
try:
    main()
finally:
    print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
TABLES = """
CREATE TABLE registered_models (name TEXT);
CREATE TABLE registered_model_tags (name TEXT, key TEXT, value TEXT);
CREATE TABLE registered_model_aliases (name TEXT, alias TEXT, version INTEGER);
CREATE TABLE model_versions (
  name TEXT, version INTEGER, source TEXT, run_id TEXT, creation_time INTEGER, current_stage TEXT
);
CREATE TABLE model_version_tags (name TEXT, version INTEGER, key TEXT, value TEXT);
CREATE TABLE params (run_uuid TEXT, key TEXT, value TEXT);
INSERT INTO registered_models VALUES ('default'), ('digits');
INSERT INTO model_versions VALUES ('default', 1, 's', 'r', 1, ''), ('default', 12, 's', 'r', 2, ''),
  ('digits', 7, 's', 'r', 3, '');
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two pipelines, versions of them, and a folder with a hostile name."""
    (tmp_path / "components" / "cli").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    for name in ("digits", "diamonds", "d$(touch pwned)"):
        (tmp_path / "pipelines" / name).mkdir(parents=True)
        (tmp_path / "pipelines" / name / "dvc.yaml").touch()
    (tmp_path / "mlflow").mkdir()
    with closing(sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")) as connection:
        connection.executescript(TABLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def environment(words: Sequence[str], shell: str) -> dict[str, str]:
    """Return the environment in which a shell asks for the last of some words."""
    line = " ".join(["gristmill", *words])
    return {
        **os.environ,
        "_GRISTMILL_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


def completions(
    words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Return what bash is offered for the last of some words."""
    for name, value in environment(words, "bash").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        typer.main.get_command(app).main([], prog_name="gristmill")
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], ["run"]),
        (["run", ""], ["default", "diamonds", "digits"]),
        (["run", "di"], ["diamonds", "digits"]),
        (["monitor", "--pipeline", "dig"], ["digits"]),
        (["review", "show", ""], ["default", "diamonds", "digits", "12", "1"]),
        (["review", "show", "1"], ["12", "1"]),
        (["review", "diff", "digits", ""], ["7"]),
        (["trace", "digits", ""], ["7"]),
        (["trace", "diamonds", ""], []),
        (["rollback", "--to", ""], ["12", "1"]),
        (["rollback", "digits", "--to", ""], ["7"]),
        (["predict", "--version", ""], ["12", "1"]),
        (["predict", "--pipeline", "digits", "--version", ""], ["7"]),
        (["predict", "dig"], ["digits"]),
        (["predict", "digits", "di"], []),
        (["feedback", "accept", "dig"], ["digits"]),
        (["stage", ""], list(STAGES)),
        (["new", "--task", ""], list(task_ids())),
        (["serve", "--po"], ["--port"]),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_words_are_completed(
    words: Sequence[str],
    expected: Sequence[str],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert completions(words, monkeypatch, capsys) == expected


@pytest.mark.parametrize("store", ["damaged", "absent", "a server"])
def test_without_a_store_no_version_is_offered(
    store: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "mlflow" / "mlflow.db"
    if store == "damaged":
        path.write_bytes(b"no database" * 100)
    elif store == "absent":
        path.unlink()
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert completions(["rollback", "--to", ""], monkeypatch, capsys) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("bash", "diamonds\ndigits\n"),
        ("zsh", """_arguments '*: :(("diamonds"\n"digits"))'\n"""),
        ("fish", "diamonds\ndigits\n"),
    ],
)
def test_each_shell_is_answered_without_heavy_libraries(
    shell: str, expected: str, project: Path
) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})" + MODULES
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(["run", "di"], shell),
        capture_output=True,
        text=True,
    )
    shown, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    assert (f"{shown}\n", done.stderr) == (expected, "")
    assert not HEAVY & set(json.loads(modules))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell_is_shown(shell: str, project: Path) -> None:
    # Otherwise the shell around this process is taken.
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [SCRIPT, "--show-completion", shell]
    shown = subprocess.run(command, env=named, capture_output=True, text=True, check=True)
    assert f"complete_{shell}" in shown.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes_with_the_script_that_is_shown(project: Path) -> None:
    script = """
    PATH=$1:$PATH
    source <(gristmill --show-completion)
    COMP_WORDS=(gristmill review diff digits "")
    COMP_CWORD=4
    _gristmill_completion gristmill
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", str(SCRIPT.parent)], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
