"""Cron lines, and the same for systemd and Kubernetes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components.core.errors import InputError
from pipelines.cron import parse
from pipelines.timers import show

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


def test_systemd_is_told_the_same_times() -> None:
    text = show("systemd", Path("/srv/my 100% project"), "reviews", parse("*/30 3 * * 1-5"), False)
    assert "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 03:00,30:00\n" in text and "Persistent=true" in text
    assert "WorkingDirectory=/srv/my 100%% project\n" in text and '-m pipelines.cli retrain reviews --trigger "cron */30 3 * * 1-5"\n' in text
    assert "OnCalendar=*:0/5\n" in show("systemd", Path("/srv/p"), "default", None, False)


def test_kubernetes_is_told_the_same_times() -> None:
    job = YAML(typ="safe").load(show("kubernetes", Path("/srv/p"), "my_reviews", parse("0 3 * * 0"), False))
    assert job["kind"] == "CronJob" and job["metadata"]["name"] == "gristmill-retrain-my-reviews"
    assert job["spec"]["schedule"] == "0 3 * * 0" and job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "pipelines.cli", "retrain", "my_reviews", "--trigger", "cron 0 3 * * 0"]


def test_what_no_timer_can_do_is_refused() -> None:
    with pytest.raises(InputError, match="no timer waits for drift"):
        show("systemd", Path("/srv/p"), "default", None, True)
    with pytest.raises(InputError, match="'launchd' is not one of"):
        show("launchd", Path("/srv/p"), "default", parse("0 3 * * *"), False)
