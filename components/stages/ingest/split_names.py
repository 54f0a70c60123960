"""Names that say a split: train, val.txt, seg_test, 训练集."""

from __future__ import annotations

import re

SPLITS = ("train", "validation", "test")
CANONICAL = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "validation": "validation",
    "validate": "validation",
    "validating": "validation",
    "valid": "validation",
    "val": "validation",
    "vali": "validation",
    "dev": "validation",
    "devel": "validation",
    "development": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "训练": "train",
    "训练集": "train",
    "验证": "validation",
    "验证集": "validation",
    "开发集": "validation",
    "测试": "test",
    "测试集": "test",
}
# Folders whose files have no target, beside those of values.
UNLABELLED = frozenset(
    {"unsup", "unsupervised", "unlabelled", "unlabeled", "nolabel", "无标签", "未标注"}
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")
_SET = re.compile(r"(set|data|ing)$")


def split_of(name: str) -> str | None:
    """Return the canonical split that a name says as one of its words; None for none, and for
    two.
    """
    folded = name.strip().casefold()
    if folded in CANONICAL:
        return CANONICAL[folded]
    splits = {
        CANONICAL[word] for word in map(_plain_word, _WORDS.findall(name)) if word in CANONICAL
    }
    return splits.pop() if len(splits) == 1 else None


def without_split(name: str) -> str:
    """Return what a name says beside a split, for a person."""
    parts = [
        word
        for word in re.split(r"[-_.\s]+", name)
        if word and split_of(word) is None and word.casefold() not in ("set", "data")
    ]
    return "_".join(parts)


def _plain_word(word: str) -> str:
    """Return a word in small letters, without an ending such as `set`."""
    folded = word.casefold()
    if folded in CANONICAL:
        return folded
    shorter = _SET.sub("", folded)
    return shorter if shorter in CANONICAL else folded
