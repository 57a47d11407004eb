"""What lies over the reference: hours.toml, from a day on, and overlay.toml, facts about single days.

Both are read row by row; a row that changes nothing, or says of a day what it cannot be, ends the run with its name.
"""

import datetime
import sys

PHASES = ["closed", "pre-open", "open", "break", "closing-auction", "post-close", "halted"]
EPOCH = datetime.date(1970, 1, 1)
DAY_MINUTES = 1440
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
HOUR = datetime.timedelta(hours=1)
EPOCH_INSTANT = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def lay_over(market, days, usual, hours_rows, fact_rows):
    """A market's layer: what its days become, as rules and facts in terms of daily profiles.

    `days` and `usual` map each of the market's day numbers to a profile: what it is, and what its weekday usually is.
    """
    layer = {"hours": [], "facts": []}
    single = {}
    for row in hours_rows:
        if row["from"] == row.get("to"):
            single.update(hours_of_a_day(market, days, row))
        else:
            layer["hours"] += hours_rules(market, days, usual, row, layer["hours"])
    for day, row in single.items():
        known = known_hour({"known": row.get("known", row["from"])})
        layer["facts"].append((day, known, days[day], row.get("note", ""), row["source"]))
    beliefs, said = dict(days), []
    for row in fact_rows:
        for date in row.get("dates", [row.get("date")]):
            day = (date - EPOCH).days
            if day < min(days):
                continue
            if day not in days:
                fail(row, f"{date} is past the last day of {market['name']}")
            said.append((day, known_hour(row), fact_profile(row, days[day], usual[day]), row))
    said.sort(key=lambda fact: fact[:2])
    for day, known, profile, row in said:
        if beliefs.get(day) is not None:
            before = belief(row, profile, days[day], usual[day])
            if before != days[day]:
                layer["facts"].append((day, 0, before, "", ""))
            beliefs[day] = None
        layer["facts"].append((day, known, profile, row["note"], row["source"]))
        days[day] = profile
    layer["facts"].sort(key=lambda fact: fact[:2])
    return layer


def hours_of_a_day(market, days, row):
    """A row of one day leaves the weekday as it is: the day is a special one, and the row says why."""
    day = (row["from"] - EPOCH).days
    new = changed(row, days[day]) if day in days else None
    if new is None or new == days[day]:
        print(f"note: hours.toml: {market['name']} on {row['from']} ({row['source']}) applies to no day")
        return {}
    days[day] = new
    return {day: row}


def hours_rules(market, days, usual, row, earlier):
    first = max((row["from"] - EPOCH).days, min(days))
    last = min((row.get("to", datetime.date.max) - EPOCH).days, max(days))
    mask = sum(1 << WEEKDAYS.index(name) for name in row.get("weekdays", WEEKDAYS))
    changes = {}
    for day in range(first, last + 1):
        if not mask >> (day + 3) % 7 & 1:
            continue
        for profiles in (days, usual):
            old = profiles[day]
            new = changed(row, old)
            if new != old:
                changes[old] = new
                profiles[day] = new
    if not changes:
        print(f"note: hours.toml: {market['name']} from {row['from']} ({row['source']}) applies to no day")
    # Whoever does not know the earlier rows yet has what these changed.
    for _, their_mask, start, count, old, _ in earlier:
        if start <= last and first < start + count and mask & their_mask and changed(row, old) != old:
            if old not in changes.values():
                changes[old] = changed(row, old)
    if set(changes) & set(changes.values()):
        fail(row, "what one day becomes is what another was: the row would be applied twice")
    known = (row.get("known", row["from"]) - EPOCH).days
    return [(known, mask, first, last - first + 1, old, new) for old, new in sorted(changes.items())]


def changed(row, profile):
    trades = [(start, end) for phase, start, end in profile if phase == "open"]
    if "phases" in row:
        wanted = [tuple(parse_window(text)) for text in row["trades"]]
        return parse_profile(row["phases"], row) if trades == wanted else profile
    opens, closes = row.get("opens"), row.get("closes")
    if not trades or (opens and trades[0][0] != minute(opens)) or (closes and trades[-1][1] != minute(closes)):
        return profile
    return checked([*profile, parse_span(row["add"])], row)


def fact_profile(row, actual, usual):
    kinds = [key for key in ("closed", "usual", "sessions") if key in row]
    if len(kinds) != 1:
        fail(row, "takes exactly one of closed, usual, sessions")
    return {"closed": (), "usual": usual}.get(kinds[0]) if kinds[0] != "sessions" else parse_profile(row["sessions"], row)


def belief(row, profile, actual, usual):
    before = row.get("before", "reference")
    if isinstance(before, list):
        return parse_profile(before, row)
    if before == "reference" and profile == actual:
        fail(row, "the reference has this already; say what was believed before it was known")
    return {"closed": (), "usual": usual, "reference": actual}[before]


def known_hour(row):
    known = row["known"]
    if not isinstance(known, datetime.datetime):
        known = datetime.datetime.combine(known, datetime.time(), datetime.timezone.utc)
    return max(1, -(-(known - EPOCH_INSTANT) // HOUR))


def parse_profile(texts, row):
    return checked([parse_span(text) for text in texts], row)


def checked(spans, row):
    spans = sorted(spans, key=lambda span: span[1])
    for before, after in zip(spans, spans[1:]):
        if after[1] < before[2]:
            fail(row, f"{before} and {after} overlap")
    return tuple(spans)


def parse_span(text):
    """`open 09:15-15:30`, `open yesterday 17:00-16:00`, `open 18:00-tomorrow 02:00`."""
    phase, window = text.split(" ", 1)
    if phase not in PHASES or phase == "closed":
        sys.exit(f"{text!r}: the phases are {PHASES[1:]}")
    return (phase, *parse_window(window))


def parse_window(text):
    start, end = (minute(side) for side in text.split("-"))
    if start >= end:
        sys.exit(f"{text!r} ends before it starts")
    return start, end


def minute(text):
    days = {"yesterday": -1, "tomorrow": 1}
    word, _, clock = text.strip().rpartition(" ")
    hours, minutes = clock.split(":")
    return days.get(word, 0) * DAY_MINUTES + int(hours) * 60 + int(minutes)


def fail(row, message):
    sys.exit(f"{row['markets']} {row.get('date') or row.get('dates') or row.get('from')}: {message}")
