"""Says in words what is different between two calendar data files: which market, which days, how, by whose word.

    python3 diff.py OLD NEW --dump PROGRAM

OLD and NEW are data files (calendars.bin) or what the program `dump` of tests/markets wrote of one. Sources are looked
up in overlay.toml and hours.toml beside this script, where those are. Equal changes one after another are one line.
"""

import argparse
import datetime
import pathlib
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
DAY = datetime.timedelta(days=1)
# Fewer equal changes are told day by day.
FOLDED_MIN = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("--dump", default="target/debug/dump", help="the program that reads data files")
    arguments = parser.parse_args()
    old, new = (Dump(read(path, arguments.dump)) for path in (arguments.old, arguments.new))
    lines = list(differences(old, new, Sources(HERE)))
    same_bytes = arguments.old.read_bytes() == arguments.new.read_bytes()
    if not lines:
        print("Nothing changed." if same_bytes else "No day changed; the bytes did.")
    for line in lines:
        print(line)
    if lines and old.version == new.version:
        print(f"The data version is still {new.version}: name a new one in markets.toml.")


class Dump:
    """What `dump` says: each market's days, as text, and what is known of its data."""

    def __init__(self, text):
        self.version = ""
        self.markets = {}
        self.days = {}
        for line in text.splitlines():
            fields = line.split(" ")
            if fields[:2] == ["#", "data-version"]:
                self.version = fields[2]
            elif fields[0] == "#":
                about = dict(zip(fields[2::2], fields[3::2], strict=True))
                self.markets[fields[1]] = about
                self.days.setdefault(fields[1], {})
            else:
                day = datetime.date.fromisoformat(fields[1])
                self.days.setdefault(fields[0], {})[day] = " ".join(fields[2:])

    def bound(self, market, which):
        return datetime.date.fromisoformat(self.markets[market][which])


class Sources:
    """Who says so: the rows of the cited facts."""

    def __init__(self, folder):
        self.facts = {}
        self.hours = rows(folder / "hours.toml", "hours")
        for row in rows(folder / "overlay.toml", "fact"):
            for market in row["markets"]:
                for day in row.get("dates", [row.get("date")]):
                    self.facts[market, day] = row["source"]

    def of(self, market, day, was, now):
        """The source of a day's new hours. None: they are the reference's."""
        if (market, day) in self.facts:
            return self.facts[market, day]
        for row in reversed(self.hours):
            if market in row["markets"] and row["from"] <= day <= row.get("to", day):
                added = "add" in row and row["add"] in (now or "") and row["add"] not in (was or "")
                if added or ("phases" in row and " ".join(row["phases"]) == now):
                    return row["source"]
        return None


def read(path, dump):
    if path.read_bytes().startswith(b"# data-version"):
        return path.read_text()
    done = subprocess.run([dump, path], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stderr.strip()}\nInstead of {path}, give the dump of it by the version it was made for")
    return done.stdout


def rows(path, table):
    return tomllib.loads(path.read_text()).get(table, []) if path.is_file() else []


def differences(old, new, sources):
    if old.version != new.version:
        yield f"data version {new.version} (was {old.version})"
    for market in sorted(old.markets.keys() | new.markets.keys()):
        lines = list(of_market(market, old, new, sources))
        if lines:
            yield f"{market}"
            yield from (f"  {line}" for line in lines)


def of_market(market, old, new, sources):
    if market not in old.markets:
        bounds = f"{new.bound(market, 'from')} to {new.bound(market, 'to')}"
        yield f"new market, {len(new.days[market])} days from {bounds}"
        return
    if market not in new.markets:
        yield "market gone"
        return
    before, after = old.markets[market], new.markets[market]
    names = {"from": "known from", "published-to": "published to", "to": "known to", "zone": "clock of"}
    for key, name in names.items():
        if before[key] != after[key]:
            yield f"{name} {after[key]} (was {before[key]})"
    if before["aliases"] != after["aliases"]:
        yield f"also called {after['aliases'] or 'nothing else'} (was {before['aliases'] or 'nothing else'})"
    first = max(old.bound(market, "from"), new.bound(market, "from"))
    last = min(old.bound(market, "to"), new.bound(market, "to"))
    changes = {}
    for day in sorted(old.days[market].keys() | new.days[market].keys()):
        was, now = old.days[market].get(day), new.days[market].get(day)
        if was != now and first <= day <= last:
            changes.setdefault((was, now), []).append(day)
    told = []
    for (was, now), days in changes.items():
        # A day that was closed is nothing that could have stayed as it was.
        could = (lambda day: True) if was is None else (lambda day, was=was: old.days[market].get(day) == was)
        for run in fold(days, could):
            source = sources.of(market, run[0], was, now)
            by = f"; source: {source}" if source else ""
            told.append((run[0], f"{when(run, last)} now {hours(now)} (was {hours(was)}){by}"))
    yield from (line for _, line in sorted(told))


def fold(days, could):
    """Runs of days: all days of the same weekdays that could have changed between the first and the last did."""
    together = runs(days, could)
    apart = [run for weekday in range(7) for run in runs([day for day in days if day.weekday() == weekday], could)]
    folded = together if len(together) <= len(apart) else apart
    for run in folded:
        if len(run) >= FOLDED_MIN:
            yield run
        else:
            yield from ([day] for day in run)


def runs(days, could):
    weekdays = {day.weekday() for day in days}
    found = []
    for day in days:
        skipped = days_between(found[-1][-1], day) if found else []
        if found and not any(between.weekday() in weekdays and could(between) for between in skipped):
            found[-1].append(day)
        else:
            found.append([day])
    return found


def days_between(one, other):
    day = one + DAY
    while day < other:
        yield day
        day += DAY


def when(run, last):
    if len(run) == 1:
        return f"{run[0]:%a %Y-%m-%d}"
    weekdays = sorted({day.weekday() for day in run})
    if run[-1] - run[0] < datetime.timedelta(days=7):
        return f"{run[0]:%a %Y-%m-%d} to {run[-1]:%a %Y-%m-%d} ({len(run)} days):"
    names = "day from Monday to Friday" if weekdays == [0, 1, 2, 3, 4] else ", ".join(WEEKDAYS[day] for day in weekdays)
    # A change that holds for as long as there is data has no end that means anything.
    end = "on" if (last - run[-1]).days < 14 else f"to {run[-1]}"
    return f"every {names} from {run[0]} {end} ({len(run)} days):"


def hours(text):
    return "closed" if text is None else text.replace("-*", " to the end of the data")


if __name__ == "__main__":
    main()
