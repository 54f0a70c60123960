"""tokenize: one row in, one row out; what the encoder knows it knows from train."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from stage_runner import IMAGE, StageRunner, pictures, sentences

from components.core.files import sha256
from components.core.tables import MANIFEST, read_table
from components.fields.base import Reject
from components.fields.image import decode
from components.fields.text import Text
from components.stages.tokenize import stage
from components.tasks import base
from components.tasks.base import Arrays, Encoder
from components.tasks.text_classification import encode
from components.tasks.text_classification.encode import ENCODING, TextEncoder, TextTokenize
from components.tasks.text_classification.schema import MASK, TextClean
from components.training.batches import EncodedRows, load_encoder


def fit(texts: list[str], **options: int) -> TextEncoder:
    """An encoder of the texts."""
    batches = iter([pa.record_batch({"text": texts})])
    return ENCODING.fit(
        batches,
        {"classes": ["a", "b"]},
        TextTokenize(**{"vocabulary_size": 500, "min_frequency": 1, "max_length": 16, **options}),
        TextClean(),
    )


def ask(encoder: Encoder, columns: Any) -> Arrays:
    """What a network that pads takes of queries."""
    return encoder.collate(encoder.rows(columns))


def tokens(encoder: TextEncoder, text: str) -> list[str]:
    """The text's pieces by name."""
    names = {value: name for name, value in encoder._tokenizer.get_vocab().items()}
    batch = ask(encoder, {"text": [text]})
    return [names[i] for i in batch["ids"][batch["mask"] == 1].tolist()]


def test_the_frame_is_what_the_tokenizer_puts_around_a_text() -> None:
    from tokenizers import Tokenizer, processors

    encoder = fit(["good food", "bad food."])
    assert encoder.frame() == ([], [])
    tokenizer = Tokenizer.from_str(encoder.files()["tokenizer.json"].decode())
    tokenizer.add_special_tokens(["<s>", "</s>", "<end>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s> <end>",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>", "<end>")],
    )
    framed = TextEncoder(tokenizer.to_str(), json.loads(encoder.files()["encoder.json"]))
    assert framed.frame() == (
        [tokenizer.token_to_id("<s>")],
        [tokenizer.token_to_id("</s>"), tokenizer.token_to_id("<end>")],
    )


@pytest.mark.parametrize("name", ["reviews", "bars"])
def test_one_row_in_one_row_out(name: str, request: pytest.FixtureRequest) -> None:
    runner: StageRunner = request.getfixturevalue(name)
    classes = runner.manifest()["classes"]
    for split in ("train", "validation", "test"):
        before = runner.rows("clean", split) + (
            runner.rows("augmented") if split == "train" else []
        )
        after = runner.rows("tokens", split)
        assert [row["id"] for row in after] == [row["id"] for row in before]
        assert [classes[row["target"]] for row in after] == [row["label"] for row in before]


def test_the_manifest_says_what_later_stages_rely_on(reviews: StageRunner) -> None:
    facts = reviews.manifest("tokens")
    assert facts["data_hash"] == sha256(reviews.root / "clean" / MANIFEST)
    assert facts["encoder"] == {
        name: sha256(reviews.root / "tokens" / "encoder" / name)
        for name in ("encoder.json", "tokenizer.json")
    }
    assert facts["task"] == reviews.task
    profile, train = facts["profile"], reviews.rows("clean", "train")
    assert profile["rows"] == len(train), "what augment added is no training input"
    assert profile["fields"]["text.length"]["below"][-1] == len(train)
    scripts = [Text().profile(row["text"])["script"] for row in train]
    assert profile["fields"]["text.script"]["counts"] == {
        "han": scripts.count("han"),
        "latin": scripts.count("latin"),
    }
    assert profile["fields"]["text.words"]["counts"]["hotel"] == sum(
        "hotel" in row["text"].split() for row in train
    )


def test_many_rows_are_described_by_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_PROFILE_ROWS", 50)
    runner = StageRunner.make(tmp_path, sentences(200)).all()
    profile = runner.manifest("tokens")["profile"]
    assert profile["rows"] == profile["fields"]["text.length"]["below"][-1] == 50
    assert len(runner.rows("tokens", "train")) > 100


def test_a_vocabulary_is_trained_by_a_sample_of_many_texts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encode, "_VOCABULARY_ROWS", 10)
    texts = [f"{chr(0x4E00 + number)}" for number in range(100)]
    known = set(fit(texts)._tokenizer.get_vocab())
    assert sum(text in known for text in texts) == 10


def test_lengths_are_those_of_the_rows(reviews: StageRunner) -> None:
    encoder = load_encoder(reviews.root / "tokens", reviews.task)
    sizes = [
        len(row["ids"])
        for split in ("train", "validation", "test")
        for row in reviews.rows("tokens", split)
    ]
    facts = reviews.manifest("tokens")
    assert facts["lengths"]["max"] == max(sizes) <= 48
    assert facts["lengths"]["mean"] == pytest.approx(np.mean(sizes))
    assert sum(facts["histogram"].values()) == len(sizes)
    assert EncodedRows(reviews.root / "tokens", "test", encoder).lengths.tolist() == [
        len(row["ids"]) for row in reviews.rows("tokens", "test")
    ]


def test_a_title_is_read_before_its_text_and_a_query_as_its_row(tmp_path: Path) -> None:
    # given rows of which some have a title, which is normalized as texts are
    rows = [
        {**row, "title": "  好消息&amp;Good " if i % 2 else None}
        for i, row in enumerate(sentences(120))
    ]
    made = StageRunner.make(tmp_path, rows).all()
    assert {row["title"] for row in made.rows("clean", "train")} == {"", "好消息&Good"}
    encoder, evaluator = load_encoder(tmp_path / "tokens", made.task), base.evaluator(made.task)
    assert isinstance(encoder, TextEncoder)

    # when its case is asked, then the network gets what it was fitted on
    encoded = {row["id"]: row["ids"] for row in made.rows("tokens", "test")}
    for case in evaluator.cases(read_table(tmp_path / "clean", "test")):
        batch = ask(encoder, evaluator.columns([case.query]))
        assert batch["ids"][0][batch["mask"][0] == 1].tolist() == encoded[case.id]
        assert evaluator.show(case).startswith("<b>好消息&amp;Good</b><br>") == bool(
            case.query.title
        )
    titled = next(row for row in made.rows("clean", "test") if row["title"])
    assert encoded[titled["id"]][:3] == ask(encoder, {"text": ["好消息"]})["ids"][0][:3].tolist()


def test_what_stands_only_in_test_is_unknown(tmp_path: Path) -> None:
    rows = [{**row, "split": "test" if i < 20 else "train"} for i, row in enumerate(sentences(120))]
    rows[0]["text"] += "饕餮"
    made = StageRunner.make(tmp_path, rows).all()
    encoder = load_encoder(tmp_path / "tokens", made.task)
    assert isinstance(encoder, TextEncoder)
    assert tokens(encoder, rows[0]["text"])[-2:] == ["[UNK]", "[UNK]"]
    assert "[UNK]" not in tokens(encoder, rows[40]["text"])


def test_pictures_are_scaled_by_train_alone(bars: StageRunner) -> None:
    def pixels(split: str) -> np.ndarray:
        return np.array([decode(row["image"], 1) for row in bars.rows("clean", split)]) / 255

    encoder = load_encoder(bars.root / "tokens", bars.task)

    def scaled(split: str) -> np.ndarray:
        levels = [np.array(row["pixels"], np.uint8) for row in bars.rows("tokens", split)]
        return np.asarray(encoder.collate({"pixels": levels})["pixels"])

    assert scaled("train").mean() == pytest.approx(0, abs=1e-5)
    assert scaled("train").std() == pytest.approx(1, abs=1e-5)
    expected = (pixels("test")[0] - pixels("train").mean()) / pixels("train").std()
    assert scaled("test")[0].ravel() == pytest.approx(expected.ravel(), abs=1e-5)


def test_chinese_by_character_english_by_pieces_case_of_no_account() -> None:
    encoder = fit(
        ["the hotel room was clean", "the hotel was clean", "酒店很干净", "酒店不干净"] * 5
    )
    assert tokens(encoder, "酒店 Hotel很干净") == ["酒", "店", "hotel", "很", "干", "净"]
    assert tokens(encoder, "ＨＯＴＥＬ&lt;br&gt;干") == ["hotel", "干"]  # normalized as in clean
    assert tokens(encoder, "酒💣") == ["酒", "[UNK]"]
    with pytest.raises(Reject):
        ask(encoder, {"text": ["fine", " "]})


def test_the_mark_of_augment_is_one_token() -> None:
    assert tokens(fit(["the hotel was clean", "酒店很干净"] * 5), f"酒{MASK}很 was {MASK}") == [
        "酒",
        MASK,
        "很",
        "was",
        MASK,
    ]


def test_longer_texts_are_cut_and_batches_padded_with_a_mask() -> None:
    encoder = fit(["酒店很干净"] * 3, max_length=4)
    batch = ask(encoder, {"text": ["酒店很干净", "酒"]})
    assert batch["ids"].shape == (2, 4)
    assert batch["mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert (batch["ids"] * (1 - batch["mask"]) == 0).all()
    assert (batch["ids"][batch["mask"] == 1] > 0).all()


@pytest.mark.parametrize(
    ("longest", "tokens_of_text", "width"), [(16, 5, 5), (16, 16, 16), (12, 40, 12)]
)
def test_a_batch_is_as_wide_as_its_longest_row_and_no_row_beyond_the_longest(
    longest: int, tokens_of_text: int, width: int
) -> None:
    assert ask(
        fit(["酒店很干净"] * 3, max_length=longest), {"text": ["酒" * tokens_of_text, "店"]}
    )["ids"].shape == (2, width)


@pytest.mark.parametrize("size", [50, 120])
def test_a_small_vocabulary_keeps_the_frequent_characters(size: int) -> None:
    texts = ["".join(chr(0x4E00 + i) for i in range(k, 300)) for k in range(0, 300, 3)]
    encoder = fit(texts, vocabulary_size=size)
    assert encoder.vocabulary <= size
    assert tokens(encoder, "\u4e00") == ["[UNK]"]
    assert tokens(encoder, chr(0x4E00 + 299)) == [chr(0x4E00 + 299)]


def test_files_bring_the_same_encoder_back() -> None:
    encoder = fit(["the hotel was clean", "酒店很干净"] * 3)
    again = ENCODING.load(encoder.files())
    assert again.files() == encoder.files()
    assert again.targets == encoder.targets
    assert (
        ask(again, {"text": ["酒店 clean"]})["ids"] == ask(encoder, {"text": ["酒店 clean"]})["ids"]
    ).all()


def line_with_rare_characters(root: Path) -> None:
    """The three stages; the vocabulary is too small for all characters, so that ties must be cut."""
    rows = sentences(120) + [
        {
            "text": f"{chr(0x4E00 + 7 * i)}{chr(0x5E00 + 5 * i)} rare characters {chr(0x6E00 + 3 * i)}",
            "label": "好评",
        }
        for i in range(80)
    ]
    StageRunner.make(root, rows, augment={"rate": 0.5}, tokenize={"vocabulary_size": 150}).all()


def test_another_process_with_another_hash_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    code = f"import sys; from pathlib import Path; sys.path += {folders}; from {Path(__file__).stem} import *; line_with_rare_characters(Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "1")],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        check=True,
        timeout=120,
    )
    line_with_rare_characters(tmp_path / "2")

    def digests(root: Path) -> dict[str, str]:
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*"))
            if path.is_file() and ".state" not in path.parts
        }

    first = digests(tmp_path / "1")
    assert len(first) >= 12
    assert first == digests(tmp_path / "2")


def test_pictures_of_another_size_are_asked_like_those_of_train(bars: StageRunner) -> None:
    encoder = load_encoder(bars.root / "tokens", IMAGE)
    image = pictures(1)[0]["image"]
    batch = ask(encoder, {"image": [image, image]})
    assert batch["pixels"].shape == (2, 1, 8, 8)
    assert batch["pixels"].dtype == np.float32
    with pytest.raises(Reject):
        ask(encoder, {"image": [b"nothing"]})


def test_what_is_cut_is_counted_and_printed(tmp_path: Path) -> None:
    runner = StageRunner.make(
        tmp_path, sentences(80), tokenize={"max_length": 6, "vocabulary_size": 800}
    ).all()
    long = StageRunner.make(
        tmp_path / "whole", sentences(80), tokenize={"max_length": 500, "vocabulary_size": 800}
    ).all()
    (entry,) = runner.manifest("tokens")["account"]
    assert long.manifest("tokens")["account"] == []
    rows = []
    for split in ("train", "validation", "test"):
        rows += long.rows("tokens", split)
    source = {row["id"] for row in long.rows("clean")}
    # What augment added is not in clean.
    lengths = [len(row["ids"]) for row in rows if row["id"] in source]
    assert (entry["rows"], entry["of"]) == (sum(length > 6 for length in lengths), 80)
    lost = sum(length - 6 for length in lengths if length > 6)
    assert entry["share_lost"] == pytest.approx(
        lost / sum(length for length in lengths if length > 6), abs=1e-6
    )
    said = (tmp_path / ".state" / "tokenize" / "journal.jsonl").read_text(encoding="utf-8")
    assert "cut at 6 tokens (" in said and entry["message"].endswith(
        "of their tokens lost): tokenize.max_length"
    )
