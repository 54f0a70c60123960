"""Labels that stand in file names, cat.0.jpg and pos_001.txt, and folders that only say what kind of files they hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from components.stages.ingest.splits import split_of

# A word, then a number behind a separator or directly.
_NUMBERED = re.compile(r"(.*?[^\W\d_].*?)[\s._\-(#]*\d+\)?")
# Words that cameras, scanners and programs put before a number.
_PROGRAM_WORDS = """
    img image images dsc dscn dscf dcim pic picture photo foto screenshot scan file page frame vid video sample
    example item row id no text txt doc document note comment review post mail msg message part data untitled
    图片 照片 文件 文档
"""
_NO_LABELS = frozenset(_PROGRAM_WORDS.split())
_WORDS_OF_EXPORTS = "chunk batch export dump table sheet all output result results"
_NO_CLASS_FILES = frozenset(_WORDS_OF_EXPORTS.split())
_LEAST_SHARE = 0.95
_MOST_LABELS = 1000
_CONTENT_WORDS = (
    "images image imgs img pictures pics photos files texts text txt jpg jpeg png data 图片"
)
_CONTENTS = frozenset(_CONTENT_WORDS.split())
_MASK_WORDS = "mask masks segmentation segmentations annotation annotations annots bboxes"
_MASKS = frozenset(_MASK_WORDS.split())


def name_labels(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the label that each file name says before its number; nothing where the names say no classes.

    They do where nearly all are a word and a number, at least two words come, and each of them comes again.
    """
    labels = {path: label for path in paths if (label := _word(path.stem))}
    counts = Counter(labels.values())
    if not 2 <= len(counts) <= _MOST_LABELS or len(labels) < _LEAST_SHARE * len(paths):
        return {}
    if min(counts.values()) < 2:
        return {}
    words = [label.casefold() for label in counts]
    if any(word in _NO_LABELS or split_of(word) for word in words):
        return {}
    return labels


def is_class_name(stem: str) -> bool:
    """Return whether the name of a file may be that of a class: no split, no number, no word of programs."""
    words = re.split(r"[\s._\-]+", stem.casefold())
    if not stem or any(character.isdigit() for character in stem) or split_of(stem):
        return False
    return (_NO_LABELS | _NO_CLASS_FILES).isdisjoint(words)


def _word(stem: str) -> str | None:
    found = _NUMBERED.fullmatch(stem.strip())
    return found[1].strip(" ._-(#") if found else None


def mask_folders(folders: Collection[PurePosixPath]) -> list[PurePosixPath]:
    """Return the folders of masks that lie beside folders of the pictures themselves: cat/masks beside cat/images."""
    contents = {folder.parent for folder in folders if folder.name.casefold() in _CONTENTS}
    return sorted(
        folder
        for folder in folders
        if folder.name.casefold() in _MASKS and folder.parent in contents
    )


def without_contents(folders: Collection[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """Return each folder's place without a last part such as `images`, where all folders end so."""
    if not all(len(folder.parts) > 1 and folder.name.casefold() in _CONTENTS for folder in folders):
        return {folder: folder for folder in folders}
    return {folder: folder.parent for folder in folders}
