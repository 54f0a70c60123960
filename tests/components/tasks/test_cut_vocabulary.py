"""A cut vocabulary: train texts keep their tokens and the network its answers, and other texts stay readable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stage_runner import StageRunner
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from components.core.errors import InputError
from components.core.pretrained_files import files_of
from components.tasks.shared.encode.text.cut_vocabulary import write_cut

PIECES = {"<s>": 0, "<pad>": 0, "</s>": 0, "<unk>": 0, "▁": -3, "天": -5, "气": -5.5, "天气": -7}
PIECES |= {"好": -6, "很好": -8, "▁go": -4, "od": -4.5, "▁good": -7.5, "g": -9, "o": -9, "d": -20}


def unigram(folder: Path, positions: int = 16) -> Path:
    """A tiny BERT with the tokenizer of XLM-RoBERTa, in a folder."""
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer(
        models.Unigram([(piece, float(s)) for piece, s in PIECES.items()], 3, False)
    )
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size() + 2,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=positions,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tokens_of(folder: Path, text: str) -> list[str]:
    """The names of the tokens of a text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [str(tokenizer.id_to_token(number)) for number in tokenizer.encode(text).ids]


def states(folder: Path, text: str) -> Any:
    """The last layer of the encoder of a folder (tokens, width)."""
    from transformers import AutoModel

    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0]


def test_a_unigram_vocabulary_keeps_what_texts_need(tmp_path: Path) -> None:
    whole = unigram(tmp_path / "whole")
    texts = ["天气好", "good"]
    files = write_cut(files_of(str(whole), tmp_path), texts, tmp_path / "cut")
    assert sorted(files) == ["config.json", "model.safetensors", "tokenizer.json"]
    for text in texts:
        assert tokens_of(tmp_path / "cut", text) == tokens_of(whole, text)
        assert torch.equal(states(tmp_path / "cut", text), states(whole, text))
    tokenizer = Tokenizer.from_file(str(tmp_path / "cut" / "tokenizer.json"))
    gone = set(PIECES) - set(tokenizer.get_vocab())
    assert gone == {"很好", "▁go", "od"}
    assert len(load_file(files["model.safetensors"])["embeddings.word_embeddings.weight"]) == 14
    # Another text is divided into smaller pieces, and has the unknown ones that it had.
    assert tokens_of(whole, "很好 go") == ["<s>", "▁", "很好", "▁go", "</s>"]
    assert tokens_of(tmp_path / "cut", "很好 go") == [
        "<s>",
        "▁",
        "<unk>",
        "好",
        "▁",
        "g",
        "o",
        "</s>",
    ]


def test_ids_in_the_config_follow(tmp_path: Path) -> None:
    whole = unigram(tmp_path / "whole")
    path = whole / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"mask_token_id": 16}))
    files = write_cut(files_of(str(whole), tmp_path), ["好"], tmp_path / "cut")
    cut = json.loads(files["config.json"].read_text())
    assert (cut["pad_token_id"], cut["mask_token_id"]) == (1, 11)
    tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
    assert tokenizer.token_to_id("<mask>") == 11


def test_the_params_cut_the_encoder_of_a_pipeline(borrowed: StageRunner, tmp_path: Path) -> None:
    """Train and other rows have the tokens that they had, and the network starts with the same outputs."""
    root = tmp_path / "project"
    for name in ("bert", "raw", "clean", "augmented"):
        shutil.copytree(borrowed.root / name, root / name)
    section = borrowed.sections["tokenize"].model_copy(update={"pretrained_vocabulary": "used"})
    runner = StageRunner(root, borrowed.task, {**borrowed.sections, "tokenize": section})
    runner.tokenize()
    for split in ("train", "validation"):
        for before, after in zip(
            borrowed.rows("tokens", split), runner.rows("tokens", split), strict=True
        ):
            assert len(before["ids"]) == len(after["ids"])
    names = {}
    for place in (borrowed.root, root):
        tokenizer = Tokenizer.from_file(str(place / "tokens" / "encoder" / "tokenizer.json"))
        rows = StageRunner(place, borrowed.task, borrowed.sections).rows("tokens", "train")
        names[place] = [[tokenizer.id_to_token(number) for number in row["ids"]] for row in rows]
    assert names[borrowed.root] == names[root]
    whole = load_file(borrowed.root / "tokens" / "pretrained" / "model.safetensors")
    cut = load_file(root / "tokens" / "pretrained" / "model.safetensors")
    assert len(cut["embeddings.word_embeddings.weight"]) < len(
        whole["embeddings.word_embeddings.weight"]
    )
    tokenizer = Tokenizer.from_file(str(root / "tokens" / "encoder" / "tokenizer.json"))
    before = Tokenizer.from_file(str(borrowed.root / "tokens" / "encoder" / "tokenizer.json"))
    for token, number in tokenizer.get_vocab().items():
        row = cut["embeddings.word_embeddings.weight"][number]
        assert np.array_equal(
            row, whole["embeddings.word_embeddings.weight"][before.get_vocab()[token]]
        )


@pytest.mark.parametrize("change", ["bpe", "names", "rows"])
def test_an_encoder_of_another_kind_is_refused(change: str, tmp_path: Path) -> None:
    whole = unigram(tmp_path / "whole")
    path = whole / "model.safetensors"
    weights = load_file(path)
    words = weights.pop("embeddings.word_embeddings.weight")
    message = "has 0 weights named word_embeddings.weight"
    if change == "bpe":
        (whole / "tokenizer.json").write_text(Tokenizer(models.BPE()).to_str())
        message = "the model BPE of the tokenizer cannot be cut"
    elif change == "names":
        save_file({**weights, "tokens": words}, path)
    else:
        config = json.loads((whole / "config.json").read_text())
        (whole / "config.json").write_text(json.dumps(config | {"vocab_size": 9}))
        message = "has token 16, and the encoder has 9 embeddings"
    with pytest.raises(InputError) as caught:
        write_cut(files_of(str(whole), tmp_path), ["好"], tmp_path / "cut")
    assert message in caught.value.what
