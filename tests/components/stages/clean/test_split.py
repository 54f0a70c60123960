"""The split: every class in every split, groups whole, a function of the rows and not of their order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.core.errors import InputError
from components.stages.clean.split import (
    by_fold,
    by_time,
    check_strata,
    draw,
    folds_of,
    ranks_of,
    stratified,
)
from components.tasks.shared.schema.classification.rules import ClassTargets

Rows = list[tuple[str, str]]  # (group, label)


def numbered(groups: Sequence[str], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of the group of each row, and the ranks of the groups."""
    names = pa.array(groups).dictionary_encode()
    draws = [draw(name, seed) for name in names.dictionary.to_pylist()]
    return names.indices.to_numpy().astype(np.int64), ranks_of(pa.array(draws, pa.binary(32)))


def divide(rows: Rows, validation: float = 0.1, test: float = 0.1, seed: int = 7) -> list[str]:
    """The split of each row."""
    groups, ranks = numbered([group for group, _ in rows], seed)
    strata = [label for _, label in rows]
    splits = stratified(groups, strata, validation, test, ranks)
    check_strata(groups, strata, splits, ClassTargets().too_few_groups)
    return splits


@st.composite
def grouped(draw: st.DrawFn) -> Rows:
    """Two to four classes of three to a dozen groups each, of one to nine rows, a few of them of mixed labels."""
    rows: Rows = []
    for name in "abcd"[: draw(st.integers(2, 4))]:
        for number in range(draw(st.integers(3, 12))):
            rows += [(f"{name}{number}", name)] * draw(st.integers(1, 9))
    for number in range(draw(st.integers(0, 3))):
        rows += [
            (f"mixed{number}", draw(st.sampled_from("ab"))) for _ in range(draw(st.integers(2, 5)))
        ]
    return draw(st.permutations(rows))


@settings(max_examples=50, deadline=None)
@given(
    grouped(),
    st.floats(0.01, 0.3),
    st.floats(0.01, 0.3),
    st.integers(0, 99),
    st.randoms(use_true_random=False),
)
def test_classes_are_everywhere_groups_whole_and_order_of_no_account(
    rows: Rows, validation: float, test: float, seed: int, random: np.random.RandomState
) -> None:
    splits = divide(rows, validation, test, seed)
    seen, where = defaultdict(set), defaultdict(set)
    for (group, label), split in zip(rows, splits, strict=True):
        seen[label].add(split)
        where[group].add(split)
    assert all(found == {"train", "validation", "test"} for found in seen.values())
    assert all(len(found) == 1 for found in where.values())
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    assert divide([rows[i] for i in shuffled], validation, test, seed) == [
        splits[i] for i in shuffled
    ]


def test_shares_are_kept_in_every_class() -> None:
    rows = [(f"g{i}", "rare" if i % 10 == 0 else "common") for i in range(2000)]
    counts = Counter(
        (label, split) for (_, label), split in zip(rows, divide(rows, 0.1, 0.2), strict=True)
    )
    assert counts["rare", "test"] == 40
    assert counts["rare", "validation"] == 20
    assert counts["common", "test"] == 360
    assert counts["common", "train"] == 1260


def test_another_seed_gives_another_split() -> None:
    rows = [(f"g{i}", "ab"[i % 2]) for i in range(100)]
    assert divide(rows, seed=1) != divide(rows, seed=2)


def test_large_groups_go_to_train() -> None:
    rows = (
        [(f"phrase{i % 20}", "a") for i in range(200)]
        + [(f"g{i}", "a") for i in range(100)]
        + [(f"h{i}", "b") for i in range(60)]
    )
    assert set(divide(rows)[:200]) == {"train"}


def test_a_test_share_that_wants_more_leaves_a_group_to_validation() -> None:
    rows = [
        ("small", "a"),
        *[("x", "a")] * 2,
        *[("y", "a")] * 2,
        *((f"h{i}", "b") for i in range(60)),
    ]
    assert set(divide(rows, validation=0.1, test=0.3)[:5]) == {"train", "validation", "test"}


def test_a_class_that_is_never_the_majority_of_a_group_is_still_everywhere() -> None:
    """Groups are users; all praise, three of them complain once."""
    rows = [(f"user{i // 10}", "complaint" if i in (0, 100, 200) else "praise") for i in range(300)]
    splits = divide(rows)
    assert {
        split for (_, label), split in zip(rows, splits, strict=True) if label == "complaint"
    } == {"train", "validation", "test"}


@pytest.mark.parametrize("groups", [1, 2])
def test_a_class_of_fewer_than_three_groups_is_refused_with_a_remedy(groups: int) -> None:
    rows = [(f"a{i}", "a") for i in range(30)] + [(f"b{i % groups}", "b") for i in range(30)]
    with pytest.raises(
        InputError, match=rf"class 'b' has only {groups} independent group"
    ) as caught:
        divide(rows)
    assert "bring more data" in caught.value.remedy


def test_rows_of_one_stratum_are_split_by_their_shares() -> None:
    counts = Counter(divide([(f"g{i}", "") for i in range(1000)], 0.1, 0.2))
    assert counts == {"train": 700, "test": 200, "validation": 100}


@st.composite
def moving(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Rows of a group and a moment, of which few or many are different."""
    latest = draw(st.sampled_from([0, 1, 2, 3, 8, 400]))
    rows = draw(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, latest)), min_size=1, max_size=120)
    )
    width = draw(st.sampled_from([1, 50, 1000]))
    old = draw(st.sampled_from([0, 0, 50]))
    return [
        *((f"{group}-{moment // width}", moment) for group, moment in rows),
        *((f"old-{number}", 0) for number in range(old)),
    ]


@settings(max_examples=200, deadline=None)
@given(moving(), st.floats(0.05, 0.3), st.floats(0.05, 0.3))
def test_by_time_nothing_of_the_future_is_learned_from(
    rows: list[tuple[str, int]], validation: float, test: float
) -> None:
    groups, _ = numbered([group for group, _ in rows], 0)
    moments = np.array([float(moment) for _, moment in rows])
    latest = {name: max(moments[groups == name]) for name in groups.tolist()}
    if len(set(latest.values())) < 3:
        with pytest.raises(InputError, match="different times"):
            by_time(groups, moments, validation, test, 0)
        return
    divided = by_time(groups, moments, validation, test, 0)
    splits = divided.splits
    assert not divided.dropped
    assert set(splits) == {"train", "validation", "test"}
    assert all(len(set(found)) == 1 for found in _by_group(groups, splits).values())
    times = {part: [] for part in ("train", "validation", "test")}
    for group, split in zip(groups.tolist(), splits, strict=True):
        times[split].append(latest[group])
    assert max(times["train"]) < min(times["validation"])
    assert max(times["validation"]) < min(times["test"])


def _by_group(groups: NDArray[np.int64], splits: list[str]) -> dict[int, list[str]]:
    found = defaultdict(list)
    for group, split in zip(groups.tolist(), splits, strict=True):
        found[group].append(split)
    return found


def test_by_time_shares_embargo_and_missing_times() -> None:
    groups = np.arange(100)
    days = np.arange(100.0) * 86_400
    divided = by_time(groups, days, 0.1, 0.2, 0)
    assert Counter(divided.splits) == {"train": 70, "validation": 10, "test": 20}
    divided = by_time(groups, days, 0.1, 0.2, 3 * 86_400)
    assert divided.embargoed == {68, 69, 78, 79}
    with pytest.raises(InputError, match="leaves no row of train or of validation"):
        by_time(groups, days, 0.1, 0.2, 30 * 86_400)
    days[99] = np.nan
    assert by_time(groups, days, 0.1, 0.2, 0).splits[99] == "train"
    with pytest.raises(InputError, match="2 different times in 100 rows"):
        by_time(groups, np.array([1.0, 2.0] * 50), 0.1, 0.1, 0)


@settings(max_examples=100, deadline=None)
@given(grouped(), st.integers(2, 7), st.integers(0, 99), st.randoms(use_true_random=False))
def test_folds_are_a_partition_with_whole_groups_in_any_order(
    rows: Rows, count: int, seed: int, random: np.random.RandomState
) -> None:
    groups, ranks = numbered([group for group, _ in rows], seed)
    strata = [label for _, label in rows]
    folds = folds_of(groups, strata, count, ranks)
    assert set(folds) <= set(range(1, count + 1))
    assert all(len(set(found)) == 1 for found in _by_group(groups, folds).values())
    tested = Counter()
    for number in sorted(set(folds)):
        splits = by_fold(groups, strata, folds, number=number, validation=0.1, ranks=ranks)
        assert all(len(set(found)) == 1 for found in _by_group(groups, splits).values())
        # Each class has groups in three folds or more, so the others hold two of them.
        assert count == 2 or {"validation", "train"} <= set(splits)
        tested.update(position for position, split in enumerate(splits) if split == "test")
    assert tested == Counter(range(len(rows)))
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    others = folds_of(groups[shuffled], [strata[position] for position in shuffled], count, ranks)
    assert others == [folds[position] for position in shuffled]


def test_folds_have_like_shares_of_each_stratum_and_validation_its_share_of_all_rows() -> None:
    rows = [(f"g{i}", "rare" if i % 10 == 0 else "common") for i in range(1000)]
    groups, ranks = numbered([group for group, _ in rows], 7)
    strata = [label for _, label in rows]
    folds = folds_of(groups, strata, 5, ranks)
    assert set(Counter(zip(strata, folds, strict=True)).values()) == {20, 180}
    splits = by_fold(groups, strata, folds, number=3, validation=0.1, ranks=ranks)
    assert Counter(splits) == {"train": 700, "validation": 100, "test": 200}
