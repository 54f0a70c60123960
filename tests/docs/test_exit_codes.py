"""The page of exit codes has each code that the code declares, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from components.cli.help_text import EXIT_CODES
from components.core.errors import GristmillError
from components.orchestration import interrupt
from components.orchestration.drift.drift_check import DRIFTED
from components.orchestration.retraining.retrain import _INTERRUPTED
from components.orchestration.runner.stage_failure import _exit_code
from tests.structure.import_graph import ROOT


def error_types(kind: type[GristmillError] = GristmillError) -> Iterator[type[GristmillError]]:
    """Yield the types of errors below a type, of the module that declares them."""
    for child in kind.__subclasses__():
        if child.__module__ == "components.core.errors":
            yield child
            yield from error_types(child)


def declared() -> dict[int, set[str]]:
    """Return the names that declare a code, by code. Python's own codes have none."""
    names: dict[int, set[str]] = {0: set(), 1: set()}
    for kind in error_types():
        names.setdefault(kind.exit_code, set()).add(kind.__name__)
    names.setdefault(DRIFTED, set()).add("DRIFTED")
    names.setdefault(interrupt.EXIT_CODE, set()).add("EXIT_CODE")
    return names


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_has_the_codes_and_who_declares_them(language: str) -> None:
    page = (ROOT / "docs" / language / "reference/exit-codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    shown = {int(code): set(re.findall(r"`(\w+)`", where)) for code, where in rows}
    assert shown == declared()
    for _, where in rows:
        for file in re.findall(r"`([\w/]+\.py)`", where):
            text = (ROOT / file).read_text(encoding="utf-8")
            names = re.findall(r"`(\w+)`", where)
            assert [name for name in names if not re.search(rf"(class )?{name}\b", text)] == []


def test_the_help_names_the_codes_that_a_command_chooses() -> None:
    named = {int(code) for code in re.findall(r"\b(\d) ", EXIT_CODES.replace("\n", " "))}
    assert named == declared().keys() - {interrupt.EXIT_CODE}


def test_an_interrupt_has_one_code_everywhere() -> None:
    assert _exit_code(KeyboardInterrupt()) == interrupt.EXIT_CODE == _INTERRUPTED
