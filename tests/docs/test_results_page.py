"""Each row of the aims names the processor and the day of its figures, and a script that is there."""

from __future__ import annotations

import re

from tests.structure.import_graph import ROOT

MEASURED = re.compile(r"(?:Xeon|EPYC) 20\d\d-\d\d-\d\d(?:, (?:Xeon|EPYC) 20\d\d-\d\d-\d\d)*")


def rows_of_aims() -> list[list[str]]:
    """Return the cells of the rows of the table of aims."""
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    section = text.partition("## Aims")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.+) \|$", section, re.MULTILINE)
    return [line.split(" | ") for line in lines[2:]]


def test_each_row_names_processor_and_day() -> None:
    rows = rows_of_aims()
    assert len(rows) > 30
    assert [row for row in rows if len(row) != 6 or not MEASURED.fullmatch(row[4])] == []


def test_each_script_is_there() -> None:
    scripts = {row[5].strip("`") for row in rows_of_aims()} - {"make chaos"}
    assert [name for name in scripts if not (ROOT / "benchmarks" / name).is_file()] == []
