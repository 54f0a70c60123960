"""What counts as done already: not what another champion was compared with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from components.registry.release.release_log import LONGEST
from components.registry.release.retrain_record import (
    RetrainRecord,
    _text,
    completed_retrain,
    truncate_columns,
)


def made(
    source: str, outcome: str = "refused", before: int | None = 1, after: int | None = 1
) -> RetrainRecord:
    return RetrainRecord(
        source + outcome,
        "test",
        outcome,
        "",
        "",
        "",
        {},
        "",
        "code",
        "params",
        source,
        0,
        before=before,
        after=after,
    )


@pytest.mark.parametrize(
    ("past", "known"),
    [
        ([], ""),
        ([made("a")], "a"),
        ([made("a"), made("b")], "ab"),  # back to what was refused before
        (
            [
                made("a", "failed"),
                made("b", "killed"),
                made("c", "stopped"),
                made("d", "source refused"),
            ],
            "",
        ),
        ([made("a", "promoted", None, 1), made("b")], "ab"),
        (
            [made("a"), made("b", "promoted", 1, 2), made("c")],
            "bc",
        ),  # a was compared with version 1
        (
            [
                made("a", "promoted", 1, 2),
                made("b", "promoted", 2, 3),
                made("a", "unchanged", 3, 3),
            ],
            "ab",
        ),
        ([made("a"), made("b", "failed", 1, 2)], ""),  # a person has released meanwhile
    ],
)
def test_what_went_all_the_way_is_settled_until_the_champion_changes(
    past: list[RetrainRecord], known: str
) -> None:
    assert (
        "".join(source for source in "abcd" if completed_retrain(past, ("code", "params", source)))
        == known
    )


SURVEY = {
    f"{number}. How much do you agree that {'the service was quick and the staff were kind' * 3}?": "text"
    for number in range(60)
}


@pytest.mark.parametrize(
    "columns",
    [
        {"text": "string"},
        SURVEY,
        SURVEY | {"answers": f"struct<{', '.join(f'answer{n}: string' for n in range(800))}>"},
        {'"' * 300 + str(n): "\\" * 99 for n in range(99)},
    ],
)
def test_a_record_fits_whatever_its_columns_are_and_still_tells_them_apart(
    columns: dict[str, str],
) -> None:
    text = _text(
        replace(
            made("a"), columns=columns, trigger="t" * 5000, detail="d" * 5000, cursor="c" * 5000
        )
    )
    kept = RetrainRecord.read(json.loads(text))
    names = list(columns)[:60]
    assert len(text) <= LONGEST and len(kept.columns) == len(names)
    assert kept.columns == truncate_columns(
        {name: columns[name] for name in names}, kept.width
    ) and (kept.width == 0) == (columns == {"text": "string"})
    for name in names:  # a change at the very end of a name or of a type
        assert (
            truncate_columns({name + "?": columns[name]}, kept.width)
            .keys()
            .isdisjoint(kept.columns)
        )
        assert (
            truncate_columns({name: columns[name] + ">"}, kept.width)
            .items()
            .isdisjoint(kept.columns.items())
        )
