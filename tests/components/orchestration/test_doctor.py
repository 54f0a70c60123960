"""The doctor: each ailment made, found and given a remedy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.cli import doctor
from components.cli.doctor import Finding, examine, render

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy project."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = local\n['remote \"local\"']\n    url = ../data/.remote\n"
    )
    (tmp_path / "constraints.txt").write_text(
        f"# tested\npsutil=={doctor.installed_version('psutil')}\nnot-installed-here==1.0\n"
    )
    return tmp_path


def look(root: Path, name: str) -> Finding:
    """One of the findings."""
    return next(finding for finding in examine(root) if finding.name == name)


def test_a_healthy_project_has_nothing_bad(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {finding.name: finding for finding in examine(root)}
    assert {
        "Python",
        "libraries",
        "disk",
        "shared memory",
        "memory",
        "git",
        "DVC",
        "MLflow",
        "embedded Ray",
        "fonts",
        "port 8000",
    } <= set(found)
    assert [
        found[name].ok for name in ("Python", "libraries", "git", "DVC", "MLflow", "embedded Ray")
    ] == ["ok"] * 6
    assert all(bool(finding.remedy) == (finding.ok != "ok") for finding in found.values())


def test_rendering_gives_exit_code_4_only_for_what_is_bad(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert render([Finding("disk", "warn", "4.0 GiB free [/home/x]", "free some")]) == 0
    assert (
        render([Finding("git", "ok", "fine"), Finding("disk", "bad", "0.1 GiB free", "free some")])
        == 4
    )
    shown = capsys.readouterr().out
    assert "-> free some" in shown and "[/home/x]" in shown  # brackets are no markup


def damaged_database(root: Path) -> None:
    (root / "mlflow").mkdir()
    with sqlite3.connect(root / "mlflow" / "mlflow.db") as connection:
        connection.execute("create table t (a text)")
        connection.executemany("insert into t values (?)", [("x" * 900,)] * 100)
    connection.close()
    with (root / "mlflow" / "mlflow.db").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\xff" * 9000)


def no_database(root: Path) -> None:
    (root / "mlflow").mkdir()
    (root / "mlflow" / "mlflow.db").write_bytes(b"this is a text, not a database" * 100)


def other_version(root: Path) -> None:
    (root / "constraints.txt").write_text("psutil==0.0.1\n")


def killed_cluster(root: Path) -> None:
    (root / "data" / ".state").mkdir(parents=True)
    gone = [1, "another boot", 7]
    record = {
        "root": str(root),
        "address": "127.0.0.1:1",
        "supervisor": gone,
        "node": gone,
        "owners": None,
        "temp": "/tmp/gm-gone",
        "started_by": "gristmill up",
        "since": 0.0,
    }
    (root / "data" / ".state" / "cluster.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("ail", "name", "verdict", "words"),
    [
        (damaged_database, "MLflow", "bad", "damaged"),
        (no_database, "MLflow", "bad", "not a database"),
        (other_version, "libraries", "warn", "instead of 0.0.1"),
        (lambda root: (root / "constraints.txt").unlink(), "libraries", "warn", "constraints.txt"),
        (killed_cluster, "embedded Ray", "warn", "/tmp/gm-gone"),
        (lambda root: shutil.rmtree(root / ".git"), "git", "bad", "not a git repository"),
        (lambda root: shutil.rmtree(root / ".dvc"), "DVC", "bad", "no .dvc/config"),
        (
            lambda root: (root / ".dvc" / "config").write_text("[core]\n"),
            "DVC",
            "warn",
            "no default remote",
        ),
        (lambda root: (root / ".dvc" / "config").write_text("core]\n"), "DVC", "bad", "malformed"),
    ],
)
def test_an_ailing_project(
    root: Path, ail: Callable[[Path], object], name: str, verdict: str, words: str
) -> None:
    ail(root)
    found = look(root, name)
    assert (found.ok, words in found.detail, bool(found.remedy)) == (verdict, True, True), found


def test_a_full_disk_and_too_little_shared_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=2**36, free=2**28))
    assert [look(root, name).ok for name in ("disk", "temporary folder", "shared memory")] == [
        "bad"
    ] * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=2**26, free=2**26))
    assert "--shm-size" in look(root, "shared memory").remedy


def test_a_taken_port_and_a_silent_address(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert doctor._port(port).ok == "warn"
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        assert look(root, "RAY_ADDRESS").ok == "ok"
    assert doctor._port(port).ok == "ok"
    assert look(root, "RAY_ADDRESS").ok == "bad"
    monkeypatch.setenv("RAY_ADDRESS", "no address")
    assert look(root, "RAY_ADDRESS").ok == "bad"


def test_it_is_quick_because_it_imports_nothing_heavy(root: Path) -> None:
    code = "import sys; from pathlib import Path; from components.cli.doctor import examine; examine(Path(sys.argv[1])); print(sorted({'ray', 'torch', 'mlflow', 'pandas'} & set(sys.modules)))"
    began = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "[]"
    assert time.monotonic() - began < 10  # 0.7 s alone; the test machine is shared
