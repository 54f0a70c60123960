"""Labels as files: of several replicas, bounded, on a full disk."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from components.core.errors import EnvironmentFault
from components.monitoring.feedback_store import FeedbackEntry, FeedbackStore


def label(number: int, label: str = "好评") -> FeedbackEntry:
    return FeedbackEntry(
        f"{number:032d}", 0, {"label": label}, float(number), "1", "差评", 0.8, None
    )


def test_labels_of_two_replicas_are_one_list(tmp_path: Path) -> None:
    one, other = FeedbackStore(tmp_path, 10, "a"), FeedbackStore(tmp_path, 10, "b")
    other.add(label(2))
    one.add(label(1))
    assert [each.id[-1] for each in FeedbackStore(tmp_path, 10).entries()] == ["1", "2"]
    assert (one.refuses(label(2).key), other.refuses(label(1).key), one.refuses(label(3).key)) == (
        "known",
        "known",
        None,
    )


def test_no_more_wait_than_may_until_a_person_has_looked(tmp_path: Path) -> None:
    box = FeedbackStore(tmp_path, 3)
    for number in range(3):
        assert box.refuses(label(number).key) is None
        box.add(label(number))
    assert box.refuses(label(9).key) == "full"
    box.decide([label(0).key], "rejected", "li")
    assert box.refuses(label(9).key) is None
    assert [each.key for each in box.waiting()] == [label(1).key, label(2).key]
    assert FeedbackStore(tmp_path, 3).decided() == {label(0).key: "rejected"}


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    box = FeedbackStore(tmp_path, 100)
    box.add(label(0))
    size = next(tmp_path.iterdir()).stat().st_size
    before, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(EnvironmentFault, match="cannot be written"):
            box.add(label(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    box.add(label(2))
    assert [each.key for each in box.entries()] == [label(0).key, label(2).key]
