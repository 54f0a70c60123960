"""The copy in which a retrain runs: what it takes from the project, and that it touches nothing
outside.
"""

from __future__ import annotations

from pathlib import Path

from components.orchestration.retraining.project_copy import _snapshot


def test_a_source_replaces_what_the_commit_had(tmp_path: Path) -> None:
    root, copy = tmp_path / "root", tmp_path / "copy"
    for place, text in ((root, "new"), (copy, "old")):
        (place / "mine").mkdir(parents=True)
        (place / "mine" / "rows.csv").write_text(text)
    _snapshot(root, copy, "mine")
    assert (copy / "mine" / "rows.csv").read_text() == "new"


def test_a_link_that_leads_out_of_the_copy_is_left_alone(tmp_path: Path) -> None:
    """A link in the repository, to a person's folder: the copy has the same link, and replacing
    what is behind it would delete the person's files.
    """
    root, copy, files = tmp_path / "root", tmp_path / "copy", tmp_path / "files"
    (files / "rows").mkdir(parents=True)
    (files / "rows" / "a.csv").write_text("mine")
    for place in (root, copy):
        place.mkdir()
        (place / "mine").symlink_to(files)
        (place / "one.csv").symlink_to(files / "rows" / "a.csv")
    for path in ("mine/rows", "mine", "one.csv"):
        _snapshot(root, copy, path)
    assert (files / "rows" / "a.csv").read_text() == "mine" and (copy / "mine").is_symlink()
