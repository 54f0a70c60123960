"""Cron lines, and the same for systemd and Kubernetes."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from ruamel.yaml import YAML

from components.core.errors import InputError
from components.orchestration.retraining.cron import local_zone, parse, zone_name
from components.orchestration.retraining.external_schedulers import show

SATURDAY = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 3 * * *", "2026-11-22T03:00"),
        ("*/20 * * * *", "2026-11-21T12:40"),
        ("30 12 * * *", "2026-11-22T12:30"),  # this very minute has been
        ("0 0 1 1 *", "2027-01-01T00:00"),
        ("15 4 * * 0", "2026-11-22T04:15"),  # cron's Sunday, which APScheduler takes for Monday
        ("15 4 * * 7", "2026-11-22T04:15"),
        ("0 5 * * 1-5", "2026-11-23T05:00"),
        ("0 5 * * MON,wed", "2026-11-23T05:00"),
        ("0 5 * feb *", "2027-02-01T05:00"),
    ],
)
def test_the_next_time(line: str, expected: str) -> None:
    assert parse(line).after(SATURDAY).isoformat()[:16] == expected


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0 3 * *", "4 fields"),
        ("every night", "2 fields"),
        ("60 3 * * *", "'60' is no minute: 0 to 59"),
        ("0 3 * * fry", "'fry' is no day of week"),
        ("0 5-3 * * *", "'5-3' is no hour"),
        ("*/0 3 * * *", "'*/0' is no minute"),
        ("0 3 13 * 5", "days of the month and of the week"),
        ("0 3 30 2 *", "never comes"),
        ("0 3 -1 * *", "'-1' is no day of month"),
    ],
)
def test_a_wrong_line_says_what_is_wrong(line: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("*", r"\*")) as caught:
        parse(line)
    assert "0 3 * * *" in caught.value.remedy or "leave one" in caught.value.remedy


BERLIN = ZoneInfo("Europe/Berlin")  # forward on 2026-03-29 at 2:00, back on 2026-10-25 at 3:00
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # back by half an hour on 2026-04-05 at 2:00


def firings(line: str, start: datetime, hours: float) -> list[str]:
    """All times of a line from a moment on, in UTC."""
    cron, moment, found = parse(line), start, []
    while (moment := cron.after(moment)).astimezone(UTC) < start.astimezone(UTC) + timedelta(
        hours=hours
    ):
        found.append(f"{moment.astimezone(UTC):%d %H:%M}")
    return found


@pytest.mark.parametrize(
    ("line", "start", "expected"),
    [
        (
            "30 2 * * *",
            datetime(2026, 3, 28, 12, tzinfo=BERLIN),
            ["29 01:30", "30 00:30"],
        ),  # 2:30 is skipped: 3:30
        ("0 3 * * *", datetime(2026, 3, 28, 12, tzinfo=BERLIN), ["29 01:00", "30 01:00"]),
        ("0 3 * * *", datetime(2026, 10, 24, 12, tzinfo=BERLIN), ["25 02:00", "26 02:00"]),
        (
            "30 2 * * *",
            datetime(2026, 10, 24, 12, tzinfo=BERLIN),
            ["25 00:30", "26 01:30"],
        ),  # 2:30 stands twice, and comes once
        (
            "30 0-4 * * *",
            datetime(2026, 10, 24, 22, tzinfo=UTC).astimezone(BERLIN),
            ["24 22:30", "24 23:30", "25 00:30", "25 02:30", "25 03:30"],
        ),
        ("45 1 * * *", datetime(2026, 4, 4, 12, tzinfo=LORD_HOWE), ["04 14:45", "05 15:15"]),
        ("0 12 * * 0", datetime(2026, 10, 24, 12, tzinfo=BERLIN), ["25 11:00"]),
    ],
)
def test_a_line_follows_the_clock_of_its_zone(
    line: str, start: datetime, expected: list[str]
) -> None:
    assert firings(line, start, 48 if len(expected) < 5 else 12) == expected


@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24"])
def test_each_hour_comes_once_when_the_clock_changes(day: str) -> None:
    start = datetime.fromisoformat(f"{day}T21:30").replace(tzinfo=BERLIN)
    found = firings("15 * * * *", start, 12)
    assert len(found) == len(set(found)) == 12
    assert len(firings("*/20 * * * *", start, 12)) == 36


def test_a_moment_in_the_second_of_two_hours_is_not_taken_for_the_first() -> None:
    second = datetime(2026, 10, 25, 2, 40, tzinfo=BERLIN, fold=1)
    assert parse("50 * * * *").after(second).astimezone(UTC) == datetime(
        2026, 10, 25, 1, 50, tzinfo=UTC
    )
    assert parse("50 2 * * *").after(second).astimezone(UTC) == datetime(
        2026, 10, 26, 1, 50, tzinfo=UTC
    )


def test_the_local_zone_knows_its_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    zone = local_zone()
    assert zone_name(zone) == "Europe/Berlin"
    assert (
        datetime(2026, 7, 1, tzinfo=zone).utcoffset()
        != datetime(2026, 12, 1, tzinfo=zone).utcoffset()
    )
    monkeypatch.setenv("TZ", "ABC-3")
    assert datetime.now(local_zone()).utcoffset() is not None and zone_name(local_zone()) is None


def test_systemd_is_told_the_same_times() -> None:
    text = show("systemd", Path("/srv/my 100% project"), "reviews", parse("*/30 3 * * 1-5"), False)
    assert (
        "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 03:00,30:00\n" in text and "Persistent=true" in text
    )
    assert (
        "WorkingDirectory=/srv/my 100%% project\n" in text
        and '-m components.cli retrain reviews --trigger "cron */30 3 * * 1-5"\n' in text
    )
    assert "OnCalendar=*:0/5\n" in show("systemd", Path("/srv/p"), "default", None, False)


def test_a_unit_runs_as_its_user_and_reads_secrets_from_a_file() -> None:
    text = show("systemd", Path("/srv/p"), "reviews", parse("0 3 * * *"), False)
    assert (
        f"User={getpass.getuser()}\n" in text
        and "EnvironmentFile=-/etc/gristmill/reviews.env\n" in text
    )


def test_kubernetes_is_told_the_same_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    job = YAML(typ="safe").load(
        show("kubernetes", Path("/srv/p"), "my_reviews", parse("0 3 * * 0"), False)
    )
    assert job["kind"] == "CronJob" and job["metadata"]["name"] == "gristmill-retrain-my-reviews"
    assert job["spec"]["timeZone"] == "Asia/Shanghai"
    assert job["spec"]["schedule"] == "0 3 * * 0" and job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == [
        "python",
        "-m",
        "components.cli",
        "retrain",
        "my_reviews",
        "--trigger",
        "cron 0 3 * * 0",
    ]


def test_what_no_timer_can_do_is_refused() -> None:
    with pytest.raises(InputError, match="no timer waits for drift"):
        show("systemd", Path("/srv/p"), "default", None, True)
    with pytest.raises(InputError, match="'launchd' is not one of"):
        show("launchd", Path("/srv/p"), "default", parse("0 3 * * *"), False)
