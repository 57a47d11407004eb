"""Writes calendars.bin and ../tests/reference.txt from exchange_calendars, markets.toml and phases.toml.

The layout of calendars.bin is described in ../src/data.rs. The same inputs (requirements.txt) give the same bytes.
reference.txt is made from the reference's own sessions, before anything is encoded, so that the tests compare the
decoder with the source and not with this script.

    python3 -m venv "$VENV" && "$VENV/bin/pip" install -r requirements.txt
    "$VENV/bin/python" generate.py
"""

import datetime
import importlib.metadata
import pathlib
import sys
import tomllib
import zoneinfo

# The pinned tzdata and not the machine's: both the reference and the offset tables below read it.
zoneinfo.reset_tzpath(to=())

import exchange_calendars  # noqa: E402
import pandas  # noqa: E402
from exchange_calendars import calendar_utils  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MAGIC = b"BWCAL"
FORMAT = 1
PHASES = ["closed", "pre-open", "open", "break", "closing-auction", "post-close", "halted"]
DAY_MINUTES = 1440
EPOCH = datetime.date(1970, 1, 1)
UTC = datetime.timezone.utc
# The reference gives XKRX a spurious late open on the last session it is asked for, so it is asked for more.
OVERSHOOT = pandas.Timedelta(days=60)
# A closure list that stops shows as a year with far fewer closures than those before it.
CLOSURES_SHARE_MIN = 0.7


def main():
    check_versions()
    with open(HERE / "markets.toml", "rb") as file:
        markets = tomllib.load(file)
    with open(HERE / "phases.toml", "rb") as file:
        phases = tomllib.load(file)["phase"]
    check_names(markets, phases)

    calendars = [reference_calendar(name, markets) for name in exchange_calendars.get_calendar_names(False)]
    calendars.sort(key=lambda calendar: calendar["name"])
    reference = "".join(reference_line(calendar) for calendar in calendars)
    for calendar in calendars:
        warn_of_thin_years(calendar)
        add_phases(calendar, [row for row in phases if row["calendar"] == calendar["name"]])

    data = encode(markets, calendars)
    (HERE / "calendars.bin").write_bytes(data)
    header = "# calendar, first day, last day, trading intervals, FNV-1a 64 of their bounds (see reference.rs)\n"
    (HERE / "../tests/reference.txt").write_text(header + reference)
    print(f"{len(calendars)} calendars, {len(markets['market'])} markets, {len(data)} bytes")


def check_versions():
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, wanted = line.split("==")
        found = importlib.metadata.version(name)
        if found != wanted:
            sys.exit(f"{name} is {found}; requirements.txt pins {wanted}")


def check_names(markets, phases):
    known = set(exchange_calendars.get_calendar_names(False))
    names = [name for row in markets["market"] for name in [row["name"], *row.get("aliases", [])]]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        sys.exit(f"markets.toml names these more than once: {doubles}")
    used = {row.get("calendar", row["name"]) for row in markets["market"]}
    if used != known:
        sys.exit(f"markets.toml and the reference have different calendars: {sorted(used ^ known)}")
    named = {row["name"] for row in markets["calendar"]} | {row["calendar"] for row in phases}
    if not named <= known:
        sys.exit(f"no such calendars: {sorted(named - known)}")


# === the reference ===


def reference_calendar(name, markets):
    """One calendar's days as {day number: [(phase, start, end)]}, in minutes of the market's clock from midnight."""
    row = next((row for row in markets["calendar"] if row["name"] == name), {})
    factory = calendar_utils._default_calendar_factories[name]
    first = latest(markets["first"], factory.bound_min())
    last = earliest(row.get("last", markets["last"]), factory.bound_max())
    end = pandas.Timestamp(last) + OVERSHOOT
    if factory.bound_max() is not None:
        end = min(end, factory.bound_max())
    schedule = factory(start=pandas.Timestamp(first), end=end).schedule
    calendar = {
        "name": name,
        "zone": factory.tz.key,
        "first": first,
        "last": last,
        "published_to": min(last, row.get("published-to", markets["published-to"])),
        "days": {},
        "intervals": [],
    }
    clock = zoneinfo.ZoneInfo(calendar["zone"])
    for label, opens, break_start, break_end, closes in schedule.itertuples():
        if label.date() > last:
            break
        pieces = [("open", opens, closes)]
        if not pandas.isna(break_start):
            pieces = [("open", opens, break_start), ("break", break_start, break_end), ("open", break_end, closes)]
        day = (label.date() - EPOCH).days
        calendar["days"][day] = [
            (phase, local_minute(start, clock, day), local_minute(end, clock, day)) for phase, start, end in pieces
        ]
        for phase, start, end in pieces:
            if phase == "open":
                append_merged(calendar["intervals"], utc_minute(start), utc_minute(end))
    return calendar


def latest(day, bound):
    return day if bound is None else max(day, bound.date())


def earliest(day, bound):
    return day if bound is None else min(day, bound.date())


def utc_minute(instant):
    seconds, rest = divmod(instant.value, 60 * 10**9)
    if rest:
        raise ValueError(f"{instant} is not on a whole minute")
    return seconds


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


def reference_line(calendar):
    digest = fnv1a(b"".join(bound.to_bytes(8, "little") for pair in calendar["intervals"] for bound in pair))
    count = len(calendar["intervals"])
    return f"{calendar['name']} {calendar['first']} {calendar['last']} {count} {digest:016x}\n"


def warn_of_thin_years(calendar):
    """Prints the years without the closures that the ten years before them lead to expect."""
    closures = {}
    weekdays = {(day + 3) % 7 for day in calendar["days"] if day > (calendar["last"] - EPOCH).days - 400}
    for day in range((calendar["first"] - EPOCH).days, (calendar["last"] - EPOCH).days + 1):
        if (day + 3) % 7 in weekdays and day not in calendar["days"]:
            year = (EPOCH + datetime.timedelta(days=day)).year
            closures[year] = closures.get(year, 0) + 1
    for year in range(2024, calendar["last"].year + 1):
        before = [closures.get(past, 0) for past in range(year - 10, year) if past >= calendar["first"].year]
        usual = sum(before) / max(len(before), 1)
        if closures.get(year, 0) < CLOSURES_SHARE_MIN * usual:
            print(f"note: {calendar['name']} has {closures.get(year, 0)} closures in {year}, usually {usual:.1f}")


# === the phases the reference does not have ===


def add_phases(calendar, rows):
    for row in rows:
        start, end, opens = (clock_minute(row[key]) for key in ("start", "end", "opens"))
        used = 0
        for day, spans in calendar["days"].items():
            if day < (row["from"] - EPOCH).days or spans[0][1] != opens:
                continue
            if end > opens:
                sys.exit(f"phases.toml: {row['calendar']} {row['start']} does not end before the market opens")
            spans.insert(0, (row["phase"], start, end))
            used += 1
        if not used:
            sys.exit(f"phases.toml: {row['calendar']} {row['start']} applies to no day")


def clock_minute(text):
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


# === the encoding ===


def encode(markets, calendars):
    profiles = number_profiles(calendars)
    tables = {calendar["zone"]: offset_table(calendar["zone"], markets) for calendar in calendars}
    distinct = sorted(set(tables.values()))
    sections = [
        unsigned(len(distinct)) + b"".join(sized(table) for table in distinct),
        unsigned(len(profiles)) + b"".join(encode_profile(profile) for profile in profiles),
        unsigned(len(calendars))
        + b"".join(sized(encode_calendar(c, profiles, distinct.index(tables[c["zone"]]))) for c in calendars),
        encode_markets(markets, [calendar["name"] for calendar in calendars]),
    ]
    notice = " ".join((HERE / "NOTICE").read_text().split())
    body = text(markets["data-version"]) + text(notice) + b"".join(map(sized, sections))
    return MAGIC + bytes([FORMAT]) + fnv1a(body).to_bytes(8, "little") + body


def number_profiles(calendars):
    """All daily profiles, the most frequent first so that most numbers take one byte. 0 is the closed day."""
    counts = {}
    for calendar in calendars:
        for spans in calendar["days"].values():
            counts[tuple(spans)] = counts.get(tuple(spans), 0) + 1
    return [()] + sorted(counts, key=lambda profile: (-counts[profile], profile))


def encode_profile(profile):
    out, cursor = unsigned(len(profile)), 0
    for phase, start, end in profile:
        out += unsigned(PHASES.index(phase)) + signed(start - cursor) + unsigned(end - start)
        cursor = end
    return out


def offset_table(zone, markets):
    """The zone's offsets from UTC in minutes: the first one, then the minute and the offset of each change."""
    clock = zoneinfo.ZoneInfo(zone)
    first = (markets["first"] - EPOCH).days * DAY_MINUTES - 7 * DAY_MINUTES
    last = (markets["last"] - EPOCH).days * DAY_MINUTES + 7 * DAY_MINUTES
    offset = offset_at(clock, first)
    out, count, cursor = b"", 0, 0
    for minute in range(first, last, DAY_MINUTES):
        if offset_at(clock, minute + DAY_MINUTES) == offset:
            continue
        low, high = minute, minute + DAY_MINUTES
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset_at(clock, middle) == offset else (low, middle)
        out += unsigned(high - cursor) + signed(offset_at(clock, high))
        offset, cursor, count = offset_at(clock, high), high, count + 1
    return signed(offset_at(clock, first)) + unsigned(count) + out


def offset_at(clock, minute):
    offset = datetime.datetime.fromtimestamp(minute * 60, clock).utcoffset()
    return offset // datetime.timedelta(minutes=1)


def encode_calendar(calendar, profiles, table):
    numbers = {profile: number for number, profile in enumerate(profiles)}
    first = (calendar["first"] - EPOCH).days
    end = (calendar["last"] - EPOCH).days + 1
    days = [numbers[tuple(calendar["days"].get(day, ()))] for day in range(first, end)]
    # A calendar whose sessions begin the day before also ends that much earlier: the next one is not known.
    day_start = min(0, min(spans[0][1] for spans in calendar["days"].values()))
    eras, usual = [], [0] * len(days)
    for weekday in range(7):
        offset = (weekday - first - 3) % 7
        for index, profile in zip(range(offset, len(days), 7), usual_profiles(days[offset::7])):
            usual[index] = profile
    current = [0] * 7
    for index, profile in enumerate(usual):
        weekday = (first + index + 3) % 7
        if current[weekday] != profile:
            eras.append((index, weekday, profile))
            current[weekday] = profile
    closed = [index for index, profile in enumerate(days) if profile == 0 and usual[index] != 0]
    special = [(index, profile) for index, profile in enumerate(days) if profile and usual[index] != profile]

    published = (calendar["published_to"] - calendar["first"]).days + 1
    out = text(calendar["zone"]) + unsigned(table) + signed(day_start) + unsigned(first) + unsigned(len(days))
    out += unsigned(published) + unsigned(len(eras))
    for (index, weekday, profile), step in zip(eras, steps([era[0] for era in eras])):
        out += unsigned(step * 7 + weekday) + unsigned(profile)
    out += unsigned(len(closed)) + b"".join(map(unsigned, steps(closed)))
    out += unsigned(len(special))
    for (_, profile), step in zip(special, steps([index for index, _ in special])):
        out += unsigned(step) + unsigned(profile)
    return out


def usual_profiles(days):
    """The cheapest usual profile of each week: the bytes of new eras against the bytes of exceptions."""
    era_bytes, closed_bytes, special_bytes = 3.1, 1.2, 2.4
    candidates = sorted(set(days) | {0})
    costs = {profile: (0.0 if profile == 0 else era_bytes) for profile in candidates}
    choices = []
    for day in days:
        best = min(candidates, key=lambda profile: costs[profile])
        stay, step = {}, {}
        for profile in candidates:
            changed = costs[best] + era_bytes
            stay[profile] = profile if costs[profile] <= changed else best
            miss = 0.0 if profile == day else closed_bytes if day == 0 else special_bytes
            step[profile] = min(costs[profile], changed) + miss
        costs = step
        choices.append(stay)
    profile = min(candidates, key=lambda profile: costs[profile])
    usual = []
    for stay in reversed(choices):
        usual.append(profile)
        profile = stay[profile]
    return usual[::-1]


def encode_markets(markets, names):
    rows = sorted(markets["market"], key=lambda row: row["name"].encode())
    out = unsigned(len(rows))
    for row in rows:
        aliases = sorted(row.get("aliases", []))
        out += text(row["name"]) + text(row["title"]) + unsigned(len(aliases)) + b"".join(map(text, aliases))
        out += unsigned(names.index(row.get("calendar", row["name"])))
    return out


def steps(numbers):
    return [number - before for number, before in zip(numbers, [0, *numbers])]


def unsigned(number):
    """LEB128: seven bits a byte, the lowest first."""
    if number < 0:
        raise ValueError(f"{number} is negative")
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def signed(number):
    """Zigzag: small numbers of either sign stay small."""
    return unsigned(number * 2 if number >= 0 else -number * 2 - 1)


def text(value):
    return sized(value.encode())


def sized(value):
    return unsigned(len(value)) + value


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest


if __name__ == "__main__":
    main()
