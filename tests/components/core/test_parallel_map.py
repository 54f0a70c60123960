"""Without Ray the pieces are worked on one after another, in order, when they are asked for."""

from __future__ import annotations

import pytest

from components.core.parallel_map import parallel_map


def test_results_come_in_order_and_only_when_asked_for() -> None:
    done: list[int] = []

    def work(piece: int) -> int:
        done.append(piece)
        return piece * 10

    results = parallel_map(work, [3, 1, 2])
    assert next(results) == 30
    assert done == [3]
    assert list(results) == [10, 20]


def test_what_work_raises_comes_out() -> None:
    with pytest.raises(ZeroDivisionError):
        list(parallel_map(lambda piece: 1 // piece, [1, 0]))


def test_a_single_piece_needs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a worker's process takes longer than a piece."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "remote", lambda *_, **__: pytest.fail("made a task"))
    assert list(parallel_map(lambda piece: piece * 10, iter([3]))) == [30]
    assert list(parallel_map(lambda piece: piece * 10, iter([]))) == []
