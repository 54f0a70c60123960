"""docs/pages.py on tiny pages in a tiny project, whose gristmill is a script of two lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from docs import pages
from tests.structure.import_graph import ROOT

# The interpreter of the tests. A fixture sets another one for the pages.
PYTHON = sys.executable
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes a page, whose commands run in a copy of a tiny project."""
    project = tmp_path / "project"
    commands = tmp_path / "bin"
    copies = tmp_path / "copies"
    for folder in (project, commands, copies):
        folder.mkdir()
    subprocess.run(["git", "init", "-q", project], check=True)
    (project / "params.yaml").write_text("train: {epochs: 3, rate: 0.1}\n", encoding="utf-8")
    command = commands / "gristmill"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n', encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setattr(pages, "ROOT", project)
    monkeypatch.setattr(sys, "executable", str(commands / "python"))
    monkeypatch.setattr(tempfile, "tempdir", str(copies))

    def page(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        return path

    return page


def left_over(tmp_path: Path) -> list[str]:
    """Return the copies of the project that are left, and the processes that a page started."""
    copies = [path.name for path in (tmp_path / "copies").iterdir()]
    started = (tmp_path / "started").read_text().split()
    return copies + [process for process in started if is_running(int(process))]


def is_running(pid: int) -> bool:
    """Return whether a process still runs two seconds after it was killed."""
    try:
        process = psutil.Process(pid)
        process.wait(timeout=2)
    except psutil.NoSuchProcess:
        return False
    except psutil.TimeoutExpired:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_outputs_are_equal_but_for_their_numbers(write: Write, tmp_path: Path) -> None:
    page = write(
        "<!-- merge: params.yaml -->\n```yaml\ntrain: {epochs: 5}\n```\n"
        "<!-- file: a/b.txt -->\n```text\nseven\n```\n"
        "```sh\ncat params.yaml a/b.txt\n```\n"
        "<!-- output -->\n```text\ntrain: {epochs: 77, rate: 0.123}\nseven\n```\n"
        "<!-- output: first 1 lines -->\n```text\ntrain: {epochs: 0, rate: 1}\n```\n"
        "<!-- output: last 1 lines -->\n```text\nseven\n```\n"
        "<!-- not run: it cannot -->\n```sh\nfalse\n```\n"
    )
    outputs = pages.run_page(page)
    assert sorted(outputs) == [3, 4, 5]
    assert outputs[3] == "train: {epochs: 5, rate: 0.1}\nseven"
    assert pages.differences(page, outputs) == []
    assert (tmp_path / "asked").read_text() == "down\n"


@pytest.mark.parametrize("number", ["e2a43a9bc692", "021c3e0be549", "1.415537588918926e-41", "7"])
def test_a_hash_is_a_number_whatever_it_begins_with(write: Write, number: str) -> None:
    page = write(
        f"```sh\necho 'is {number}'\n```\n<!-- output -->\n```text\nis 86fd0c309d41\n```\n"
    )
    assert pages.differences(page, pages.run_page(page)) == []


def test_a_changed_word_is_a_difference_and_can_be_rewritten(write: Write) -> None:
    page = write("```sh\necho '  two apples'\n```\n<!-- output -->\n```text\ntwo pears\n```\n")
    outputs = pages.run_page(page)
    (difference,) = pages.differences(page, outputs)
    assert "page.md: block 1 shows\ntwo pears" in difference
    assert "two apples" in difference
    pages.write_outputs(page, outputs)
    assert "```text\n  two apples\n```" in page.read_text(encoding="utf-8")
    assert pages.differences(page, outputs) == []


def test_a_command_that_fails_ends_the_page(write: Write, tmp_path: Path) -> None:
    page = write("```sh\necho 1 > started\necho why >&2\nfalse | cat\necho unreachable\n```\n")
    with pytest.raises(RuntimeError, match=r"(?s)ended with 1:\nwhy"):
        pages.run_page(page)
    assert list((tmp_path / "copies").iterdir()) == []
    assert (tmp_path / "asked").read_text() == "down\n"


def test_an_unknown_comment_is_refused(write: Write) -> None:
    page = write("<!-- ouput -->\n```text\n1\n```\n")
    with pytest.raises(RuntimeError, match="the comment 'ouput' has no meaning"):
        pages.run_page(page)


def test_nothing_is_left_of_a_page_that_takes_too_long(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PATIENCE_S", 1.0)
    monkeypatch.setattr(pages, "GRACE_S", 1.0)
    started = tmp_path / "started"
    page = write(
        f"<!-- background -->\n```sh\nsh -c 'echo $$ >> {started}; exec sleep 600'\n```\n"
        f"```sh\n(trap '' INT; echo $BASHPID >> {started}; exec sleep 600) | cat\n```\n"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        pages.run_page(page)
    assert len(started.read_text().split()) == 2
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_a_page_that_is_interrupted(
    write: Write, tmp_path: Path, number: signal.Signals
) -> None:
    started = tmp_path / "started"
    page = write(f"```sh\necho $$ >> {started}\nsleep 600\n```\n")
    program = "import sys\nfrom pathlib import Path\nfrom docs import pages\n"
    program += f"pages.ROOT = Path({str(pages.ROOT)!r})\n"
    program += f"sys.executable = {sys.executable!r}\nsys.exit(pages.main())\n"
    runner = subprocess.Popen(
        [PYTHON, "-c", program, page],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path / "copies")},
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 60
        while not (started.exists() and started.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        # The command runs a moment before the runner knows of it.
        time.sleep(1)
        runner.send_signal(number)
        _, errors = runner.communicate(timeout=60)
    finally:
        runner.kill()
    assert b"KeyboardInterrupt" in errors
    assert left_over(tmp_path) == []
    assert (tmp_path / "asked").read_text() == "down\n"
