"""Deleting a folder: only below another one, and never through a link."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.files import remove_tree


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Make a state folder with one folder in it, and something precious beside both."""
    for name in ("data/state/old", "data/precious"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    return tmp_path / "data" / "state"


def test_a_folder_inside_goes_and_one_that_is_not_there_is_no_matter(state: Path) -> None:
    remove_tree(state / "old", within=state)
    remove_tree(state / "old", within=state, ignore_errors=False)
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("name", ["..", "old/..", "old/../..", "../precious", "x/../../precious"])
def test_what_lies_elsewhere_stays(state: Path, name: str) -> None:
    with pytest.raises(ValueError, match="nothing was deleted"):
        remove_tree(state / name, within=state)
    assert (state / "old" / "file").is_file() and (state.parent / "precious" / "file").is_file()


def test_the_folder_itself_and_all_above_it_stay(state: Path) -> None:
    for folder in (state, state.parent, Path("/")):
        with pytest.raises(ValueError, match="nothing was deleted"):
            remove_tree(folder, within=state)
    assert (state / "old" / "file").is_file()


def test_of_a_link_only_the_link_goes(state: Path) -> None:
    (state / "link").symlink_to(state.parent / "precious")
    remove_tree(state / "link", within=state)
    assert not (state / "link").is_symlink()
    (state / "door").symlink_to(state.parent)
    with pytest.raises(ValueError, match="nothing was deleted"):
        remove_tree(state / "door" / "precious", within=state)
    assert (state.parent / "precious" / "file").is_file()


def test_a_state_folder_that_is_a_link_itself_is_followed(state: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(state)
    remove_tree(tmp_path / "elsewhere" / "old", within=tmp_path / "elsewhere")
    assert not (state / "old").exists()
