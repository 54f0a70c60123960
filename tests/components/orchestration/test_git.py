"""git asked about checkouts: committed, changed, without git, of another user, with Chinese
names.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.cli.doctor import examine
from components.orchestration.git import checkout, refusal_text, run_git
from components.registry.versions.reader import code_state

OTHER_USER = 4321


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, in a folder with a space and Chinese signs."""
    root = tmp_path / "我的 project"
    root.mkdir()
    (root / "dvc.lock").write_text("a", encoding="utf-8")
    (root / "训练.py").write_text("a", encoding="utf-8")
    author = ("-c", "user.name=t", "-c", "user.email=t@t")
    for words in (("init", "-q"), ("add", "-A"), (*author, "commit", "-qm", "first")):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
    return root


def give_away(root: Path) -> None:
    """Make another user the owner of all files."""
    for folder, _, files in os.walk(root):
        os.chown(folder, OTHER_USER, OTHER_USER)
        for name in files:
            os.chown(Path(folder) / name, OTHER_USER, OTHER_USER)


def test_a_commit_and_its_changes(repository: Path) -> None:
    clean = checkout(repository)
    assert len(clean.commit) == 40 and clean.dirty == "false" and clean.refusal is None
    (repository / "dvc.lock").write_text("what a run writes", encoding="utf-8")
    assert checkout(repository).dirty == "false"
    (repository / "训练.py").write_text("b", encoding="utf-8")
    assert checkout(repository).dirty == "true"


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    assert checkout(tmp_path).commit == "" and checkout(tmp_path).refusal is None


def test_git_that_is_not_installed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert run_git(repository, "status").error == "git is not installed"
    assert checkout(repository).commit == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_checkout_of_another_user_is_unknown_and_says_gits_own_remedy(repository: Path) -> None:
    give_away(repository)
    code = checkout(repository)
    assert (code.commit, code.dirty) == ("unknown", "unknown") and code.refusal is not None
    remedy = f"git config --global --add safe.directory '{repository}'"
    assert code.refusal.owner_remedy == remedy
    text = refusal_text(code.refusal)
    assert "dubious ownership" in text and remedy in text
    finding = next(each for each in examine(repository) if each.name == "git")
    assert (finding.ok, finding.remedy) == ("bad", remedy)
    assert code_state({"git_commit": "unknown", "git_dirty": "unknown"}).startswith("unknown (git")


def test_names_of_files_are_read_under_any_locale(repository: Path) -> None:
    code = (
        "import sys, pathlib; from components.orchestration.git import checkout; "
        "print(checkout(pathlib.Path(sys.argv[1])).dirty)"
    )
    for locale in ("C", "zh_CN.GBK", "de_DE.ISO-8859-1"):
        env = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
        (repository / "训练.py").write_text(locale, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", code, str(repository)], env=env, capture_output=True
        )
        assert done.stdout.split() == [b"true"], done.stderr.decode(errors="replace")
