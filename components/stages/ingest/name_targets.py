"""Targets in file names such as cat.0.jpg, and folders named after the kind of their files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from components.stages.ingest.split_names import split_of

# A word, then a number behind a separator or directly.
_NUMBERED = re.compile(r"(.*?[^\W\d_].*?)[\s._\-(#]*\d+\)?")
# Words that cameras, scanners and programs put before a number.
_PROGRAM_WORDS = """
    img image images dsc dscn dscf dcim pic picture photo foto screenshot scan file page frame vid
    video sample example item row id no text txt doc document note comment review post mail msg
    message part data untitled
    图片 照片 文件 文档
"""
_NO_TARGETS = frozenset(_PROGRAM_WORDS.split())
_WORDS_OF_EXPORTS = "chunk batch export dump table sheet all output result results"
_NO_TARGET_FILES = frozenset(_WORDS_OF_EXPORTS.split())
_LEAST_SHARE = 0.95
_MOST_TARGETS = 1000
_CONTENT_WORDS = (
    "images image imgs img pictures pics photos files texts text txt jpg jpeg png data 图片"
)
_CONTENTS = frozenset(_CONTENT_WORDS.split())
_MASK_WORDS = "mask masks segmentation segmentations annotation annotations annots bboxes"
_MASKS = frozenset(_MASK_WORDS.split())


def targets_in_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the target that each file name says before its number; empty where they say none.

    The names say targets where nearly all are a word and a number, there are at least two words,
    and each word comes more than once.
    """
    targets: dict[Path, str] = {}
    for path in paths:
        word = _word(path.stem)
        if word:
            targets[path] = word
    counts = Counter(targets.values())
    if not 2 <= len(counts) <= _MOST_TARGETS or len(targets) < _LEAST_SHARE * len(paths):
        return {}
    if min(counts.values()) < 2:
        return {}
    words = [target.casefold() for target in counts]
    if any(word in _NO_TARGETS or split_of(word) for word in words):
        return {}
    return targets


def is_target_name(stem: str) -> bool:
    """Return whether the name of a file may be a value of the target.

    A split, a number and a word of programs are none.
    """
    words = re.split(r"[\s._\-]+", stem.casefold())
    if not stem or any(character.isdigit() for character in stem) or split_of(stem):
        return False
    return (_NO_TARGETS | _NO_TARGET_FILES).isdisjoint(words)


def _word(stem: str) -> str | None:
    """Return the word before the number of a file name; None of other names."""
    match = _NUMBERED.fullmatch(stem.strip())
    return match[1].strip(" ._-(#") if match else None


def mask_folders(folders: Collection[PurePosixPath]) -> list[PurePosixPath]:
    """Return the folders of masks that lie beside folders of pictures.

    An example is cat/masks beside cat/images.
    """
    contents = {folder.parent for folder in folders if folder.name.casefold() in _CONTENTS}
    return sorted(
        folder
        for folder in folders
        if folder.name.casefold() in _MASKS and folder.parent in contents
    )


def without_contents(folders: Collection[PurePosixPath]) -> dict[PurePosixPath, PurePosixPath]:
    """Return each folder's path without a last part such as `images`, where all folders end so."""
    if not all(len(folder.parts) > 1 and folder.name.casefold() in _CONTENTS for folder in folders):
        return {folder: folder for folder in folders}
    return {folder: folder.parent for folder in folders}
