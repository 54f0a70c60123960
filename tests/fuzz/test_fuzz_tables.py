"""Whatever bytes a table holds, ingest reads rows, sets others aside, or raises `InputError`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import TEXTS, changed_bytes

from components.core.errors import InputError
from components.orchestration.pipeline_params import section_model
from components.stages.ingest import stage
from components.stages.ingest.columns import layout
from components.stages.ingest.sources import list_source
from components.tasks.base import schema

CELLS = st.one_of(TEXTS, st.text(alphabet="\",;\t\n\r'| a1好\0", max_size=12))
TABLES = {
    "csv": 'text,label\n好吃,好评\n"a, b\nc",差评\n难吃,差评\n',
    "tsv": "text\tlabel\n好吃\t好评\n难吃\t差评\n",
    "jsonl": '{"text": "好吃", "label": "好评"}\n{"text": "难吃", "label": "差评"}\n',
    "json": '[{"text": "好吃", "label": "好评"}, {"text": "难吃", "label": "差评"}]',
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "gb18030", "big5", "latin-1", "shift_jis")


def read(content: bytes, suffix: str) -> None:
    """Read a file as ingest does, with columns that it may not have."""
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / f"rows.{suffix}").write_bytes(content)
        source = {"kind": "files", "path": f"rows.{suffix}"}
        task = schema("text_classification")
        section = section_model("ingest", "text_classification")
        params: Any = section.model_validate({"source": source})
        try:
            wanted = layout(task.roles, params.columns, 200_000, task.targets.value_map(params))
            for unit in list_source(params.source, Path(scratch), task.targets.words).units:
                parsed = stage.parse(stage.ParseInput(unit, wanted, "key", Path(scratch)))
                assert parsed.rows.num_rows + parsed.quarantine.num_rows >= 0
        except InputError as error:
            assert error.what


@pytest.mark.parametrize("suffix", TABLES)
def test_the_table_itself_is_read(suffix: str) -> None:
    read(TABLES[suffix].encode(), suffix)


@given(st.sampled_from(sorted(TABLES)), st.binary(max_size=300))
def test_any_bytes(suffix: str, content: bytes) -> None:
    read(content, suffix)


@given(st.sampled_from(sorted(TABLES)), st.sampled_from(ENCODINGS), st.data())
def test_changed_bytes(suffix: str, encoding: str, data: st.DataObject) -> None:
    whole = TABLES[suffix].encode(encoding, "replace")
    read(data.draw(changed_bytes(whole)), suffix)


@given(st.sampled_from([",", ";", "\t", "|"]), st.lists(st.lists(CELLS, max_size=4), max_size=6))
def test_any_cells(delimiter: str, rows: list[list[str]]) -> None:
    lines = "\n".join(delimiter.join(row) for row in rows)
    read(f"text{delimiter}label\n{lines}".encode("utf-8", "replace"), "csv")
