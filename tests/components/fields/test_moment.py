"""Dates and times as people write them in tables."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from components.fields.base import Reject
from components.fields.moment import Moment, MomentText, guess_order, parse_moment

DAY = datetime(2026, 11, 27, tzinfo=UTC).timestamp()
FORMS = {
    "2026-11-27": 0,
    "2026/11/27": 0,
    "2026.11.27": 0,
    "20261127": 0,
    "2026年11月27日": 0,
    "2026年11月27日 14时05分": 14 * 3600 + 300,
    "Nov 27, 2026": 0,
    "27 November 2026": 0,
    "27-Nov-2026 3:05 pm": 15 * 3600 + 300,
    "2026-11-27T14:05:06Z": 14 * 3600 + 306,
    "2026-11-27 14:05:06.25": 14 * 3600 + 306.25,
    "2026-11-27 14:05:06+08:00": 6 * 3600 + 306,
    "2026-11-27 12:30 am": 1800,
    "2026-11-27T14:05:06.1234567Z": 14 * 3600 + 306.1234567,
    "2026-11-27 14:05:06,123456789": 14 * 3600 + 306.123456789,
    "2026-11-27 14:05:06+08": 6 * 3600 + 306,
    "2026-11-27 14:05-0330": 17 * 3600 + 2100,
    "2026年11月27日 下午3:05": 15 * 3600 + 300,
    "2026-11-27 14:05 pm": 14 * 3600 + 300,
    "2026-11-27 24:00": 24 * 3600,
    "2026-11-27T24:00:00.000": 24 * 3600,
    "2026-11-27 23:59:60": 24 * 3600,
    "2026-11": -26 * 24 * 3600,
    "2026年11月": -26 * 24 * 3600,
    "2026-11-27 下午": None,
    "2026-11-27 25:00": None,
    "2026-11-27 24:30": None,
    "2026-11-27 24:00:01": None,
    "2026-11-27 24:00:00.5": None,
    "2026-11-27 12:60": None,
    "2026-11-27 12:30:60": None,
    "2026-11-27 12:30:61": None,
    "2026-11-27 12:30:15.1234567890": None,
    "2026-11-27 13:30 am": None,
    "2026-11-27 0:30 pm": None,
    "2026-11-27 上午9:30 pm": None,
    "2026-11-27 12:30+15:00": None,
    "2026-11-27 12:30+08:60": None,
    "2026-11-27 12:3": None,
    "2026-00": None,
    "2012/13": None,
    "2026-13-01": None,
    "2026-02-30": None,
    "9:30": None,
    "tomorrow": None,
    "2026-11-2⁷": None,
}


@pytest.mark.parametrize("text", FORMS)
def test_a_moment_is_read_however_it_is_written(text: str) -> None:
    seconds = FORMS[text]
    if seconds is None:
        with pytest.raises(Reject, match="not_a_date"):
            parse_moment(text)
    else:
        assert parse_moment(text) == DAY + seconds


@pytest.mark.parametrize(("order", "month"), [("dmy", 4), ("mdy", 3)])
def test_the_order_of_day_and_month_is_the_stated_one(order: Any, month: int) -> None:
    moment = parse_moment("3/4/26", order)
    assert moment is not None
    assert datetime.fromtimestamp(moment, UTC).month == month


def test_a_day_that_the_order_does_not_have_is_refused() -> None:
    assert parse_moment("27/11/2026", "dmy") == DAY
    with pytest.raises(Reject, match="not_a_date"):
        parse_moment("27/11/2026", "mdy")


@pytest.mark.parametrize(
    "value",
    [
        46353,
        46353.0,
        "46353",
        20261127,
        DAY,
        DAY * 1000,
        DAY * 1e6,
        date(2026, 11, 27),
        datetime(2026, 11, 27, 8, tzinfo=timezone(timedelta(hours=8))),
    ],
)
def test_days_of_spreadsheets_and_seconds_since_1970_are_read(value: Any) -> None:
    assert Moment().normalize(value) == DAY


def test_half_a_day_of_a_spreadsheet_is_noon() -> None:
    assert Moment().normalize(46353.5) == DAY + 12 * 3600


@pytest.mark.parametrize("value", [5, -3, 1e30, True, b"x"])
def test_what_is_no_date_is_refused(value: Any) -> None:
    with pytest.raises(Reject, match="not_a_date"):
        Moment().normalize(value)


@pytest.mark.parametrize("value", [None, "", "n/a", "未知", float("nan")])
def test_a_missing_moment_is_none_or_refused(value: Any) -> None:
    assert Moment().normalize(value) is None
    with pytest.raises(Reject, match="missing"):
        Moment(required=True).normalize(value)


def test_a_profile_has_the_parts_that_come_again() -> None:
    assert Moment().profile(DAY + 3600) == {
        "missing": "no",
        "weekday": "5",
        "hour": "01",
    }
    assert Moment().show(DAY) == "2026-11-27"
    assert Moment().show(DAY + 60) == "2026-11-27 00:01:00"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["27/11/2026", "1/2/2026"], ("dmy", 1)),
        (["11/27/2026", "1/2/2026"], ("mdy", 1)),
        (["2026-01-02", "2026-03-04"], ("ymd", 2)),
        (["1/2/2026"], ("dmy", 0)),
        (["abc"], ("dmy", 0)),
    ],
)
def test_the_order_is_guessed_from_what_shows_it(
    texts: list[str], expected: tuple[str, int]
) -> None:
    assert guess_order(texts) == expected


def test_the_text_of_a_moment_is_rounded_to_microseconds() -> None:
    text = MomentText().normalize("2026-11-27 14:05:06.123456789")
    assert text == "2026-11-27 14:05:06.123457"
    assert MomentText().normalize(text) == text
