"""What counts as done already: not what another champion was compared with."""

from __future__ import annotations

import pytest

from components.registry.retrains import Retrain, settled


def made(source: str, outcome: str = "refused", before: int | None = 1, after: int | None = 1) -> Retrain:
    return Retrain(source + outcome, "test", outcome, "", "", "", {}, "", "code", "params", source, 0, before=before, after=after)


@pytest.mark.parametrize(
    ("past", "known"),
    [
        ([], ""),
        ([made("a")], "a"),
        ([made("a"), made("b")], "ab"),  # back to what was refused before
        ([made("a", "failed"), made("b", "killed"), made("c", "stopped"), made("d", "source refused")], ""),
        ([made("a", "promoted", None, 1), made("b")], "ab"),
        ([made("a"), made("b", "promoted", 1, 2), made("c")], "bc"),  # a was compared with version 1
        ([made("a", "promoted", 1, 2), made("b", "promoted", 2, 3), made("a", "unchanged", 3, 3)], "ab"),
        ([made("a"), made("b", "failed", 1, 2)], ""),  # a person has released meanwhile
    ],
)
def test_what_went_all_the_way_is_settled_until_the_champion_changes(past: list[Retrain], known: str) -> None:
    assert "".join(source for source in "abcd" if settled(past, ("code", "params", source))) == known
