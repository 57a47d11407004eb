"""The reference: what exchange_calendars says of each day, in minutes of the market's own clock."""

import datetime
import zoneinfo

# The pinned tzdata and not the machine's: both the reference and the offset tables read it.
zoneinfo.reset_tzpath(to=())

import exchange_calendars  # noqa: E402
import pandas  # noqa: E402
from exchange_calendars import calendar_utils  # noqa: E402

EPOCH = datetime.date(1970, 1, 1)
UTC = datetime.timezone.utc
# The reference gives XKRX a spurious late open on the last session it is asked for, so it is asked for more.
OVERSHOOT = pandas.Timedelta(days=60)
# A closure list that stops shows as a year with far fewer closures than those before it.
CLOSURES_SHARE_MIN = 0.7


def names():
    return exchange_calendars.get_calendar_names(False)


def calendar(name, first, last):
    """One calendar's days as {day number: ((phase, start, end), ...)}, in minutes of its clock from midnight."""
    factory = calendar_utils._default_calendar_factories[name]
    first, last = latest(first, factory.bound_min()), earliest(last, factory.bound_max())
    end = pandas.Timestamp(last) + OVERSHOOT
    if factory.bound_max() is not None:
        end = min(end, factory.bound_max())
    schedule = factory(start=pandas.Timestamp(first), end=end).schedule
    found = {"name": name, "zone": factory.tz.key, "first": first, "last": last, "days": {}, "intervals": []}
    clock = zoneinfo.ZoneInfo(found["zone"])
    for label, opens, break_start, break_end, closes in schedule.itertuples():
        if label.date() > last:
            break
        pieces = [("open", opens, closes)]
        if not pandas.isna(break_start):
            pieces = [("open", opens, break_start), ("break", break_start, break_end), ("open", break_end, closes)]
        day = (label.date() - EPOCH).days
        found["days"][day] = tuple(
            (phase, local_minute(start, clock, day), local_minute(end, clock, day)) for phase, start, end in pieces
        )
        for phase, start, end in pieces:
            if phase == "open":
                append_merged(found["intervals"], utc_minute(start), utc_minute(end))
    return found


def latest(day, bound):
    return day if bound is None else max(day, bound.date())


def earliest(day, bound):
    return day if bound is None else min(day, bound.date())


def utc_minute(instant):
    minutes, rest = divmod(instant.value, 60 * 10**9)
    if rest:
        raise ValueError(f"{instant} is not on a whole minute")
    return minutes


def local_minute(instant, clock, day):
    """Minutes from local midnight of `day`, checked to lead back to the same instant as the decoder goes."""
    local = instant.to_pydatetime().astimezone(clock).replace(tzinfo=None, fold=0)
    if local.replace(tzinfo=clock).astimezone(UTC) != instant.to_pydatetime():
        raise ValueError(f"{instant} is the second of two equal local times in {clock}")
    midnight = datetime.datetime.combine(EPOCH + datetime.timedelta(days=day), datetime.time())
    return (local - midnight) // datetime.timedelta(minutes=1)


def append_merged(intervals, start, end):
    if start >= end or (intervals and start < intervals[-1][1]):
        raise ValueError(f"interval {start}..{end} is empty or overlaps the one before")
    if intervals and intervals[-1][1] == start:
        intervals[-1][1] = end
    else:
        intervals.append([start, end])


def thin_years(found):
    """The years without the closures that the ten years before them lead to expect, as lines for people."""
    closures, notes = {}, []
    weekdays = {(day + 3) % 7 for day in found["days"] if day > (found["last"] - EPOCH).days - 400}
    for day in range((found["first"] - EPOCH).days, (found["last"] - EPOCH).days + 1):
        if (day + 3) % 7 in weekdays and day not in found["days"]:
            year = (EPOCH + datetime.timedelta(days=day)).year
            closures[year] = closures.get(year, 0) + 1
    for year in range(2024, found["last"].year + 1):
        before = [closures.get(past, 0) for past in range(year - 10, year) if past >= found["first"].year]
        usual = sum(before) / max(len(before), 1)
        if closures.get(year, 0) < CLOSURES_SHARE_MIN * usual:
            notes.append(f"{found['name']} has {closures.get(year, 0)} closures in {year}, usually {usual:.1f}")
    return notes
