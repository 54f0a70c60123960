"""A card's profile that no training rows gave is refused in a sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from label_answers import accuracy_test, validation_profile

from components.core.errors import BundleError
from components.monitoring.drift import drift_results
from components.monitoring.profile import profile_of
from components.monitoring.profile_schema import KINDS, profiler_of
from components.tasks.base import schema

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
    assert profiler_of(TASK, {}).features({"text": "酒店很好"}) == {}


LABELS = ["neg", "pos"]
TEXTS = [f"room {n} was {'lovely' if n % 2 else 'noisy'} 酒店{n % 7}" for n in range(120)]
VALUES = [
    None,
    True,
    -1,
    0,
    7,
    0.5,
    float("nan"),
    float("inf"),
    1e308,
    10**30,
    "x",
    [],
    {},
    [[[]]],
    [1] * 5000,
    {"kind": "numbers"},
    {"kind": "cloud", "rows": 3, "mean": [0.0], "covariance": [[0.0]]},
]


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    """A profile as stages write it, as it stands in a file."""
    clean = schema(TASK).options["clean"].model_validate({})
    fields = schema(TASK).fields(clean)
    columns = {"text": TEXTS, "title": [""] * len(TEXTS)}
    profile = profile_of(columns, fields, clean.model_dump(mode="json"))
    answers = [LABELS[n % 2] for n in range(40)]
    profile["predictions"] = validation_profile(answers, [0.9] * 40, [True] * 40)
    return dict(json.loads(json.dumps(profile)))


def window() -> dict[str, list[Any]]:
    """Answers of a service, of which the profile makes facts."""
    return {
        "prediction": ["pos"] * 50,
        "prediction.label": ["pos"] * 50,
        "prediction.probability": [0.8] * 50,
        "time": [float(n) for n in range(50)],
    }


def look(profile: dict[str, Any]) -> None:
    """Do what a service and `gristmill monitor` do with a profile."""
    profiler = profiler_of(TASK, profile)
    rows = [profiler.features({"text": text, "title": ""}) for text in TEXTS[:50]]
    names = {name for row in rows for name in row}
    columns = {name: [row[name] for row in rows if name in row] for name in names}
    drift_results(profile, window() | columns, 0.01, accuracy_test(profile, 30, 50))


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a tree are; of long lists and mappings the first and the last."""
    yield path
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    if isinstance(value, list):
        keys = list(range(len(value)))
    if len(keys) > 12:
        keys = [keys[0], keys[-1]]
    for key in keys:
        yield from paths(value[key], (*path, key))


def altered(profile: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at a path; without it where the value is `...`."""
    tree = copy.deepcopy(profile)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return tree


def test_a_good_one_is_read(good: dict[str, Any]) -> None:
    look(good)
    facts = {name.rpartition(".")[2]: field["kind"] for name, field in good["fields"].items()}
    assert {"length", "script", "words", "rarity", "unknown", "embedding"} == set(facts)
    assert {fact: KINDS[fact] for fact in facts} == facts


def test_any_other_value_is_refused_or_does_no_harm(good: dict[str, Any]) -> None:
    refused = 0
    for path in list(paths(good))[1:]:
        if "clean" in path:
            continue
        for value in (..., *VALUES):
            try:
                look(altered(good, path, value))
            except BundleError as error:
                refused += 1
                assert error.where == "bundle.json"
                assert "profile of the training rows" in error.what
                assert len(str(error)) < 600
    assert refused > 1000


LENGTH = ("fields", "text.length")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ((*LENGTH, "rows"), -3, "rows"),
        ((*LENGTH, "rows"), 0, "rows"),
        ((*LENGTH, "below"), [1], "different lengths"),
        ((*LENGTH, "edges", 0), float("nan"), "edges.0"),
        ((*LENGTH, "edges", 0), 1e17, "ascend"),
        ((*LENGTH, "edges"), [0.0] * 100_000, "edges"),
        ((*LENGTH, "kind"), "picture", "fields.text.length"),
        (("fields", "text.script", "counts"), {"han": -1}, "counts.han"),
        (("fields", "text.script", "counts"), {"han": 10**6}, "more than there are rows"),
        (("fields", "text.words", "counts"), {"room": 121}, "more rows than there are"),
        (("fields", "text.embedding", "mean"), [0.0], "different sizes"),
        (("fields", "text.embedding", "covariance"), [[0.0]] * 4, "different sizes"),
        (("fields", "text.length"), {"kind": "names", "rows": 1, "counts": {}}, "not numbers"),
        (("fields", "time"), {"kind": "names", "rows": 1, "counts": {}}, "no feature of a column"),
        (("spaces", "text", "size"), 3, "differ in size"),
        (("known", "text"), "AAAA", "out of bounds"),
        (("rarity", "text", "steps"), "AAAA", "out of bounds"),
        (("predictions", "right"), 41, "more answers are right"),
        (("predictions", "rows"), 0, "rows"),
        (("predictions", "fields", "prediction.label", "kind"), "words", "not names"),
        (("predictions",), None, "valid dictionary"),
    ],
    ids=str,
)
def test_the_reason_is_given(
    good: dict[str, Any], path: tuple[Any, ...], value: Any, reason: str
) -> None:
    with pytest.raises(BundleError, match=reason):
        profiler_of(TASK, altered(good, path, value))
