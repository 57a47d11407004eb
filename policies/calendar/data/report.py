"""Writes where the calendars and two others disagree, for a person to review: no difference is ever applied.

    python report.py DATA --dump PROGRAM --out report.md

The others are pandas_market_calendars (its own calendars, not those that it takes from exchange_calendars) and the
crate exchange-hours, which the program `dump` of tests/markets asks. Compared is when each trades, from 2010 to the end
of next year; a closing auction may be trading to them or not, a break is not. Needs requirements.txt and requirements-report.txt.
"""

import argparse
import datetime
import importlib.metadata
import pathlib
import subprocess
import sys
import warnings

import pandas_market_calendars

from diff import WEEKDAYS, Dump, fold

FIRST = datetime.date(2010, 1, 1)
# Their names of markets that both have. Futures are left out: a calendar there is one product family.
PANDAS = {
    "BVMF": "BMF",
    "XASX": "ASX",
    "XBOM": "BSE",
    "XEUR": "EUREX",
    "XHKG": "HKEX",
    "XLON": "LSE",
    "XNSE": "NSE",
    "XNYS": "NYSE",
    "XOSL": "OSE",
    "XSHG": "SSE",
    "XSWX": "SIX",
    "XTAE": "TASE",
    "XTKS": "JPX",
    "XTSE": "TSX",
}
KINDS = ["they open, we closed", "we open, they closed", "other hours"]
TRADING = ("open", "closing-auction")
CONTINUOUS = ("open",)
UNKNOWN = "unknown"
# A peer whose hours are another idea of the same market would otherwise fill the page.
LINES_MAX = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="calendars.bin")
    parser.add_argument("--dump", default="target/debug/dump", help="the program that reads data files")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    last = datetime.date(datetime.date.today().year + 1, 12, 31)
    ours = dump(arguments.dump, arguments.data, last)
    crate = dump(arguments.dump, "exchange-hours", last)
    # A market of which a version of the data does not know is not compared.
    peers = [("exchange-hours", market, trading(crate.days[market])) for market in crate.days if market in ours.markets]
    for market, name in PANDAS.items():
        if market in ours.markets:
            peers.append(("pandas_market_calendars", market, of_pandas(name, ours.markets[market]["zone"], last)))
    peers.sort(key=lambda row: (row[1], row[0]))
    compared = [compare(ours, peer, market, days, last) for peer, market, days in peers]
    arguments.out.write_text("\n".join(page(ours.version, last, compared)) + "\n")
    counts = [sum(len(venue["found"][kind]) for venue in compared) for kind in KINDS]
    told = ", ".join(f"{kind}: {count}" for kind, count in zip(KINDS, counts, strict=True))
    print(f"{arguments.out}: {len(compared)} venues, days with {told}")


def dump(program, source, last):
    done = subprocess.run([program, source, str(FIRST), str(last)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr.strip())
    return Dump(done.stdout)


def of_pandas(name, zone, last):
    with warnings.catch_warnings():
        # It warns of every calendar that once had a break.
        warnings.simplefilter("ignore")
        calendar = pandas_market_calendars.get_calendar(name)
        schedule = calendar.schedule(str(FIRST), str(last), tz=zone)
    days = {}
    for row in schedule.to_dict("records"):
        opens, closes = row["market_open"], row["market_close"]
        pieces = [(opens, closes)]
        # NaT is not equal to itself.
        if row.get("break_start") == row.get("break_start") is not None:
            pieces = [(opens, row["break_start"]), (row["break_end"], closes)]
        days[opens.date()] = " ".join(f"{start:%H:%M}-{end:%H:%M}" for start, end in pieces)
    return days


def trading(days, phases=TRADING):
    """Only the hours in which a market trades; phases that touch are one."""
    result = {}
    for day, text in days.items():
        if text == UNKNOWN:
            result[day] = UNKNOWN
            continue
        fields = text.split(" ")
        spans = []
        for phase, span in zip(fields[::2], fields[1::2], strict=True):
            start, end = span.split("-")
            if phase in phases and spans and spans[-1][1] == start:
                spans[-1][1] = end
            elif phase in phases:
                spans.append([start, end])
        if spans:
            result[day] = " ".join("-".join(span) for span in spans)
    return result


def compare(ours, peer, market, theirs, last):
    first = max(FIRST, ours.bound(market, "from"))
    last = min(last, ours.bound(market, "to"))
    mine, without_auctions = trading(ours.days[market]), trading(ours.days[market], CONTINUOUS)
    found = {kind: {} for kind in KINDS}
    days = unknown = 0
    for number in range((last - first).days + 1):
        day = first + datetime.timedelta(days=number)
        we, they = mine.get(day), theirs.get(day)
        if they == UNKNOWN:
            unknown += 1
            continue
        days += 1
        if they not in (we, without_auctions.get(day)):
            kind = KINDS[0] if we is None else KINDS[1] if they is None else KINDS[2]
            found[kind][day] = (we, they)
    return {"peer": peer, "market": market, "days": days, "unknown": unknown, "found": found, "mine": mine}


def page(version, last, compared):
    pandas_version = importlib.metadata.version("pandas_market_calendars")
    yield "# Where the calendars and others disagree"
    yield ""
    yield f"Data {version}; pandas_market_calendars {pandas_version} and exchange-hours 1.3.0; {FIRST} to {last}."
    yield "For a person to review. Nothing of it is applied: who is right is found out from the exchange."
    yield ""
    yield "| market | compared with | days | not answered | " + " | ".join(KINDS) + " |"
    yield "|---|---|---|---|---|---|---|"
    for venue in compared:
        counts = " | ".join(str(len(venue["found"][kind])) for kind in KINDS)
        yield f"| {venue['market']} | {venue['peer']} | {venue['days']} | {venue['unknown']} | {counts} |"
    for venue in compared:
        if any(venue["found"].values()):
            yield ""
            yield f"## {venue['market']}, {venue['peer']}"
            for kind in KINDS:
                yield from section(kind, venue)


def section(kind, venue):
    groups = {}
    for day, hours in venue["found"][kind].items():
        groups.setdefault(hours, []).append(day)
    if not groups:
        return
    yield f"- {kind}: {len(venue['found'][kind])}"
    lines = []
    for (we, they), days in groups.items():
        # Holidays are told one by one: that all Tuesdays that are holidays differ says nothing.
        could = (lambda day, we=we: venue["mine"].get(day) == we) if kind == KINDS[2] else (lambda day: True)
        texts = [span(run) for run in fold(days, could)]
        hours = " / ".join(filter(None, [we and f"we {we}", they and f"they {they}"]))
        lines.append((days[0], f"  - {hours}: {', '.join(texts)}"))
    lines.sort()
    yield from (line for _, line in lines[:LINES_MAX])
    if len(lines) > LINES_MAX:
        yield f"  - and {len(lines) - LINES_MAX} more, from {lines[LINES_MAX][0]} on"


def span(run):
    if len(run) == 1:
        return f"{run[0]:%a %Y-%m-%d}"
    weekdays = sorted({day.weekday() for day in run})
    names = "Monday to Friday" if weekdays == [0, 1, 2, 3, 4] else ", ".join(WEEKDAYS[day] for day in weekdays)
    return f"{run[0]} to {run[-1]} ({names}; {len(run)} days)"


if __name__ == "__main__":
    main()
