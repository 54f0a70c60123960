"""Equal and similar rows: which go, which stay together."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from components.fields.text import Text
from components.stages.clean import duplicates
from components.stages.clean.duplicates import (
    OWN_SPLITS,
    CandidatePairs,
    UnionFind,
    lsh_pairs,
    reasons,
    resolve_duplicates,
)

NONE = [None] * 9


def settled(
    keys: Sequence[str], labels: Sequence[str], splits: Sequence[str | None], conflicts: str
) -> dict[int, str]:
    """Row -> why it goes; `resolve_duplicates` takes and gives numbers."""
    numbers = [np.unique(list(words), return_inverse=True)[1] for words in (keys, labels)]
    dedup_status = resolve_duplicates(
        *numbers, np.array([OWN_SPLITS.index(split or "") for split in splits]), conflicts
    )
    names = reasons("conflicting_labels")
    return {row: names[fate] for row, fate in enumerate(dedup_status) if fate}


def test_of_equal_rows_the_first_stays() -> None:
    assert settled(["a", "b", "a", "a"], ["x"] * 4, NONE[:4], "drop") == {
        2: "duplicate",
        3: "duplicate",
    }


@pytest.mark.parametrize("conflicts", ["drop", "majority", "keep"])
def test_a_target_that_a_person_accepted_outranks_the_source(conflicts: str) -> None:
    targets = np.array([0, 0, 1, 0, 1])
    accepted = np.array([False, False, True, False, False])
    keys = np.zeros(5, np.int64)
    status = resolve_duplicates(keys, targets, keys, conflicts, accepted)
    gone = "conflicting_labels"
    assert [reasons(gone)[fate] for fate in status] == [gone, gone, "", gone, "duplicate"]


@pytest.mark.parametrize(
    ("labels", "conflicts", "gone"),
    [
        (
            "xxy",
            "drop",
            {0: "conflicting_labels", 1: "conflicting_labels", 2: "conflicting_labels"},
        ),
        ("xxy", "majority", {1: "duplicate", 2: "conflicting_labels"}),
        ("yxx", "majority", {0: "conflicting_labels", 2: "duplicate"}),
        ("xxyy", "majority", dict.fromkeys(range(4), "conflicting_labels")),  # a tie
        ("xyz", "majority", dict.fromkeys(range(3), "conflicting_labels")),
        ("xxyyz", "majority", dict.fromkeys(range(5), "conflicting_labels")),
        ("yxxzy", "keep", {2: "duplicate", 4: "duplicate"}),  # the first of each target stays
        ("yxxzy", "keep_all", {}),
    ],
)
def test_conflicting_labels(labels: str, conflicts: str, gone: dict[int, str]) -> None:
    assert settled(["k"] * len(labels), list(labels), NONE[: len(labels)], conflicts) == gone


def test_evaluation_rows_of_the_source_stay_whatever_train_says() -> None:
    splits = ["train", "test", None, "validation", "test"]
    assert settled(["k"] * 5, list("xyxyx"), splits, "drop") == {
        0: "duplicate",
        2: "duplicate",
        3: "duplicate",
    }
    assert settled(["k"] * 3, list("xyy"), ["train", "validation", "validation"], "majority") == {
        0: "duplicate"
    }
    assert settled(["k"] * 3, list("xyy"), ["train", "test", "test"], "keep") == {0: "duplicate"}
    assert settled(["k"] * 3, list("xyy"), ["train", "test", "test"], "keep_all") == {
        0: "duplicate"
    }
    assert settled(list("aab"), list("xyy"), ["train", "train", "test"], "keep_all") == {}


def test_a_text_that_half_the_source_holds_is_settled_in_time() -> None:
    start = time.process_time()
    gone = settled(
        ["k"] * 40_000, ["xy"[i % 3 == 0] for i in range(40_000)], [None] * 40_000, "majority"
    )
    assert len(gone) == 39_999
    assert time.process_time() - start < 2


def test_a_cluster_is_called_after_its_smallest_row() -> None:
    clusters = UnionFind(6)
    clusters.join(5, 3)
    clusters.join(3, 4)
    clusters.join(4, 1)
    assert [clusters.find(row) for row in range(6)] == [0, 1, 2, 1, 1, 1]


class Comparison:
    """Compares texts, and keeps what was compared and what was asked for."""

    def __init__(self, texts: list[str], threshold: float) -> None:
        self.texts, self.threshold = texts, threshold
        self.results: dict[tuple[int, int], bool] = {}
        self.asked: set[tuple[int, int]] = set()

    def compare(self, column: str, pairs: Sequence[tuple[int, int]]) -> None:
        assert pairs
        similar = Text().similarities(self.texts, pairs) >= self.threshold
        self.results |= dict(zip(pairs, similar.tolist(), strict=True))

    def is_similar(self, column: str, one: int, other: int) -> bool | None:
        self.asked.add((one, other))
        return self.results.get((one, other))


def similar(texts: list[str], threshold: float) -> tuple[list[int], int]:
    """Cluster of each text and the number of confirmed pairs."""
    field, clusters = Text(), UnionFind(len(texts))
    bands = np.asarray(field.lsh_bands(texts))
    pairs = lsh_pairs(
        {"text": (np.arange(len(texts)), bands.T)},
        Comparison(texts, threshold),
        clusters,
    )
    return clusters.roots().tolist(), pairs


def test_similar_texts_are_joined_and_others_are_not() -> None:
    rng = np.random.default_rng(2)
    originals = ["".join(rng.choice(list("abcdefghijklmnop"), 80)) for _ in range(30)]
    found, pairs = similar(originals + [text[:-1] + "z" for text in originals], 0.8)
    assert found == [*range(30), *range(30)]
    assert pairs == 30


def test_what_shares_a_band_is_confirmed_before_it_is_joined() -> None:
    text = "abcdefghijklmnopqrstuvwxyz" * 2
    near = text + "0123456789"  # Jaccard 26 / 36
    assert similar([text, near], 0.6)[0] == [0, 0]
    assert similar([text, near], 0.8)[0] == [0, 1]


def test_a_stock_phrase_with_a_hundred_variants_is_one_cluster() -> None:
    """All of them share all bands, more than are compared pair by pair."""
    assert (
        similar(["这家酒店的服务真的非常好" * times for times in range(2, 102)], 0.8)[0]
        == [0] * 100
    )


def test_rows_of_one_template_cost_a_few_comparisons_each_and_none_is_missed() -> None:
    rng = np.random.default_rng(4)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(40)]
    texts = [
        f"the same opening of every row, {' '.join(rng.choice(words, 4))}, and the same end number {i}"
        for i in range(1500)
    ]
    texts += [text + "x" for text in texts[:100]]
    clusters, comparison = UnionFind(len(texts)), Comparison(texts, 0.95)
    bands = np.asarray(Text().lsh_bands(texts))
    lsh_pairs({"text": (np.arange(len(texts)), bands.T)}, comparison, clusters)
    assert len(comparison.asked) < 12 * len(texts)
    assert len(comparison.results) < 12 * len(texts)
    assert all(clusters.find(i) == clusters.find(1500 + i) for i in range(100))


def test_pairs_in_files_are_those_in_memory_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_ROWS_PER_BLOCK", 7)
    rng = np.random.default_rng(3)
    texts = ["".join(rng.choice(list("abcdefghijklmnop"), 60)) for _ in range(30)]
    texts += [text[:-1] + "z" for text in texts]
    field = Text()
    bands = np.asarray(field.lsh_bands(texts)).T
    found = []
    for folder in (None, tmp_path):
        clusters = UnionFind(len(texts))
        signatures = {name: (np.arange(len(texts)), bands) for name in ("text", "again")}
        pairs = lsh_pairs(signatures, Comparison(texts, 0.8), clusters, folder)
        found.append((pairs, clusters.roots().tolist()))
    assert found[0] == found[1] and found[0][0] == 30
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_loses_no_pair(tmp_path: Path) -> None:
    pairs = CandidatePairs(1000, tmp_path / "pairs")
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            pairs.add(np.arange(100), np.arange(100, 200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    pairs.close()
