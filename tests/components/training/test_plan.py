"""Which rows make a batch."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import limited_memory
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_runner import StageRunner

from components.training import batches
from components.training.batches import EncodedRows, in_order, load_encoder, plan


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=700),
    st.integers(1, 64),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_every_row_once_in_batches_of_like_size(
    lengths: list[int], size: int, seed: int, epoch: int
) -> None:
    batches = plan(np.array(lengths), size, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    again = plan(np.array(lengths), size, seed, epoch)
    assert all((one == two).all() for one, two in zip(batches, again, strict=True))


@pytest.mark.parametrize("other", [(1, 1), (2, 0)])
def test_epochs_and_seeds_differ(other: tuple[int, int]) -> None:
    lengths = np.full(100, 7)
    first, second = plan(lengths, 10, 1, 0), plan(lengths, 10, *other)
    assert [sorted(batch.tolist()) for batch in first] != [
        sorted(batch.tolist()) for batch in second
    ]


def test_rows_of_like_length_are_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    batches = plan(lengths, 32, 0, 0)
    useful = lengths.sum() / sum(lengths[batch].max() * len(batch) for batch in batches)
    assert useful > 0.9
    means = [lengths[batch].mean() for batch in batches]
    assert means[:20] != sorted(means[:20])  # and yet long and short come mixed


def test_validation_takes_every_row_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 9, 100)
    batches = in_order(lengths, 30)
    assert sorted(np.concatenate(batches).tolist()) == list(range(100))
    assert [len(batch) for batch in batches] == [30, 30, 30, 10]


def test_rows_are_sliced_out_of_tokens_as_they_stand_there(reviews: StageRunner) -> None:
    rows = EncodedRows(
        reviews.root / "tokens", "train", load_encoder(reviews.root / "tokens", reviews.task)
    )
    stored = reviews.rows("tokens", "train")
    batch = rows.batch([5, 0, 200])
    for i, row in enumerate((5, 0, 200)):
        assert batch["ids"][i][batch["mask"][i] == 1].tolist() == stored[row]["ids"]
        assert batch["target"][i] == stored[row]["target"]


TOKENS = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from components.core.tables import TableWriter
from components.training.batches import EncodedRows

class Encoder:
    def lengths(self, rows):
        return np.full(rows.num_rows, 1000)
    def collate(self, columns):
        return {name: np.stack(values) for name, values in columns.items()}

folder = Path(sys.argv[1]) / "tokens"
writer = TableWriter(folder)
for part in range(25):
    flat = pa.array(np.arange(part * 4_000_000, (part + 1) * 4_000_000, dtype=np.int32))
    ids = pa.ListArray.from_arrays(pa.array(np.arange(0, 4_000_001, 1000, dtype=np.int32)), flat)
    targets = pa.array(np.arange(part * 4000, (part + 1) * 4000))
    writer.write("train", pa.table({"ids": ids, "target": targets}))
writer.close()
limit(256)
rows = EncodedRows(folder, "train", Encoder())
batch = rows.batch(np.arange(0, 100_000, 1000))
assert (batch["ids"] == batch["target"][:, None] * 1000 + np.arange(1000)).all()
print(len(rows))
"""


def test_a_worker_reads_more_tokens_than_it_may_have_memory(tmp_path: Path) -> None:
    # 400 MB of token ids, where the process may have 256 MiB.
    assert limited_memory.output(TOKENS, str(tmp_path)) == "100000\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_a_full_disk_loses_no_token(tmp_path: Path) -> None:
    column = batches._FlatColumn(tmp_path, pa.int32())
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
    try:
        column.add(pa.array([[1, 2, 3]] * 20, pa.list_(pa.int32())))
        with pytest.raises(OSError, match="File too large"):
            column.mapped()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    values, offsets = column.mapped()
    assert values.tolist() == [1, 2, 3] * 20 and offsets.tolist() == list(range(0, 61, 3))
