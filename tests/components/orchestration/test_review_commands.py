"""The commands of a reviewer, over a registry with a champion, a version that waits and one that a gate refuses."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from components.cli.main import app
from components.core import console as terminal
from components.core.errors import EnvironmentFault, GateError, GristmillError, InputError
from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore
from components.monitoring.request_log import BASE
from components.registry.store.tracking_store import client
from tests.components.orchestration.filled_registry import fill
from tests.structure.import_graph import ROOT

WHO = ("--by", "李雷", "--note", "看过了,可以")


@pytest.fixture(scope="module")
def filled(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once."""
    root = tmp_path_factory.mktemp("review") / "p"
    fill(root, empty_store)
    return root


@pytest.fixture
def project(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = shutil.copytree(filled, tmp_path / "p")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(root)
    return root


def run(*words: str, stdin: str | None = None) -> str:
    """What a command prints at 100 columns. Raises what `main` would turn into an exit code."""
    shown, before = io.StringIO(), (terminal.console.file, terminal.console._width)
    terminal.console.file, terminal.console.width = shown, 100
    try:
        done = CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=True)
    finally:
        terminal.console.file, terminal.console._width = before
    if done.exception and not (isinstance(done.exception, SystemExit) and done.exception.code == 0):
        raise done.exception
    text = shown.getvalue() + done.output
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= 100, text
    return text


def refused(kind: type[GristmillError], *words: str, stdin: str | None = None) -> str:
    with pytest.raises(kind) as caught:
        run(*words, stdin=stdin)
    return str(caught.value)


def rows_of(shown: str) -> list[str]:
    """The lines of a table that begin a row: with a version's number or a day."""
    return [line for line in shown.splitlines() if re.match(r" +[123] +20| 20\d\d-", line)]


def test_the_list_says_what_waits_and_what_to_do_next(project: Path) -> None:
    shown = run("review", "list")
    assert [("waiting" in line, "champion" in line, "leak" in line) for line in rows_of(shown)] == [
        (False, False, True),
        (True, False, False),
        (False, True, False),
    ]
    assert "borderline:" in rows_of(shown)[1] and "next: gristmill review show 2" in shown


def test_a_card_shows_gates_figures_and_decisions_in_line_with_chinese_names(project: Path) -> None:
    shown = run("review", "show", "2")
    for part in (
        "0.9500 on 100 test cases",
        "ab" * 32,
        "2" * 40,
        "borderline",
        "-0.02 to 0.03",
        "torch 2.2",
        "好评, 非常差的评价",
        "gates of 2",
    ):
        assert part in shown, part
    slices = [line for line in shown.splitlines() if "class:" in line]
    assert (
        len({cell_len(line.rstrip()) for line in slices}) == 1
        and slices[0].split()[-1] == "1.000"
        and slices[1].split()[-1] == "0.9000"
    )


def test_a_diff_pairs_the_answers_and_tells_what_changed(project: Path) -> None:
    shown = run("review", "diff", "2")
    assert re.search("champion +passed", shown) and "15 won, 0 lost" in shown
    figures = r"accuracy +0\.8 \(0\.75 to 0\.85\) +0\.95 \(0\.9 to 1\) +\+0\.150"
    for pattern in (
        figures,
        r"data +abababababab +the same",
        r"seed +1 +2",
        r"torch +2\.1 +2\.2",
        r"非常差的评价 +50 +0\.6000 +0\.9000 +15 won, 0 lost",
    ):
        assert re.search(pattern, shown), pattern
    assert "train.epochs" not in shown
    assert "version 1 is the champion itself" in refused(InputError, "review", "diff", "1")


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("leaderboard_row", "{"),
        ("leaderboard_row", '{"test": 3}'),
        ("leaderboard_row", '{"test": {"accuracy": "high"}}'),
        ("leaderboard_row", '{"latency_ms": []}'),
        ("environment", "[1]"),
        ("environment", "[" * 5000),
        ("signature", "null"),
        ("classes", "[[1]]"),
        ("bundle_files", '{"weights": 7}'),
        ("bundle_bytes", "many"),
        ("params", '"none"'),
    ],
)
def test_an_edited_tag_is_refused_in_a_sentence_or_shown(
    project: Path, tag: str, text: str
) -> None:
    client(project).set_model_version_tag("default", "2", tag, text)
    refusals = []
    for command in ("show", "diff"):
        try:
            run("review", command, "2")
        except InputError as error:
            refusals.append(str(error))
    assert refusals
    assert all("has a tag that registering does not write" in refusal for refusal in refusals)


def test_approve_reject_rollback_and_history(project: Path) -> None:
    assert "version 2 of default is champion now (promoted by 李雷); before: version 1" in run(
        "review", "approve", "2", *WHO
    )
    assert "version 1 of default is champion now (rolled back by 李雷); before: version 2" in run(
        "rollback", "--by", "李雷", "--note", "慢"
    )
    told = refused(GateError, "review", "approve", "3", *WHO)
    assert (
        "refused by leak: rows that stand in more than one split (2 against 0)" in told
        and "cannot be overridden" in told
    )
    assert "version 3 of default is rejected by 李雷; champion stays version 1" in run(
        "review", "reject", "3", *WHO
    )
    assert "was rejected by 李雷" in refused(GateError, "review", "approve", "3", *WHO)
    shown = run("history")
    assert [line.split()[2:4] for line in rows_of(shown)] == [
        ["1", "promoted"],
        ["2", "waiting"],
        ["3", "refused"],
        ["2", "promoted"],
        ["1", "rolled"],
        ["3", "rejected"],
    ]
    assert "1 → 2" in shown and "2 → 1" in shown and "看过了" in shown


def test_what_is_asked_in_mlflow_is_done_by_the_next_command(project: Path) -> None:
    from components.registry.store import tracking_store

    for key, value in {"review": "approve", "review.by": "王", "review.note": "好"}.items():
        tracking_store.client(project).set_model_version_tag("default", "2", key, value)
    assert "from MLflow: version 2 promoted by 王 (好)" in run("review", "list")
    assert "from MLflow" not in run("history")


@pytest.mark.parametrize("form", ["number", "hash", "json", "file", "stdin"])
def test_a_trace_begins_with_whatever_is_at_hand(project: Path, form: str) -> None:
    from components.registry.versions.reader import read_snapshot

    shelf = read_snapshot(project, "default")
    assert shelf
    digest = shelf.version(1).tags["bundle_sha256"]
    answer = json.dumps(
        {
            "predictions": [],
            "id": "a-17",
            "model": {
                "name": "default",
                "version": "1",
                "data_hash": "ab" * 32,
                "bundle": digest[:12],
            },
        }
    )
    (project / "answer.json").write_text(answer, encoding="utf-8")
    words = {
        "number": "1",
        "hash": digest[:10],
        "json": answer,
        "file": "answer.json",
        "stdin": "-",
    }[form]
    shown = run("trace", words, stdin=answer)
    for part in (
        "default version 1, the champion",
        "ab" * 32,
        "1" * 40,
        "1" * 64,
        digest,
        "size passed",
        "promoted by 韩梅梅: the first",
    ):
        assert part in shown, part
    assert ("answer a-17 was given by" in shown) == (form in ("json", "file", "stdin"))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("99", "has no version 99"),
        ("abcdef123456", "0 versions of 'default' have a bundle that begins with"),
        (
            "no such file.json",
            "is no version, no hash, no answer and no file that can be read (FileNotFoundError)",
        ),
        ("x" * 5000, "is no version"),
        ("{}", "is no answer of a gristmill service: it names no model (KeyError)"),
        ('{"model": []}', "it names no model"),
        ("[" * 100_000, "is no version"),
        (
            '{"model": {"version": "1", "bundle": "ffff"}}',
            "the answer names bundle ffff, but version 1 of 'default' is of",
        ),
        ('{"model": {"version": "1", "data_hash": "ff"}}', "names data ff"),
        ('{"model": {"name": "nobody", "version": "1"}}', "has no versions of 'nobody'"),
    ],
)
def test_a_trace_of_what_is_not_ours_says_so(project: Path, what: str, says: str) -> None:
    assert says in refused(InputError, "trace", what)


def test_a_trace_finds_an_answer_by_its_id(project: Path) -> None:
    folder = project / "data" / ".state" / "default" / "monitor"
    rows = [
        {
            "id": id_,
            "item": 0,
            "time": 1.0,
            "version": version,
            "prediction": "a",
            "probability": 0.9,
            "input": None,
        }
        for id_, version in (("ab12" * 8, "2"), ("cd34" * 8, "1"))
    ]
    (folder / "requests").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(rows, schema=BASE),
        folder / "requests" / "part-0000000000001-0.parquet",
    )
    # One whose row is no longer in the log, but for which a client sent a label.
    FeedbackStore(folder / "feedback", 10).add(
        FeedbackEntry("ef56" * 8, 0, {"label": "b"}, 2.0, "1", "a", 0.9, None)
    )
    assert f"answer {'ab12' * 8} was given by default version 2" in run("trace", "ab12" * 8)
    assert "was given by default version 1, the champion" in run("trace", "cd34cd:0")
    assert "was given by default version 1" in run("trace", "default", "ef56ef56")
    assert "is in the request log of default" in refused(InputError, "trace", "0" * 32)
    assert "2 answers have an id that begins with" in _two_alike(folder)


def _two_alike(folder: Path) -> str:
    FeedbackStore(folder / "feedback", 10, "1").add(
        FeedbackEntry("ab12ab" + "0" * 26, 0, {"label": "b"}, 2.0, "1", "a", 0.9, None)
    )
    return refused(InputError, "trace", "ab12ab")


def test_exit_codes_and_what_a_trace_loads(project: Path) -> None:
    """The real command: a refusal is 3, a store that is away 4; a trace takes none of the libraries that take seconds."""

    def start(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        given = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            **env,
        }
        return subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "components.cli", *words],
            cwd=project,
            env=given,
            capture_output=True,
            text=True,
        )

    done = start("review", "approve", "3", *WHO)
    assert (
        done.returncode == 3
        and "error: gates: version 3 of 'default' is refused by leak" in done.stderr
    )
    assert (
        start("review", "approve", "2", *WHO, MLFLOW_TRACKING_URI="http://127.0.0.1:9").returncode
        == 4
    )
    done = start("trace", "1")
    imported = {
        found[1].split(".")[0]
        for line in done.stderr.splitlines()
        if (found := re.match(r"import time:.*\| +([\w.]+)$", line))
    }
    assert done.returncode == 0 and "default version 1, the champion" in done.stdout
    assert "typer" in imported and not imported & {
        "mlflow",
        "sqlalchemy",
        "torch",
        "ray",
        "numpy",
        "pandas",
        "sklearn",
        "pyarrow",
        "scipy",
    }


def test_nothing_was_registered_yet(tmp_path: Path, project: Path) -> None:
    shutil.rmtree(project / "mlflow")
    for words in (
        ("review", "list"),
        ("history",),
        ("rollback", *WHO),
        ("review", "approve", "1", *WHO),
    ):
        assert "pipeline 'default' has no versions yet" in refused(InputError, *words)
    assert not (project / "mlflow").exists()


def test_a_locked_store_is_an_environment_fault(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    from components.registry.store import tracking_store

    monkeypatch.setattr(tracking_store, "LOCK_SECONDS", 0.1)
    holder = sqlite3.connect(project / "mlflow" / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        for words in (("trace", "1"), ("history",), ("review", "approve", "2", *WHO)):
            told: Any = refused(EnvironmentFault, *words)
            assert "locked" in told and "run the same command again" in told
    finally:
        holder.close()
