"""Where `gristmill predict --out` may write."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.errors import InputError
from components.orchestration.batch.batch_output import column_names
from components.orchestration.batch.batch_predict import _check_out

ANSWERS = {
    "csv": '"text","predicted_by"\n"a","default version 1"\n',
    "tsv": "text\tpredicted_by\na\tdefault version 1\n",
    "jsonl": '{"text": "a", "predicted_by": "default version 1"}\n',
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_may_be_written_over_and_other_files_not(tmp_path: Path, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    _check_out(tmp_path, "default", out, kind, False)  # type: ignore[arg-type]
    out.write_text(ANSWERS[kind])
    _check_out(tmp_path, "default", out, kind, False)  # type: ignore[arg-type]
    for text in (ANSWERS[kind].replace("predicted_by", "by"), "", "\x00\xff", "[1]\n"):
        out.write_text(text)
        with pytest.raises(InputError, match="holds no answers"):
            _check_out(tmp_path, "default", out, kind, False)  # type: ignore[arg-type]
    _check_out(tmp_path, "default", out, kind, True)  # type: ignore[arg-type]


def test_of_parquet_the_schema_is_read(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    pq.write_table(pa.table({"text": ["a"], "predicted_by": ["x"]}), out)
    assert column_names(out, "parquet") == {"text", "predicted_by"}
    out.write_bytes(b"PAR1")
    assert column_names(out, "parquet") == set()


def test_not_where_a_run_deletes_and_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lies in data/raw"):
        _check_out(tmp_path, "default", tmp_path / "data" / "raw" / "out.csv", "csv", True)
    with pytest.raises(InputError, match="is a folder"):
        _check_out(tmp_path, "default", tmp_path, "csv", True)
