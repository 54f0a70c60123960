"""Source `huggingface`: folders of `datasets`, and datasets of the hub at a commit."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from PIL import Image

from components.core.errors import EnvironmentFault, InputError, ParamsError
from components.core.params import validate
from components.stages.ingest import huggingface_source
from components.stages.ingest.params import HuggingFace, IngestParams
from components.stages.ingest.survey import survey

Ingest = Callable[..., Any]  # the fixture of conftest.py

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FEATURES = datasets.Features(
    {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
)


def rows(split: str, count: int) -> datasets.Dataset:
    """A split with two classes, and one row without a class."""
    labels = [-1, *(number % 2 for number in range(1, count))]
    texts = [f"{split} 评论 {number}" for number in range(count)]
    return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=FEATURES)


@pytest.fixture
def splits() -> datasets.DatasetDict:
    """Three splits."""
    counts = {"train": 5000, "validation": 20, "test": 30}
    return datasets.DatasetDict({name: rows(name, count) for name, count in counts.items()})


def source(path: str = "hf", **more: Any) -> dict[str, Any]:
    """A `huggingface` source."""
    return {"kind": "huggingface", "path": path, **more}


def test_saved_splits_with_the_names_of_classes(
    tmp_path: Path, ingest: Ingest, splits: datasets.DatasetDict
) -> None:
    splits.save_to_disk(tmp_path / "hf", num_shards={"train": 2, "validation": 1, "test": 1})
    # What `Dataset.map` leaves beside the data is no part of it.
    (tmp_path / "hf" / "train" / "cache-0f.arrow").write_bytes(b"of another step")
    result = ingest(source=source())
    assert result.splits == {"train": 5000, "validation": 20, "test": 30}
    assert result.classes == {"neg": 2499 + 9 + 14, "pos": 2500 + 10 + 15}
    assert "the numbers of 'label' are named by the Arrow schema: 0 is 'neg', 1 is 'pos'" in (
        result.notes
    )
    params = IngestParams.model_validate({"source": source()})
    seen = survey(params, tmp_path, {})
    assert (seen.rows, seen.columns) == (5050, {"text": "string", "label": "int64"})


def test_one_saved_split(tmp_path: Path, ingest: Ingest, splits: datasets.DatasetDict) -> None:
    splits["train"].save_to_disk(tmp_path / "hf")
    assert ingest(source=source()).splits == {None: 5000}


def test_a_folder_of_parquet_files(
    tmp_path: Path, ingest: Ingest, splits: datasets.DatasetDict
) -> None:
    folder = tmp_path / "hf" / "data"
    folder.mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    result = ingest(source=source())
    assert result.splits == {"train": 5000, "validation": 20, "test": 30}
    assert set(result.classes) == {"neg", "pos"}


def test_pictures(tmp_path: Path, ingest: Ingest) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, "PNG")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "blue"])}
    )
    pictures = [{"bytes": stream.getvalue(), "path": None}] * 2
    columns = {"image": pictures, "label": [0, 1]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "hf")
    result = ingest(task="pictures", source=source())
    assert result.classes == {"red": 1, "blue": 1}
    assert result.rows[0]["image"] == stream.getvalue()


def test_arrow_files_of_one_s_own(tmp_path: Path, ingest: Ingest) -> None:
    table = pa.table(
        {"text": [f"row {number}" for number in range(9000)], "label": ["a", "b"] * 4500}
    )
    path = tmp_path / "own.feather"
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match=r"-> set ingest.source.format to arrow"):
        ingest(source={"kind": "files", "path": "own.feather"})
    result = ingest(source={"kind": "files", "path": "own.feather", "format": "arrow"})
    assert [row["text"] for row in result.rows] == table["text"].to_pylist()


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "offsets"])
def test_damaged_arrow_files_are_refused(tmp_path: Path, ingest: Ingest, damage: str) -> None:
    table = pa.table({"text": ["good", "bad", "fair"] * 50, "label": ["a", "b", "b"] * 50})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 4, 7, 11))
    assert content.count(offsets) == 1
    broken = {
        "cut": content[:-200],
        "text": b"text,label\n",
        "empty": b"",
        "offsets": content.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f" + offsets[12:]),
    }
    (tmp_path / "own.arrow").write_bytes(broken[damage])
    with pytest.raises(InputError, match=r"own.arrow: is not a readable Arrow file"):
        ingest(source={"kind": "files", "path": "own.arrow", "format": "arrow"})


def test_a_missing_or_hostile_file_of_a_split(
    tmp_path: Path, ingest: Ingest, splits: datasets.DatasetDict
) -> None:
    splits.save_to_disk(tmp_path / "hf")
    file = tmp_path / "hf" / "test" / "data-00000-of-00001.arrow"
    file.rename(tmp_path / "elsewhere.arrow")
    with pytest.raises(InputError, match=r"names 'data-00000-of-00001.arrow', which is not there"):
        ingest(source=source())
    state = file.with_name("state.json")
    hostile = ["../../elsewhere.arrow", "..", "", "a" * 300]
    contents = [json.dumps({"_data_files": [{"filename": name}]}) for name in hostile]
    contents += ['{"_data_files": [{}]}', '{"_data_files": "all"}', "[" * 100_000]
    for content in contents:
        state.write_text(content)
        with pytest.raises(InputError, match=r"state.json: does not name the files"):
            ingest(source=source())


def test_splits_of_an_earlier_save_are_not_read(
    tmp_path: Path, ingest: Ingest, splits: datasets.DatasetDict
) -> None:
    splits.save_to_disk(tmp_path / "hf")
    datasets.DatasetDict({"train": splits["train"]}).save_to_disk(tmp_path / "hf")
    result = ingest(source=source())
    assert len(result.rows) == len(splits["train"])
    (tmp_path / "hf" / "dataset_dict.json").write_text('{"splits": ["../elsewhere"]}')
    with pytest.raises(InputError, match=r"dataset_dict.json: does not name the files"):
        ingest(source=source())


def test_a_folder_without_a_dataset(tmp_path: Path, ingest: Ingest) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "a.csv").write_text("text,label\na,b\n")
    with pytest.raises(InputError, match=r"hf: holds no dataset: no Parquet files"):
        ingest(source=source())


def test_a_dataset_is_prepared_once_as_parquet(
    tmp_path: Path, ingest: Ingest, splits: datasets.DatasetDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "LICENSE").write_text("CC0")
    hub = tmp_path / "hub"
    hub.mkdir()
    for name, split in splits.items():
        split.to_parquet(hub / f"{name}-00000-of-00001.parquet")
    prepare = huggingface_source.prepare
    asked = []

    def local(dataset: str, config: str | None, revision: str | None, folder: Path) -> None:
        asked.append((dataset, config, revision))
        prepare(str(hub), config, None, folder)

    monkeypatch.setattr(huggingface_source, "prepare", local)
    hub_source = source("LICENSE", dataset="owner/reviews", revision=COMMIT)
    for out in ("one", "two"):
        result = ingest(source=hub_source, out=out)
        assert result.splits == {"train": 5000, "validation": 20, "test": 30}
        assert set(result.classes) == {"neg", "pos"}
    assert asked == [("owner/reviews", None, COMMIT)]
    names = {path.suffix for path in (tmp_path / "data/.state/downloads/huggingface").iterdir()}
    assert names == {"", ".lock"}
    with pytest.raises(InputError, match=r"cannot be used: BuilderConfig 'other' not found"):
        ingest(source=hub_source | {"config": "other"}, out="three")


def test_datasets_that_are_not_only_parsed_are_refused(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "scripts.py").write_text("raise SystemExit('this was run')")
    pickles = tmp_path / "pickles"
    pickles.mkdir()
    (pickles / "train.tar").write_bytes(b"")
    for folder, message in [(scripts, "cannot be used"), (pickles, "of the kind 'webdataset'")]:
        with pytest.raises(InputError, match=message):
            huggingface_source.prepare(str(folder), None, None, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_without_a_network(tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    (tmp_path / "LICENSE").write_text("CC0")
    with pytest.raises(EnvironmentFault, match=r"'owner/reviews' cannot be downloaded: ") as error:
        ingest(source=source("LICENSE", dataset="owner/reviews", revision=COMMIT))
    assert error.value.where == "ingest.source.dataset"


def test_without_the_library(
    tmp_path: Path, ingest: Ingest, splits: datasets.DatasetDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits.save_to_disk(tmp_path / "hf")
    (tmp_path / "LICENSE").write_text("CC0")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(ingest(source=source()).rows) == 5050
    with pytest.raises(EnvironmentFault, match=r"pip install .*\[huggingface\]"):
        ingest(source=source("LICENSE", dataset="owner/reviews", revision=COMMIT))


def test_a_folder_of_the_same_name_is_not_taken(
    tmp_path: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "reviews").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'owner/reviews' is a folder here"):
        ingest(source=source("owner", dataset="owner/reviews", revision=COMMIT))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dataset": "owner/reviews"}, "takes dataset and revision together"),
        ({"revision": COMMIT}, "takes dataset and revision together"),
        ({"config": "zh"}, "config needs dataset"),
        ({"dataset": "owner/reviews", "revision": "main"}, "revision"),
        ({"dataset": "../reviews", "revision": COMMIT}, "dataset"),
    ],
)
def test_params_that_are_refused(more: dict[str, str], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        validate(IngestParams, {"source": source(**more)}, "params.yaml")


def test_a_message_names_the_dataset() -> None:
    params = HuggingFace.model_validate(source("LICENSE", dataset="owner/a", revision=COMMIT))
    assert params.place == "owner/a"
