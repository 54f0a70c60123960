"""Cron lines: the times that they mean, and the same for systemd.

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
    """Return the IANA name of a time zone, such as Europe/Berlin, or None without a name."""
    if isinstance(zone, ZoneInfo) and zone.key != "local":
        return zone.key
    return None


@dataclass(frozen=True)
class Cron:
    """Holds a cron line.

    Args:
        line: as it was written.
        fields: five sets of numbers, see `_FIELDS`. An empty one means all numbers.
    """

    line: str
    fields: tuple[tuple[int, ...], ...]

    def after(self, moment: datetime) -> datetime:
        """Return the first time after a moment, on the wall clock of the moment's time zone.

        Raises:
            InputError: there is no such time, as for February 30th.
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

        weekdays = [_DAYS[number] for number in self.fields[4]]
        trigger = CronTrigger(
            minute=_joined(self.fields[0]),
            hour=_joined(self.fields[1]),
            day=_joined(self.fields[2]),
            month=_joined(self.fields[3]),
            day_of_week=_joined(weekdays),
            timezone=UTC,
        )
        moment = start.replace(tzinfo=UTC)
        while match := trigger.get_next_fire_time(None, moment):
            yield match.replace(tzinfo=None)
            moment = match + timedelta(microseconds=1)

    def _instants(self, wall: datetime, zone: tzinfo) -> list[datetime]:
        """Return the moments (UTC) that a time of the wall clock stands for."""
        both = [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        every_hour = not self.fields[1]
        skipped = both[0].astimezone(zone).replace(tzinfo=None) != wall
        if every_hour and skipped:
            return []
        if every_hour:
            return both
        return both[:1]

    def calendar(self) -> str:
        """Return the same times as a value of OnCalendar= of systemd."""
        minute, hour, day, month, weekday = self.fields
        names = ",".join(_DAYS[number].capitalize() for number in weekday)
        date = f"*-{_two_digits(month)}-{_two_digits(day)}"
        clock = f"{_two_digits(hour)}:{_two_digits(minute)}:00"
        return f"{names} {date} {clock}".strip()


def _joined(values: Sequence[object]) -> str:
    return ",".join(map(str, values)) or "*"


def _two_digits(numbers: Sequence[int]) -> str:
    return _joined([f"{number:02d}" for number in numbers])


def parse(line: str) -> Cron:
    """Parse a cron line.

    Args:
        line: five fields, such as "0 3 * * *".

    Raises:
        InputError: the line is wrong. The error names the field and what it may hold.
    """
    words = line.lower().split()
    if len(words) != len(_FIELDS):
        raise InputError(f"{line!r} has {len(words)} fields", where="--cron", remedy=_REMEDY)
    fields = tuple(
        _field(word, name, low, high)
        for word, (name, low, high) in zip(words, _FIELDS, strict=True)
    )
    if fields[2] and fields[4]:
        raise InputError(
            f"{line!r} names days of the month and of the week, "
            "which cron takes for either and others for both",
            where="--cron",
            remedy="leave one of the two a *",
        )
    cron = Cron(line, fields)
    # Raises an error if no such time exists.
    cron.after(datetime.now(UTC))
    return cron


def _field(
    word: str,
    name: str,
    low: int,
    high: int,
) -> tuple[int, ...]:
    """Return the numbers of a field, sorted. An empty result means all numbers."""
    numbers: set[int] = set()
    for part in word.split(","):
        numbers |= _part(part, name, low, high)
    count = high - low + 1
    if name == "day of week":
        # Cron counts Sunday as 0 and as 7.
        numbers = {number % 7 for number in numbers}
        count = 7
    if len(numbers) == count:
        return ()
    return tuple(sorted(numbers))


def _part(
    part: str,
    name: str,
    low: int,
    high: int,
) -> set[int]:
    """Return the numbers of one entry of a field, such as 5, mon-fri or */2."""
    bounds = _bounds(part, name, low, high)
    if bounds is None:
        raise InputError(
            f"{part!r} is no {name}: {low} to {high}, "
            f"a range such as {low}-{low + 3}, a list, or */2",
            where="--cron",
            remedy=_REMEDY,
        )
    first, last, step = bounds
    return set(range(first, last + 1, step))


def _bounds(
    part: str,
    name: str,
    low: int,
    high: int,
) -> tuple[int, int, int] | None:
    """Return the first number, the last one and the step. None: the entry is wrong."""
    match = _PART.fullmatch(part)
    if match is None:
        return None
    star, begin, end, every = match.groups()
    step = int(every or 1)
    if star:
        first = low
        last = high
    else:
        first = _number(begin, name, low)
        last = first
        if end is not None:
            last = _number(end, name, low)
        elif every:
            last = high
    if step and low <= first <= last <= high:
        return first, last, step
    return None


def _number(text: str, name: str, low: int) -> int:
    """Return the number of a digit string or of a name. -1: the name is unknown."""
    if text.isdigit():
        return int(text)
    names: Sequence[str] = ()
    if name == "day of week":
        names = _DAYS
    elif name == "month":
        names = _MONTHS
    if text not in names:
        return -1
    return names.index(text) + low
