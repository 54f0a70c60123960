"""What belongs to the pipelines, and that no file of a person's may lie there."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.errors import InputError
from components.orchestration.output_paths import (
    check_input_path,
    check_new_outputs,
    path_mistake,
    pipeline_names,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a default pipeline, one of its own name, and one whose files are broken."""
    root = tmp_path / "project"
    for name, text in (
        ("own", "ingest: {source: {path: data/sources/own/a.csv}}"),
        ("broken", "a: ["),
    ):
        (root / "pipelines" / name).mkdir(parents=True)
        (root / "pipelines" / name / "params.yaml").write_text(text)
    (root / "pipelines" / "broken" / "dvc.yaml").write_text("stages: [")
    (root / "params.yaml").write_text("ingest: {source: {path: mine}}")
    (root / "data" / "sources" / "own").mkdir(parents=True)
    (root / "data" / "sources" / "own" / "a.csv").write_text("text,label\n")
    return root


OUTPUTS = (
    "data/raw/mine.csv",
    "data/raw",
    "./data//clean/",
    "data/sources/../raw/mine.csv",
    "data/own/raw/mine.csv",
    "data/own/reports/notes.csv",
    "data/broken/tokens/x",
    "data/fresh/raw/mine.csv",
    "data/models/trained/a",
    "data/.state/x",
    "data/own/.state",
    "Data/RAW/mine.csv",
    ".dvc/cache/x",
    ".git/x",
)


@pytest.mark.parametrize("path", OUTPUTS)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_in_outputs_of_any_pipeline_is_no_source(
    root: Path, path: str, absolute: bool
) -> None:
    given = f"{root}/{path}" if absolute else path
    assert " lies in " in (path_mistake(root, "fresh", given) or "")
    with pytest.raises(InputError, match="move it to data/sources/fresh/"):
        check_input_path(root, "fresh", given, "--data")


@pytest.mark.parametrize(
    "path", ["data", ".", "", "..", "/", "data/own", "data/fresh", "data/../data", "DATA"]
)
def test_a_folder_that_holds_outputs_is_no_source(root: Path, path: str) -> None:
    assert " holds " in (path_mistake(root, "fresh", path) or "")
    with pytest.raises(InputError, match="data/sources/fresh/"):
        check_input_path(root, "fresh", path, "--data")


@pytest.mark.parametrize(
    "path",
    [
        "data/sources/own/a.csv",
        "data/sources",
        "data/mine.csv",
        "data/rawest/a",
        "data/feedback/own",
        "docs/raw",
        "../data/raw/a",
        "/tmp/data/raw",
        "constraints.txt",
    ],
)
def test_other_places_are_sources(root: Path, path: str) -> None:
    assert path_mistake(root, "fresh", path) is None


def test_links_are_followed_both_ways(root: Path, tmp_path: Path) -> None:
    (root / "data" / "raw").mkdir()
    (root / "data" / "raw" / "mine.csv").write_text("a")
    safe = root / "data" / "sources"
    (safe / "link.csv").symlink_to("../raw/mine.csv")
    (safe / "folder").symlink_to(root / "data" / "raw")
    assert path_mistake(root, "own", "data/sources/link.csv") and path_mistake(
        root, "own", "data/sources/folder/mine.csv"
    )
    # A folder whose files are links to outputs, and a link to the folder above all outputs.
    (safe / "many").mkdir()
    (safe / "many" / "deep").mkdir()
    (safe / "many" / "deep" / "b.csv").symlink_to(root / "data" / "raw" / "mine.csv")
    with pytest.raises(InputError, match=r"deep/b\.csv"):
        check_input_path(root, "own", "data/sources/many", "x")
    (safe / "above").symlink_to(root / "data")
    assert path_mistake(root, "own", "data/sources/above")
    # Outputs may be a link to another disk, and a link in outputs goes with them.
    disk = tmp_path / "disk"
    disk.mkdir()
    (root / "data" / "clean").symlink_to(disk)
    assert path_mistake(root, "own", str(disk / "mine.csv"))
    (root / "data" / "raw" / "out.csv").symlink_to(safe / "own" / "a.csv")
    assert path_mistake(root, "own", "data/raw/out.csv")


def test_links_that_lead_nowhere_are_no_trouble(root: Path) -> None:
    loop = root / "data" / "sources" / "loop"
    loop.symlink_to(loop)
    (root / "data" / "sources" / "own" / "gone").symlink_to("nowhere")
    assert path_mistake(root, "own", "data/sources/loop") is None
    check_input_path(root, "own", "data/sources/own", "x")


def test_a_project_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(root)
    assert path_mistake(alias, "own", str(root / "data" / "raw" / "x")) and path_mistake(
        root, "own", str(alias / "data" / "raw" / "x")
    )


def test_state_counts_where_it_is_asked_for(root: Path) -> None:
    assert path_mistake(root, "own", "data/.state/retrain/own/split-1.parquet", state=False) is None
    assert path_mistake(root, "own", "data/raw/split-1.parquet", state=False)


def test_broken_pipelines_have_names_too(root: Path) -> None:
    assert pipeline_names(root) == ["default", "broken", "own"]


def test_a_new_pipeline_writes_over_nothing(root: Path) -> None:
    check_new_outputs(root, "fresh")
    (root / "params.yaml").write_text("ingest: {source: {path: data/fresh}}")
    with pytest.raises(InputError, match="pipeline default reads 'data/fresh'"):
        check_new_outputs(root, "fresh")
    (root / "data" / "next" / "raw").mkdir(parents=True)
    check_new_outputs(root, "next")
    (root / "data" / "next" / "raw" / "mine.csv").write_text("a")
    with pytest.raises(InputError, match=r"data/next/raw/mine\.csv"):
        check_new_outputs(root, "next")
