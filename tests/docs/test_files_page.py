"""The page of files has each output of each stage, with who reads it and who keeps it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from components.core.params import read_yaml
from components.orchestration.stage_files import STAGES
from tests.structure.import_graph import ROOT

PAGES = {
    language: (ROOT / "docs" / language / "reference/files.md").read_text(encoding="utf-8")
    for language in ("en", "zh")
}
PIPELINE = "data/…/"
PREFIX = "${pipeline.data}/"


def rows(page: str) -> dict[str, list[str]]:
    """Return the other cells of each row by its path."""
    lines = re.findall(r"^\| `([^`]+)` \| (.*) \|$", page, re.MULTILINE)
    return {path: cells.split(" | ") for path, cells in lines}


def uncovered(names: Iterable[str]) -> list[str]:
    """Return the files, relative to the project, that no row of the English page covers."""
    patterns = []
    for path in rows(PAGES["en"]):
        pattern = re.escape(path).replace(re.escape(PIPELINE), r"data/(?:(?!\.)[\w.-]+/)?")
        pattern = re.sub(r"<\w+>", r"[^/]+", pattern)
        patterns.append(re.compile(f"{pattern}.*" if path.endswith("/") else pattern))
    return [name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)]


def kept_by() -> dict[str, str]:
    """Return who keeps each output of dvc.yaml, by its path below the folder of the pipeline."""
    outputs = {}
    for stage in read_yaml(ROOT / "dvc.yaml")["stages"].values():
        for entry in [*stage.get("outs", ()), *stage.get("metrics", ())]:
            settings = next(iter(entry.values())) if isinstance(entry, dict) else {}
            path = next(iter(entry)) if isinstance(entry, dict) else entry
            outputs[path.removeprefix(PREFIX)] = "DVC" if settings.get("cache", True) else "git"
    return outputs


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_each_output_has_its_writer_its_readers_and_its_keeper(page: str) -> None:
    keepers = kept_by()
    outputs = {path: name for name, stage in STAGES.items() for path in stage.outputs.values()}
    assert outputs.keys() == keepers.keys()
    shown = rows(page)
    for path, stage in outputs.items():
        writer, readers, _, keeper, _ = shown.get(f"{PIPELINE}{path}/") or shown[PIPELINE + path]
        expected = {name for name, other in STAGES.items() if path in other.inputs.values()}
        assert writer == stage
        assert set(re.findall(r"(?<![\w`-])\w+(?!`)", readers)) & STAGES.keys() == expected, path
        assert keeper == keepers[path], path


def test_both_languages_have_the_same_paths() -> None:
    assert list(rows(PAGES["en"])) == list(rows(PAGES["zh"]))


def test_a_file_that_no_row_covers_is_found() -> None:
    known = ["data/raw/rows-0.parquet", "data/a/raw/rows-0.parquet", "data/.state/run.lock"]
    unknown = ["data/other.json", "data/.state/other.json", "data/a/reports/other.json"]
    assert uncovered([*known, *unknown]) == unknown
