#!/usr/bin/env python3
"""What an answer about a market costs: exchange_calendars, exchange-hours, the calendar crate, the component.

Each round measures the peers in Python once and then runs the program `bench`, which measures all that is in Rust; so
every way is measured once a round, in turn, and a machine whose speed drifts is unfair to none. Medians of the rounds,
and of the ratios of each round.

    just bench-market [--rounds 5] [--calls 100000] [--json]
"""

import argparse
import json
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import time

import exchange_calendars
import pandas

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARKETS = ["XNYS", "XBOM", "XTKS"]
FIRST, LAST = "2024-01-01", "2026-12-31"
NATIVE, COMPONENT = "session_at, native", "session-at, component"
PEER = "exchange-hours"
# Calls of a round; at some 10 µs each they take as long as a hundred thousand of the others.
PYTHON_CALLS = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100_000, help="of what is in Rust, a round")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/dist/bench")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each figure")
    arguments = parser.parse_args()
    if not arguments.program.is_file():
        sys.exit(f"{arguments.program} is not there: cargo build --profile dist --locked -p market-peers")
    peers = [peer for market in MARKETS for peer in peers_of(market)]
    figures: dict[tuple[str, str], dict] = {}
    for _ in range(arguments.rounds):
        for what, of, ask, minutes in peers:
            add(figures, {"what": what, "of": of, "unit": "ns", "goal": None, "median": nanoseconds(ask, minutes)})
        for figure in measured(arguments.program, arguments.calls):
            add(figures, figure)
    rows = [summary(figure) for figure in figures.values()]
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
    else:
        show(rows, arguments)


def peers_of(market: str) -> list:
    """What is asked of exchange_calendars, its calendar being there and warm."""
    calendar = exchange_calendars.get_calendar(market, start="2020-01-01", end=LAST)
    first, last = (int(pandas.Timestamp(day, tz="UTC").timestamp()) // 60 for day in (FIRST, LAST))
    draw = random.Random(market)
    drawn = [pandas.Timestamp(draw.randrange(first, last) * 60, unit="s", tz="UTC") for _ in range(PYTHON_CALLS)]
    # It refuses what is after its last session, and there is no next opening after the last.
    minutes = [minute for minute in drawn if minute < calendar.opens.iloc[-1]]
    asked = [
        ("is_open_on_minute, exchange_calendars", calendar.is_open_on_minute),
        ("… with _parse=False", lambda minute: calendar.is_open_on_minute(minute, _parse=False)),
        ("next_open, exchange_calendars", calendar.next_open),
    ]
    for _, ask in asked:
        ask(minutes[0])
    return [(what, market, ask, minutes) for what, ask in asked]


def nanoseconds(ask, minutes: list) -> float:
    begun = time.perf_counter_ns()
    for minute in minutes:
        ask(minute)
    return (time.perf_counter_ns() - begun) / len(minutes)


def measured(program: pathlib.Path, calls: int) -> list[dict]:
    """One round of all that is in Rust."""
    command = [program, "--rounds", "1", "--calls", str(calls), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{program} failed: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def add(figures: dict, figure: dict) -> None:
    known = figures.setdefault((figure["what"], figure["of"]), {**figure, "values": []})
    known["values"].append(figure["median"])


def summary(figure: dict) -> dict:
    values = figure["values"]
    kept = {name: figure[name] for name in ("what", "of", "unit", "goal")}
    return {**kept, "median": statistics.median(values), "low": min(values), "high": max(values), "values": values}


def show(rows: list[dict], arguments: argparse.Namespace) -> None:
    native = {row["of"]: row["values"] for row in rows if row["what"] == NATIVE}
    component = {row["of"]: row["values"] for row in rows if row["what"] == COMPONENT}
    print(f"{arguments.rounds} rounds, {platform.machine()}; random instants {FIRST} to {LAST}")
    print(f"exchange_calendars {exchange_calendars.__version__} on pandas {pandas.__version__} and Python", end=" ")
    print(f"{platform.python_version()}; exchange-hours 1.3.0\n")
    print(f"{'':<43}{'':<16}{'median':>10}     {'low to high':<22}{'× native':>9}{'× component':>13}  goal")
    # Answers market by market, then what is measured once.
    for row in sorted(rows, key=lambda row: (row["unit"] != "ns", row["of"] if row["unit"] == "ns" else "")):
        spread = f"{row['low']:.1f} to {row['high']:.1f}"
        ratios = ""
        if row["unit"] == "ns":
            ratios = f"{ratio(row, native):>9}{ratio(row, component):>13}"
        figures = f"{row['median']:>10.1f} {row['unit']:<4}{spread:<22}{ratios:<22}"
        print(f"{row['what']:<43}{row['of']:<16}{figures}  {goal(row)}".rstrip())
    print("\n× native, × component: how many times as long as session_at of the same market; it answers is-open and")
    print("next-open in one. The component has no memory of earlier answers here; the host would keep one per market.")
    answered = {row["of"] for row in rows if row["what"].endswith(PEER)}
    refused = [market for market in MARKETS if market not in answered]
    if refused:
        print(f"{PEER} refuses to answer for {', '.join(refused)}: it has no holidays there.")
    print("Memory is the growth of the process's resident memory; a worker has one instance.")


def ratio(row: dict, ours: dict) -> str:
    if row["of"] not in ours:
        return ""
    return f"{statistics.median(one / our for one, our in zip(row['values'], ours[row['of']], strict=True)):.1f}"


def goal(row: dict) -> str:
    if row["goal"] is None:
        return ""
    return f"at most {row['goal']:g} {row['unit']}: {'met' if row['median'] <= row['goal'] else 'MISSED'}"


if __name__ == "__main__":
    main()
