"""Rows of a file answered by a released model: what is kept, what cannot be answered, and a kill in the middle."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.bundles import Card
from components.core.console import console
from components.core.errors import InputError
from components.inference.predictor import load
from components.orchestration.batch import batch_input, batch_worker
from components.orchestration.batch.batch_predict import predict_file
from components.orchestration.pipeline_params import section_model
from components.registry.release.promotion import release
from components.registry.versions.model_versions import register
from components.tasks import base
from components.training.bundle_writer import save_numpy
from tests.commands.project import Project, reviews

TASK, NAME = "text_classification", "scored"


@pytest.fixture(scope="module")
def released(project: Project) -> Path:
    """The root of a project with a champion; its bundle lies in `bundle`."""
    project.pipeline(NAME, "none.csv", columns={"text": "review"})
    rows = pa.table(
        {
            "text": [text for text, _ in reviews()],
            "title": [""] * len(reviews()),
            "label": [label for _, label in reviews()],
        }
    )
    classical, options = (
        base.baselines(TASK).baselines["classical"],
        section_model("train", TASK).model_validate({}),
    )
    arrays, files = classical.fit(
        rows,
        {"classes": ["neg", "pos"]},
        options,
        section_model("clean", TASK).model_validate({}),
        7,
    )
    card = Card(
        task=TASK,
        runtime="numpy",
        architecture="classical",
        config={},
        targets={"classes": ["neg", "pos"]},
        seed=7,
        data_hash="d" * 64,
        params_hash="p",
        origin=["train"],
    )
    save_numpy(project.root / "bundle", card, arrays, files)
    version = register(project.root, NAME, project.root / "bundle", None, {})
    release(project.root, NAME, version.number, [], mode="auto", who="test", why="first")
    return project.root


def score(
    root: Path, source: Path, out: str = "out.parquet", **more: str
) -> list[dict[str, object]]:
    predict_file(root, NAME, source, source.parent / out, **more)  # type: ignore[arg-type]
    return list(pq.read_table(source.parent / out).to_pylist()) if out.endswith("parquet") else []


def test_rows_keep_their_columns_and_gain_the_models_answers(
    released: Path, tmp_path: Path
) -> None:
    texts = [text for text, _ in reviews(200)]
    table = pa.table(
        {
            "review": texts,
            "label": pa.nulls(200, pa.string()),
            "title": ["fine", None] * 100,
            "stars": pa.array(range(200), pa.int16()),
            "tags": [["a", "b"]] * 200,
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=70)
    with console.capture() as said:
        rows = score(released, tmp_path / "in.parquet")
    assert pq.read_table(tmp_path / "out.parquet").select(table.column_names).equals(table)
    predictor = load(released / "bundle")
    for row, text in zip(rows, texts, strict=True):
        (answer,) = predictor.predict(
            [predictor.evaluator.query({"text": text, "title": row["title"] or ""})]
        )
        assert row["predicted_label"] == answer.label and row[
            "predicted_probabilities_pos"
        ] == pytest.approx(answer.probabilities["pos"], abs=1e-9)
        assert (row["predicted_by"], row["predicted_data_hash"], row["predicted_reason"]) == (
            f"{NAME} version 1",
            "d" * 64,
            None,
        )
    assert said.get().startswith(f"200 rows by {NAME} version 1 in ")
    assert not list((released / "data/.state/predict").iterdir())


def test_rows_that_cannot_be_answered_say_why_and_take_no_other_with_them(
    released: Path, tmp_path: Path
) -> None:
    lines = [
        '{"review": "fine room", "n": 1}',
        "{broken",
        '{"review": null, "n": 2.5}',
        '{"review": "\\ud800"}',
        '{"review": "。。。", "n": "three"}',
        '{"n": 4}',
        '{"review": 5}',
        '{"review": ["a"]}',
        "7",
    ]
    (tmp_path / "in.jsonl").write_text(
        "\n".join([*lines, json.dumps({"review": "长" * 100_001})]), encoding="utf-8"
    )
    with console.capture() as said:
        score(released, tmp_path / "in.jsonl", "out.jsonl")
    rows = [
        json.loads(line)
        for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    wanted = [
        None,
        "malformed_json (line 2)",
        "no_text",
        "broken_unicode",
        "empty",
        "no_text",
        None,
        "not_text",
        "not_an_object (line 9)",
        "too_large",
    ]
    assert [row["predicted_reason"] for row in rows] == wanted
    assert [row["predicted_label"] is None for row in rows] == [
        reason is not None for reason in wanted
    ]
    assert [row["n"] for row in rows[:6]] == [
        "1",
        None,
        "2.5",
        None,
        "three",
        "4",
    ]  # numbers and a word: a column of text
    assert "10 rows (8 without an answer: no_text 2" in said.get()


def test_csv_goes_out_as_csv_with_what_it_held(released: Path, tmp_path: Path) -> None:
    with (tmp_path / "in.csv").open("w", newline="", encoding="gb18030") as stream:
        csv.writer(stream).writerows(
            [["id", "评论"], ["007", "房间,很\n干净"], ["008", ""], ["009", "fine", "one too many"]]
        )
    score(released, tmp_path / "in.csv", "out.csv", column="评论")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["id"], row["评论"], row["predicted_reason"]) for row in rows] == [
        ("007", "房间,很\n干净", ""),
        ("008", "", "no_text"),
        ("", "", "wrong_number_of_fields (line 5)"),
    ]


def test_parts_with_other_columns_become_one_table(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_input, "_ROWS", 2)
    monkeypatch.setattr("components.orchestration.batch.batch_predict._shared", lambda model: model)
    monkeypatch.setattr(
        "components.orchestration.batch.batch_predict.attached",
        lambda *_: __import__("contextlib").nullcontext(),
    )
    lines = [
        {"review": "fine", "a": 1},
        {"review": "fine"},
        {"review": "fine", "a": 1.5, "b": {"x": 1}},
        {"review": None},
        {"review": "fine", "b": "word"},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    rows = score(released, tmp_path / "in.jsonl")
    assert [row["a"] for row in rows] == [1.0, None, 1.5, None, None] and [
        row["b"] for row in rows
    ] == [None, None, '{"x": 1}', None, "word"]
    assert list(rows[0])[:3] == ["review", "a", "b"] and list(rows[0])[-1] == "predicted_reason"


@pytest.mark.parametrize(
    ("file", "text", "more", "told"),
    [
        ("in.csv", "revew\nfine\n", {}, "has no column 'review' (did you mean 'revew'?)"),
        ("in.csv", "review,x,x\nfine,1,2\n", {}, "more than one column named 'x'"),
        (
            "in.csv",
            "review,predicted_label\nfine,1\n",
            {},
            "has a column 'predicted_label' already",
        ),
        ("in.csv", "", {}, "is empty"),
        ("in.parquet", "no parquet", {}, "is not readable Parquet"),
        ("in.txt", "fine", {}, "has none of the suffixes .csv, "),
        ("in.csv", "review\nfine\n", {"version": 9}, "the registry has no 9"),
        ("in.csv", "review\nfine\n", {"out": "in.csv"}, "is the file that is read"),
    ],
)
def test_what_cannot_be_read_is_told_and_leaves_nothing(
    released: Path, tmp_path: Path, file: str, text: str, more: dict[str, str], told: str
) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        score(released, tmp_path / file, **more)
    assert told in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [file] and (tmp_path / file).read_text(
        encoding="utf-8"
    ) == text


def test_a_picture_is_asked_by_its_bytes(tmp_path: Path) -> None:
    column = batch_input.requested_columns(
        base.schema("image_classification").roles, None, {}, 1000
    ).input
    rows = batch_input.Rows(pa.table({"image": pa.array([b"\x89PNG", None])}), [None, None])
    assert (
        batch_input.raw_values(rows, column) == [b"\x89PNG", None]
        and batch_worker.REASON == "predicted_reason"
    )


KILLED = """
import sys
from pathlib import Path
from components.orchestration.batch import batch_input
from components.orchestration.batch.batch_predict import predict_file
batch_input._ROWS = 100
predict_file(Path(sys.argv[1]), "scored", Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_kill_in_the_middle_costs_no_finished_part(
    project: Project, released: Path, tmp_path: Path
) -> None:
    # given a run over Ray that is killed after some parts
    texts = [f"{text} {number}" for number, (text, _) in enumerate(reviews(20_000))]
    pq.write_table(pa.table({"review": texts}), tmp_path / "in.parquet")
    words = [
        sys.executable,
        "-c",
        KILLED,
        str(released),
        str(tmp_path / "in.parquet"),
        str(tmp_path / "out.parquet"),
    ]
    process = subprocess.Popen(words, env=project.env, cwd=released, stdout=subprocess.DEVNULL)
    parts = released / "data/.state/predict"
    while len(list(parts.glob("*/part-*.parquet"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in parts.glob("*/part-*.parquet")}
    assert 3 <= len(done) < 200 and not (tmp_path / "out.parquet").exists()
    assert "(0." in project.gristmill("status").out.split("unfinished data/.state/predict/")[1]
    torn = sorted(done)[1]
    torn.write_bytes(torn.read_bytes()[:200])  # as a disk may leave it
    # when the same command is given again
    told = subprocess.run(
        words, env=project.env, cwd=released, check=True, capture_output=True, text=True
    ).stdout
    # then only what was missing is answered, and the file is the whole
    assert "goes on with what an earlier run has answered" in told
    assert f"20,000 rows, {(len(done) - 1) * 100:,} of them earlier by {NAME}" in told
    assert pq.read_table(tmp_path / "out.parquet")["review"].to_pylist() == texts
    assert pq.read_table(tmp_path / "out.parquet")["predicted_label"].null_count == 0
    assert not list(parts.iterdir())
