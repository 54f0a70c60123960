"""What tests of `gristmill new` share: a checkout, and texts that are not alike."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.structure.import_graph import ROOT

WORDS = [
    "river",
    "mountain",
    "apple",
    "engine",
    "yellow",
    "market",
    "winter",
    "paper",
    "signal",
    "garden",
    "music",
    "letter",
]


def make_checkout(folder: Path) -> Path:
    """Copy the files that new reads, and return the root."""
    root = folder / "repo"
    for name in ("params.yaml", "dvc.yaml", "pipelines/digits/params.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    return root


def sentence(number: int) -> str:
    """Return a text that is like no other."""
    return " ".join(random.Random(number).choices(WORDS, k=12))
