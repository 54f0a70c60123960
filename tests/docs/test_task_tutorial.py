"""The tutorial shows the code of a task as it is."""

from __future__ import annotations

import re

import pytest

from tests.structure.import_graph import ROOT

_BLOCK = re.compile(r"`(components/[\w/.]+)`\n\n```python\n(.*?)\n```", re.DOTALL)
_FACETS = ("schema", "encode", "models", "loss", "baselines", "evaluator")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_code_blocks_are_the_files(language: str) -> None:
    blocks = _BLOCK.findall(
        (ROOT / "docs" / language / "tutorials" / "add-a-task.md").read_text("utf-8")
    )
    files = [f"components/tasks/tabular_regression/{facet}.py" for facet in _FACETS]
    assert [path for path, _ in blocks] == files
    for path, code in blocks:
        assert code in (ROOT / path).read_text(encoding="utf-8"), path
