"""Writes ../calendars.txt: what every calendar of exchange_calendars says of 2000 to 2027, as a count and a digest.

It asks exchange_calendars itself and shares nothing with the script that makes calendars.bin, so that a mistake there
is a difference here. Needs the packages of policies/calendar/data/requirements.txt:

    target/calendars/python/bin/python tests/markets/reference.py
"""

import pathlib
import zoneinfo

# The pinned tzdata and not the machine's.
zoneinfo.reset_tzpath(to=())

import exchange_calendars  # noqa: E402
import pandas  # noqa: E402
from exchange_calendars import calendar_utils  # noqa: E402

FIRST = pandas.Timestamp("2000-01-01")
LAST = pandas.Timestamp("2027-12-31")
# XKRX has a spurious late open on the last session that is asked for (4.13.2), so more are asked for.
OVERSHOOT = pandas.Timedelta(days=60)
MINUTE_NS = 60 * 10**9
OUT = pathlib.Path(__file__).resolve().parents[1] / "calendars.txt"
HEADER = """\
# What exchange_calendars 4.13.2 says of 2000 to 2027; made by markets/reference.py. Adjacent sessions are one interval.
# calendar, first day, last day, trading intervals, FNV-1a 64 of their bounds (minutes since 1970, 8 bytes, low first)
"""


def main():
    rows = [row(name) for name in sorted(exchange_calendars.get_calendar_names(include_aliases=False))]
    OUT.write_text(HEADER + "".join(f"{' '.join(map(str, fields))}\n" for fields in rows))
    print(f"{len(rows)} calendars, {sum(fields[3] for fields in rows)} intervals in {OUT.name}")


def row(name):
    factory = calendar_utils._default_calendar_factories[name]
    low, high = factory.bound_min(), factory.bound_max()
    first = FIRST if low is None else max(FIRST, low)
    last = LAST if high is None else min(LAST, high)
    end = LAST + OVERSHOOT if high is None else min(last + OVERSHOOT, high)
    calendar = factory(start=first, end=end)
    intervals = merged(calendar.schedule.loc[:last])
    digest = fnv1a(b"".join(bound.to_bytes(8, "little") for pair in intervals for bound in pair))
    return name, first.date(), last.date(), len(intervals), f"{digest:016x}"


def merged(schedule):
    intervals = []
    for opens, break_start, break_end, closes in schedule.itertuples(index=False):
        pieces = [(opens, closes)] if pandas.isna(break_start) else [(opens, break_start), (break_end, closes)]
        for start, end in ((minute(start), minute(end)) for start, end in pieces):
            if intervals and intervals[-1][1] == start:
                intervals[-1][1] = end
            else:
                intervals.append([start, end])
    return intervals


def minute(instant):
    number, rest = divmod(instant.value, MINUTE_NS)
    if rest:
        raise ValueError(f"{instant} is not on a whole minute")
    return number


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest


if __name__ == "__main__":
    main()
