"""Writes calendars.bin and ../tests/reference.txt from exchange_calendars and the four TOML files beside it.

markets.toml names the markets and how far each is known, hours.toml and overlay.toml lie over the reference. The same
inputs (requirements.txt) give the same bytes. reference.txt is made from the reference's own sessions, before anything
is encoded, so that the tests compare the decoder with the source and not with this script.

    python3 -m venv "$VENV" && "$VENV/bin/pip" install -r requirements.txt
    "$VENV/bin/python" generate.py
"""

import datetime
import importlib.metadata
import pathlib
import sys
import tomllib

import reference
from encoding import encode, fnv1a
from layers import EPOCH, WEEKDAYS, lay_over, parse_profile

HERE = pathlib.Path(__file__).resolve().parent


def main():
    versions = check_versions()
    markets, hours, facts = (read(name) for name in ("markets.toml", "hours.toml", "overlay.toml"))
    check_names(markets, hours, facts)
    calendars = [reference.calendar(name, markets["first"], markets["last"]) for name in reference.names()]
    calendars.sort(key=lambda calendar: calendar["name"])
    reference_lines = "".join(reference_line(calendar) for calendar in calendars)
    for note in (note for calendar in calendars for note in reference.thin_years(calendar)):
        print(f"note: {note}")
    calendars += [own_calendar(row) for row in markets["calendar"]]
    for calendar in calendars:
        calendar["published-to"] = markets["published-to"]
        calendar["usual"] = usual_days(calendar)
    rows = sorted(markets["market"], key=lambda row: row["name"].encode())
    data = encode(
        {
            "version": markets["data-version"],
            "notice": markets["notice"],
            "reference": f"exchange_calendars {versions['exchange_calendars']}",
            "first": markets["first"],
            "last": markets["last"],
            "calendars": calendars,
            "markets": [market(row, markets, calendars, hours["hours"], facts["fact"]) for row in rows],
        }
    )
    (HERE / "calendars.bin").write_bytes(data)
    header = "# calendar, first day, last day, trading intervals, FNV-1a 64 of their bounds (see reference.rs)\n"
    (HERE / "../tests/reference.txt").write_text(header + reference_lines)
    print(f"{len(calendars)} calendars, {len(rows)} markets, {len(facts['fact'])} facts, {len(data)} bytes")


def read(name):
    with open(HERE / name, "rb") as file:
        return tomllib.load(file)


def check_versions():
    versions = {}
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, wanted = line.split("==")
        versions[name] = importlib.metadata.version(name)
        if versions[name] != wanted:
            sys.exit(f"{name} is {versions[name]}; requirements.txt pins {wanted}")
    return versions


def check_names(markets, hours, facts):
    own = {row["name"] for row in markets["calendar"]}
    known = set(reference.names()) | own
    names = [name for row in markets["market"] for name in [row["name"], *row.get("aliases", [])]]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        sys.exit(f"markets.toml names these more than once: {doubles}")
    used = {row.get("calendar", row["name"]) for row in markets["market"]}
    if used != known:
        sys.exit(f"markets.toml and the calendars differ: {sorted(used ^ known)}")
    market_names = {row["name"] for row in markets["market"]}
    for row in hours["hours"] + facts["fact"]:
        if set(row["markets"]) - market_names:
            sys.exit(f"no such markets: {sorted(set(row['markets']) - market_names)} ({row['source']})")


def reference_line(calendar):
    digest = fnv1a(b"".join(bound.to_bytes(8, "little") for pair in calendar["intervals"] for bound in pair))
    count = len(calendar["intervals"])
    return f"{calendar['name']} {calendar['first']} {calendar['last']} {count} {digest:016x}\n"


def own_calendar(row):
    """A calendar that the reference does not have: every week the same."""
    week = {name: parse_profile(spans, {"markets": row["name"]}) for name, spans in row["week"].items()}
    first, last = (row["first"] - EPOCH).days, (row["last"] - EPOCH).days
    days = {day: week[WEEKDAYS[(day + 3) % 7]] for day in range(first, last + 1) if WEEKDAYS[(day + 3) % 7] in week}
    return {"name": row["name"], "zone": row["zone"], "first": row["first"], "last": row["last"], "days": days}


def market(row, markets, calendars, hours_rows, fact_rows):
    name = row["name"]
    calendar = next(calendar for calendar in calendars if calendar["name"] == row.get("calendar", name))
    first, last = max(row.get("from", calendar["first"]), calendar["first"]), min(row.get("last", calendar["last"]), calendar["last"])
    numbers = range((first - EPOCH).days, (last - EPOCH).days + 1)
    days = {day: calendar["days"].get(day, ()) for day in numbers}
    usual = {day: calendar["usual"][day] for day in numbers}
    layer = lay_over(
        row,
        days,
        usual,
        [hours for hours in hours_rows if name in hours["markets"]],
        [fact for fact in fact_rows if name in fact["markets"]],
    )
    return {
        "name": name,
        "title": row["title"],
        "aliases": row.get("aliases", []),
        "calendar": calendar["name"],
        "own": row.get("own", False),
        "first": first,
        "last": last,
        "published-to": min(last, row.get("published-to", markets["published-to"])),
        "layer": layer,
    }


def usual_days(calendar):
    """What the weekday of each day usually is at the time."""
    first, end = (calendar["first"] - EPOCH).days, (calendar["last"] - EPOCH).days + 1
    usual = {}
    for weekday in range(7):
        numbers = range(first + (weekday - first - 3) % 7, end, 7)
        profiles = usual_profiles([calendar["days"].get(day, ()) for day in numbers])
        usual.update(zip(numbers, profiles))
    return usual


def usual_profiles(days):
    """The cheapest usual profile of each week: the bytes of new eras against the bytes of exceptions."""
    era_bytes, closed_bytes, special_bytes = 3.1, 1.2, 2.4
    candidates = sorted(set(days) | {()})
    costs = {profile: (era_bytes if profile else 0.0) for profile in candidates}
    choices = []
    for day in days:
        best = min(candidates, key=lambda profile: costs[profile])
        stay, step = {}, {}
        for profile in candidates:
            changed = costs[best] + era_bytes
            stay[profile] = profile if costs[profile] <= changed else best
            miss = 0.0 if profile == day else special_bytes if day else closed_bytes
            step[profile] = min(costs[profile], changed) + miss
        costs = step
        choices.append(stay)
    profile = min(candidates, key=lambda profile: costs[profile])
    usual = []
    for stay in reversed(choices):
        usual.append(profile)
        profile = stay[profile]
    return usual[::-1]


if __name__ == "__main__":
    main()
