"""Ingest holds some thousands of rows, however many a file has."""

from __future__ import annotations

from pathlib import Path

import limited_memory

PARSE = """
import sys
from pathlib import Path
from components.orchestration.pipeline_params import section_model
from components.stages.ingest import stage
from components.stages.ingest.sources import list_source
from components.stages.ingest.columns import layout
from components.tasks.base import schema

root = Path(sys.argv[1])
with (root / "rows.csv").open("w", encoding="utf-8") as file:
    file.write("text,label\\n")
    for number in range(50_000):
        file.write(f"{number} {'x' * 4000},{'ab'[number % 2]}\\n")
task = schema("text_classification")
source = {"kind": "files", "path": "rows.csv"}
params = section_model("ingest", "text_classification").model_validate({"source": source})
wanted = layout(task.roles, params.columns, 200_000, task.targets.value_map(params))
(unit,) = list_source(params.source, root, task.targets.words).units
limit(160)
parsed = stage.parse(stage.ParseInput(unit, wanted, "key", root / "state"))
print(parsed.rows.num_rows, parsed.rows.nbytes > 200_000_000, parsed.quarantine.num_rows)
"""


def test_a_file_larger_than_the_memory_is_read(tmp_path: Path) -> None:
    # 200 MB of texts, where the process may have 160 MiB.
    assert limited_memory.output(PARSE, str(tmp_path)) == "50000 True 0\n"
    assert list((tmp_path / "state").iterdir()) == []
