"""Home folders that cannot be used, users without a name."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_home_that_can_be_read_or_is_not_set_stays(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from components.orchestration.home_folder import usable_home; "
        "usable_home(pathlib.Path('p')); print(os.environ.get('HOME'))"
    )
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    unset = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (unset.stdout, unset.stderr) == ("None\n", "")
    env["HOME"] = str(tmp_path)
    same = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (same.stdout, same.stderr) == (f"{tmp_path}\n", "")


def test_another_users_home_is_replaced_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from components.orchestration.home_folder import usable_home

    closed, project = tmp_path / "closed", tmp_path / "project"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(closed))
    # Root may enter any folder: what another user would be told stands in for it.
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(closed))
    usable_home(project)
    assert (
        os.environ["HOME"] == str(project / ".gristmill" / "home")
        and (project / ".gristmill" / "home").is_dir()
    )
    assert f"HOME is {closed}, which this user may not read" in capsys.readouterr().err


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.orchestration.home_folder import named_user

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    named_user()
    assert getpass.getuser() == f"user-{os.getuid()}"
