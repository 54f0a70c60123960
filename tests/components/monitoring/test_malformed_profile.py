"""A card's profile that no training rows gave is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from components.core.errors import BundleError
from components.monitoring.profile import profiler_of

TASK = "text_classification"
WORDS = {"kind": "words", "rows": 1, "counts": {}}
FIELDS = {"fields": {"text.words": WORDS}, "clean": {}}


@pytest.mark.parametrize(
    "profile",
    [
        {"fields": {"text.length": 5}},
        {"fields": {"text.length": 5}, "clean": 3},
        {"fields": {"text.length": 5}, "clean": {"max_characters": "x"}},
        FIELDS | {"known": ["AAAA"]},
        FIELDS | {"known": {"text": 5}},
        FIELDS | {"known": {"text": "A"}},
        {"fields": {}, "known": {"text": "AAAA"}},
        FIELDS | {"rarity": {"text": {}}},
        FIELDS | {"rarity": {"text": {"step": "x", "steps": "////"}}},
        FIELDS | {"spaces": {"text": {"axes": 3}}},
        FIELDS | {"spaces": [1]},
    ],
    ids=str,
)
def test_it_is_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="profile of the training rows"):
        profiler_of(TASK, profile)


def test_none_at_all_gives_no_facts() -> None:
    assert profiler_of(TASK, {}).facts({"text": "酒店很好"}) == {}
