"""`clean.private`: masked before deduplication, and served alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_runner import StageRunner, sentences

from components.core.tables import read_table
from components.fields.privacy import KEY_VARIABLE, fingerprint, key_of
from components.orchestration.pipeline_params import section_model
from components.tasks import base

TASK = "text_classification"
KEY = "0123456789abcdef" * 2


def rows() -> list[dict[str, object]]:
    """120 rows, two that differ in a phone number alone, and one that is too short."""
    rows: list[dict[str, object]] = list(sentences(120))
    rows += [
        {"text": f"请打这个电话：{number}，谢谢你们帮忙", "label": "好评"}
        for number in ("13812345678", "13912345678")
    ]
    return [*rows, {"text": "打13712345678再说这没有标签的一行", "label": None}]


def test_ignore_leaves_the_manifest_as_it_was(tmp_path: Path) -> None:
    before = StageRunner.make(tmp_path / "a", rows()).clean().manifest()
    assert "private" not in json.dumps(before)


def test_mask_merges_rows_that_differ_in_a_number_alone(tmp_path: Path) -> None:
    runner = StageRunner.make(tmp_path, rows(), clean={"private": "mask"}).clean()
    texts = [row["text"] for row in runner.rows("clean")]
    assert "请打这个电话:<phone>,谢谢你们帮忙" in texts
    books = runner.manifest()["books"]
    assert books["deduplicated"] == 1 and books["filtered"] == 0
    account = {entry["what"]: entry["rows"] for entry in runner.manifest()["account"]}
    assert account["text_private_phone"] == 2
    _check_no_number(runner)


def test_drop_filters_rows_and_the_books_balance(tmp_path: Path) -> None:
    runner = StageRunner.make(tmp_path, rows(), clean={"private": "drop"}).clean()
    books = runner.manifest()["books"]
    assert books["filtered"] == 3 and runner.manifest()["reasons"]["personal_data"] == 3
    _check_no_number(runner)
    # What else such a text says is not for the log either.
    (entry,) = [one for one in runner.manifest()["account"] if one["what"] == "personal_data"]
    assert "filtered as personal_data (made.csv:" in entry["message"]


def _check_no_number(runner: StageRunner) -> None:
    """Check that neither the rows, nor the quarantine, nor the journal has a phone number."""
    root = runner.root
    quarantine = read_table(root / "clean" / "quarantine").to_pylist()
    assert any("<phone>" in row["excerpt"] for row in quarantine)
    journal = (root / ".state" / "clean" / "journal.jsonl").read_text(encoding="utf-8")
    shown = json.dumps([runner.rows("clean"), runner.rows("audit"), quarantine]) + journal
    assert "12345678" not in shown


@pytest.mark.parametrize("mode", ["mask", "hash"])
def test_the_service_sees_what_training_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    key_of.cache_clear()
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    values = {"private": mode}
    if mode == "hash":
        values["private_key"] = fingerprint(KEY)
    runner = StageRunner.make(tmp_path, rows(), clean=values).clean()
    clean = section_model("clean", TASK).model_validate(values)
    tokenize = section_model("tokenize", TASK).model_validate({})
    table = read_table(runner.root / "clean", "train")
    encoding = base.encoding(TASK)
    encoder = encoding.fit(iter(table.to_batches()), {"classes": ["好评", "差评"]}, tokenize, clean)
    loaded = encoding.load(encoder.files())
    raw = ["请打这个电话：１３８-1234-5678，谢谢你们帮忙"]
    cleaned = [clean_text(text, clean) for text in raw]
    assert "1234" not in cleaned[0]
    served = loaded.rows({"text": raw})["ids"][0]
    trained = loaded.rows({"text": cleaned})["ids"][0]
    assert served.tolist() == trained.tolist()
    if mode == "hash":
        key_of.cache_clear()
        monkeypatch.delenv(KEY_VARIABLE)
        with pytest.raises(Exception, match=KEY_VARIABLE):
            encoding.load(encoder.files())


def clean_text(text: str, clean: object) -> str:
    """Return a text as clean writes it."""
    fields = base.schema(TASK).fields(clean)  # type: ignore[arg-type]
    return str(fields["text"].clean(text))


def test_hash_without_a_fingerprint_says_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    model = section_model("clean", TASK)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=f"set {KEY_VARIABLE}"):
        model.model_validate({"private": "hash"})
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with pytest.raises(ValueError, match=f"write {fingerprint(KEY)}"):
        model.model_validate({"private": "hash"})
