"""A cron line: what it means, and the same for systemd.

Weekdays are counted as cron counts them, from Sunday as 0, and not as APScheduler counts them.
A line is read on the wall clock of a time zone. When that clock is set forward, a time that it
skips comes as much later as the clock was moved. When it is set back, a time that stands twice
comes once, unless the line holds for every hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from components.core.errors import InputError

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
)
_PART = re.compile(r"(?:(\*)|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/(\d+))?")
# The largest step that a zone's clock makes at once, with room to spare.
_LARGEST_STEP = timedelta(hours=4)
_REMEDY = 'five fields, minute hour day month weekday, such as "0 3 * * *" for each night at three'


def local_zone() -> tzinfo:
    """Return the time zone of this machine, with the dates on which its clock is changed.

    Where TZ or the system names no zone of the IANA database, it is today's offset from UTC.
    """
    import tzlocal

    zone: tzinfo
    try:
        zone = tzlocal.reload_localzone()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = datetime.now().astimezone().tzinfo or UTC
    return zone


def zone_name(zone: tzinfo) -> str | None:
    """Return the IANA name of a time zone, such as Europe/Berlin; None where it has none."""
    return zone.key if isinstance(zone, ZoneInfo) and zone.key != "local" else None


@dataclass(frozen=True)
class Cron:
    """When, as five sets of numbers; () is each."""

    line: str
    fields: tuple[tuple[int, ...], ...]

    def after(self, moment: datetime) -> datetime:
        """Return the first time after a moment, on the wall clock of the moment's time zone.

        Raises:
            InputError: there is none, as for February 30th.
        """
        zone = moment.tzinfo or UTC
        wall = moment.replace(tzinfo=None)
        # Moments are compared in UTC: within one zone Python compares the wall clock alone.
        moment = moment.astimezone(UTC)
        first: datetime | None = None
        for match in self._wall_times(wall - _LARGEST_STEP):
            if first is not None and match > wall + _LARGEST_STEP:
                break
            for instant in self._instants(match, zone):
                if instant > moment and (first is None or instant < first):
                    first = instant
        if first is None:
            raise InputError(f"{self.line!r} never comes", where="--cron", remedy=_REMEDY)
        return first.astimezone(zone)

    def _wall_times(self, start: datetime) -> Iterator[datetime]:
        """Yield the matching times of a clock that is never set, from `start` on."""
        from apscheduler.triggers.cron import CronTrigger

        minute, hour, day, month = (",".join(map(str, each)) or "*" for each in self.fields[:4])
        weekday = ",".join(_DAYS[each] for each in self.fields[4]) or "*"
        trigger = CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone=UTC
        )
        moment = start.replace(tzinfo=UTC)
        while found := trigger.get_next_fire_time(None, moment):
            yield found.replace(tzinfo=None)
            moment = found + timedelta(microseconds=1)

    def _instants(self, wall: datetime, zone: tzinfo) -> list[datetime]:
        """Return the moments (UTC) that a time of the wall clock stands for."""
        both = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        every_hour = not self.fields[1]
        skipped = both[0].astimezone(zone).replace(tzinfo=None) != wall
        if every_hour and skipped:
            return []
        return both if every_hour else both[:1]

    def calendar(self) -> str:
        """For OnCalendar= of systemd."""
        minute, hour, day, month, weekday = self.fields
        names = ",".join(_DAYS[each].capitalize() for each in weekday)
        clock = [
            ",".join(f"{each:02d}" for each in some) or "*" for some in (month, day, hour, minute)
        ]
        return f"{names} *-{clock[0]}-{clock[1]} {clock[2]}:{clock[3]}:00".strip()


def parse(line: str) -> Cron:
    """Read a cron line.

    Raises:
        InputError: it is none; says which field, and what it may hold.
    """
    words = line.lower().split()
    if len(words) != len(_FIELDS):
        raise InputError(f"{line!r} has {len(words)} fields", where="--cron", remedy=_REMEDY)
    fields = tuple(_field(word, *told) for word, told in zip(words, _FIELDS, strict=True))
    if fields[2] and fields[4]:
        raise InputError(
            f"{line!r} names days of the month and of the week, which cron takes for either and others for both",
            where="--cron",
            remedy="leave one of the two a *",
        )
    made = Cron(line, fields)
    made.after(datetime.now(UTC))
    return made


def _field(word: str, name: str, low: int, high: int) -> tuple[int, ...]:
    found: set[int] = set()
    for part in word.split(","):
        match = _PART.fullmatch(part)
        names: Sequence[str] = (
            _DAYS if name == "day of week" else _MONTHS if name == "month" else ()
        )
        first, last = (
            (_number(each, names, low) for each in (match[2], match[3])) if match else (None, None)
        )
        if match and match[1]:
            first, last = low, high
        elif match and match[3] is None:
            last = high if match[4] else first
        step = int(match[4]) if match and match[4] else 1
        if first is None or last is None or not low <= first <= last <= high or not step:
            raise InputError(
                f"{part!r} is no {name}: {low} to {high}, a range such as {low}-{low + 3}, a list, or */2",
                where="--cron",
                remedy=_REMEDY,
            )
        found |= set(range(first, last + 1, step))
    if name == "day of week":
        found = {each % 7 for each in found}
        return () if len(found) == 7 else tuple(sorted(found))
    return () if len(found) == high - low + 1 else tuple(sorted(found))


def _number(text: str | None, names: Sequence[str], low: int) -> int | None:
    if text is None or text.isdigit():
        return None if text is None else int(text)
    return names.index(text) + low if text in names else -1
